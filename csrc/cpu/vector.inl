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

template <class T>
inline T sum(typename VectorOf<T>::type v) {
    T lane[VectorOf<T>::width];
    store(lane, v);
    for (int half = VectorOf<T>::width / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
}

}  // namespace
}  // namespace LEAD_FAST_ISA
}  // namespace lead_fast
