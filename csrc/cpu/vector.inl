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

// Folds a vector onto its lower half until one number is left; in registers.
template <class T, int N>
struct Fold {
    typedef T Whole __attribute__((vector_size(N * sizeof(T))));
    typedef T Half __attribute__((vector_size(N / 2 * sizeof(T))));
    static T sum(Whole v) {
        Half low, high;
        memcpy(&low, &v, sizeof low);
        memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
        return Fold<T, N / 2>::sum(low + high);
    }
    static T max(Whole v) {
        Half low, high;
        memcpy(&low, &v, sizeof low);
        memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
        return Fold<T, N / 2>::max(low > high ? low : high);
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
