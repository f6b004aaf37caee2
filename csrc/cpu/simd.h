// The inner loops, compiled once for each instruction set and chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "../svm.h"
#include "../types.h"

namespace lead_fast {

// Widest vector of any instruction set, in floats: buffers are padded to it with zeros.
constexpr int kPad = 16;

constexpr std::int64_t padded(std::int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// Work of one dual block: `rows` samples whose mutual inner products are known.
// Row-major arrays with leading dimension `stride` = padded(classes) unless said otherwise.
struct DualBlock {
    SvmForm form;
    int hinge;
    float cost;
    int rows;
    int classes;
    int stride;
    const int* order;            // (rows) the sequence in which samples are visited
    const std::int32_t* labels;  // (rows)
    const float* gram;           // (rows, gram_stride) <z_i, z_j> + 1
    int gram_stride;
    const float* threshold;  // (stride) largest violation of the last sweep
    float* violation;        // (stride) out: that of this one; only [0] unless one-vs-rest
    float* decision;         // (rows, stride) f at entry; kept up to date with every change
    float* alpha;            // (rows, stride) dual variables, updated
    float* frozen;           // (rows, stride) 0, or -inf / +inf: alpha stays 0 / at its upper bound
    float* change;           // (rows, stride) out: change of each sample's coefficients in W
    float* loss;             // (rows) out: the loss met at the visit, without that of frozen pairs
    float* frozen_loss;      // (rows) out: the loss of the pairs frozen at this visit
    int* changed;            // (rows) out: 0 where nothing changed
    float* scratch;          // (3 * stride)
    double dual_gain;        // out: change of sum alpha - (hinge 2) |alpha|^2 / (4C)
};

struct Kernels {
    const char* name;
    int width;  // floats in one vector

    // dst[j] = (src[j] - centre[j]) * inverse_scale[j], j < d; dst[d .. padded) = 0.
    // centre and inverse_scale are float32, or float64 for float64 sources.
    void (*map_row)(DType dtype, const void* src, std::int64_t d, const double* centre,
                    const double* inverse_scale, const float* centre32,
                    const float* inverse_scale32, float* dst, std::int64_t padded_d);

    // The same in float64.
    void (*map_row_exact)(DType dtype, const void* src, std::int64_t d, const double* centre,
                          const double* inverse_scale, double* dst, std::int64_t padded_d);

    // dst[j] = float(src[j])
    void (*widen_row)(DType dtype, const void* src, std::int64_t d, float* dst);

    // sum[j] += x[j] - shift[j]; square[j] += (x[j] - shift[j])^2, in float64.
    void (*moments)(DType dtype, const void* src, std::int64_t d, const double* shift, double* sum,
                    double* square);

    // out[r, k] = sum_j x[r, j] * w[k, j], j < n (a multiple of kPad); float32 partial sums.
    void (*dots)(const float* x, std::int64_t ldx, int rows, const float* w, std::int64_t ldw,
                 int classes, int n, float* out, std::int64_t ldo);

    // w[k, j] += sum_r coefficient[r, k] * x[r][j], j < n (a multiple of kPad).
    void (*update)(float* w, std::int64_t ldw, int classes, const float* const* x, int rows,
                   const float* coefficient, std::int64_t ldc, int n);

    // Both in float64.
    void (*dots_exact)(const double* x, std::int64_t ldx, int rows, const double* w,
                       std::int64_t ldw, int classes, int n, double* out, std::int64_t ldo);
    void (*update_exact)(double* w, std::int64_t ldw, int classes, const double* const* x, int rows,
                         const double* coefficient, std::int64_t ldc, int n);

    // The same for lists: out[i] = <x, w[i]>, and w += sum_r coefficient[r] * x[r].
    void (*dots_list)(const float* x, const float* const* w, int count, int n, float* out);
    void (*update_list)(float* w, const float* const* x, const float* coefficient, int rows, int n);

    void (*solve_block)(DualBlock& block);

    // sum over j < n of a[j]^2, in float64.
    double (*square_norm)(const float* a, std::int64_t n);

    // z = max(0, z + bias)
    void (*relu)(float* z, const float* bias, std::int64_t n);

    // signal = source where activation > 0, else 0.
    void (*mask)(float* signal, const float* source, const float* activation, std::int64_t n);

    // sum_j exp(keep * p[j] - shift), every exponent at most 0; p may hold -inf.
    double (*sum_exp)(const double* p, std::int64_t n, double keep, double shift);

};

// The set chosen for this process. choose_kernels must have been called once.
const Kernels& kernels();

// The named set, or for an empty name the best that the processor has. Throws std::invalid_argument.
void choose_kernels(const std::string& name);

// Best first.
const std::vector<const Kernels*>& compiled_kernels();

namespace baseline {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}

}  // namespace lead_fast
