// Vectors of LEAD_FAST_WIDTH floats, or half as many doubles. Part of kernels.inl.

namespace lead_fast {
namespace LEAD_FAST_ISA {
namespace {

constexpr int W = LEAD_FAST_WIDTH;
typedef float Vec __attribute__((vector_size(4 * LEAD_FAST_WIDTH)));
typedef double Vec64 __attribute__((vector_size(4 * LEAD_FAST_WIDTH)));

// The vector of a number type, and how many numbers it holds.
template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    typedef Vec type;
    static constexpr int width = W;
};
template <>
struct VectorOf<double> {
    typedef Vec64 type;
    static constexpr int width = W / 2;
};

template <class T>
inline typename VectorOf<T>::type load(const T* p) {
    typename VectorOf<T>::type v;
    memcpy(&v, p, sizeof v);
    return v;
}

template <class T>
inline void store(T* p, typename VectorOf<T>::type v) {
    memcpy(p, &v, sizeof v);
}

template <class T>
inline typename VectorOf<T>::type splat(T a) {
    return a - typename VectorOf<T>::type{};
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LEAD_FAST_SHUFFLE 1
#endif
#endif

// 0, 1, ..., N - 1 as arguments of a template.
template <int... I>
struct Places {};
template <int N, int... I>
struct Range : Range<N - 1, N - 1, I...> {};
template <int... I>
struct Range<0, I...> {
    typedef Places<I...> type;
};

// Half a vector from element First on. GCC keeps shuffled halves in registers, copied ones not.
template <class Half, class Whole, int First, int... I>
inline Half half_of(Whole v, Places<I...>) {
#if defined(LEAD_FAST_SHUFFLE)
    return __builtin_shufflevector(v, v, (First + I)...);
#else
    Half half;
    memcpy(&half, reinterpret_cast<const char*>(&v) + First * sizeof(v[0]), sizeof half);
    return half;
#endif
}

// Folds a vector onto its lower half until one number is left.
template <class T, int N>
struct Fold {
    typedef T Whole __attribute__((vector_size(N * sizeof(T))));
    typedef T Half __attribute__((vector_size(N / 2 * sizeof(T))));
    typedef typename Range<N / 2>::type Lower;
    static Half low(Whole v) { return half_of<Half, Whole, 0>(v, Lower{}); }
    static Half high(Whole v) { return half_of<Half, Whole, N / 2>(v, Lower{}); }
    static T sum(Whole v) { return Fold<T, N / 2>::sum(low(v) + high(v)); }
    static T max(Whole v) {
        const Half a = low(v), b = high(v);
        return Fold<T, N / 2>::max(a > b ? a : b);
    }
};
template <class T>
struct Fold<T, 2> {
    typedef T Whole __attribute__((vector_size(2 * sizeof(T))));
    static T sum(Whole v) { return v[0] + v[1]; }
    static T max(Whole v) { return v[0] > v[1] ? v[0] : v[1]; }
};

template <class T>
inline T sum(typename VectorOf<T>::type v) {
    return Fold<T, VectorOf<T>::width>::sum(v);
}

template <class T>
inline T largest(typename VectorOf<T>::type v) {
    return Fold<T, VectorOf<T>::width>::max(v);
}

}  // namespace
}  // namespace LEAD_FAST_ISA
}  // namespace lead_fast
