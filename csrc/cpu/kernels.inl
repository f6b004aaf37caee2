// The inner loops of every operation, written once on vectors of LEAD_FAST_WIDTH floats and
// compiled once per instruction set (kernels_*.cpp). No standard library header may be included
// here: an inline function compiled for AVX-512 could otherwise be the copy that the linker keeps
// for all.

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

// clang-format off: each needs what stands above it.
#include "../half.h"
#include "simd.h"
#include "vector.inl"
#include "features.inl"
#include "svm.inl"
// clang-format on

namespace lead_fast {
namespace LEAD_FAST_ISA {
namespace {

void relu(float* z, const float* bias, int64_t n) {
    for (int64_t j = 0; j < n; ++j) {
        float v = z[j] + bias[j];
        z[j] = v > 0.0f ? v : 0.0f;
    }
}

void mask(float* signal, const float* source, const float* activation, int64_t n) {
    for (int64_t j = 0; j < n; ++j) signal[j] = activation[j] > 0.0f ? source[j] : 0.0f;
}

// exp(x) for -inf <= x <= 0 to about 2 ulp; below -700 it is 0. 2^n r with |r| <= ln 2 / 2, and a
// Taylor polynomial of degree 13 for r.
inline double exp_nonpositive(double x) {
    const double bounded = x > -700.0 ? x : -700.0;
    const double magic = 0x1.8p52;  // adding it rounds to an integer, in the low bits
    const double shifted = bounded * 1.4426950408889634074 + magic;
    const double n = shifted - magic;
    double r = bounded - n * 6.93147180369123816490e-01;
    r -= n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    int64_t bits;
    memcpy(&bits, &shifted, 8);
    bits = (bits + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return x > -700.0 ? p * power : 0.0;
}

double sum_exp(const double* p, int64_t n, double keep, double shift) {
    double total = 0.0;
    if (keep == 0.0) {  // 0 * -inf is no number: every finite entry counts exp(-shift)
        for (int64_t j = 0; j < n; ++j) total += p[j] > -INFINITY ? exp_nonpositive(-shift) : 0.0;
        return total;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; ++j) total += exp_nonpositive(keep * p[j] - shift);
    return total;
}

template <class T>
constexpr SvmKernels<T> svm_kernels() {
    return {dots<T>,        dots_lines<T, T>, update<T>,        dots_list<T, T>,  update_list<T, T>,
            solve_block<T>, inspect_block<T>, decode_frozen<T>, encode_frozen<T>, square_norm<T>};
}

#if defined(__AVX2__)
template <class X>
constexpr PackedKernels<X> packed_kernels() {
    return {dots_lines<float, X>, dots_list<float, X>, update_list<float, X>};
}
constexpr auto pack = pack_row;
#else
template <class X>
constexpr PackedKernels<X> packed_kernels() {
    return {nullptr, nullptr, nullptr};
}
constexpr float (*pack)(const float*, int64_t, int8_t*) = nullptr;
#endif

}  // namespace

extern const Kernels table;
const Kernels table = {
    LEAD_FAST_ISA_NAME,
    map_row,
    map_row_exact,
    widen_row,
    moments,
    svm_kernels<float>(),
    svm_kernels<double>(),
    pack,
    packed_kernels<Coarse>(),
    packed_kernels<Fine>(),
    relu,
    mask,
    sum_exp,
};

}  // namespace LEAD_FAST_ISA
}  // namespace lead_fast
