// The inner loops, compiled once for each instruction set; dispatch.h has the chosen one. Included
// by the sources of every instruction set: nothing here may define a function.
#pragma once

#include "../svm.h"
#include "../types.h"

namespace lead_fast {

// Widest vector of any instruction set, in floats: buffers are padded to it with zeros.
constexpr int kPad = 16;

constexpr std::int64_t padded(std::int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// What is asked for from memory while something else is computed.
struct Span {
    const char* begin;
    std::int64_t bytes;
};

// Work of one dual block: `rows` samples whose mutual inner products are known.
// Row-major arrays with leading dimension `stride` = padded(classes) unless said otherwise.
template <class T>
struct DualBlock {
    SvmForm form;
    int hinge;
    T cost;
    int rows;
    int classes;
    int stride;
    const int* order;            // (rows) the sequence in which samples are visited
    const std::int32_t* labels;  // (rows)
    const T* square;             // (rows) <z_i, z_i> + 1
    const T* gram;               // <z_i, z_j> + 1 at member[i] * gram_stride + member[j]
    int gram_stride;
    const int* member;   // (rows)
    const T* threshold;  // (stride) largest violation of the last sweep
    T* violation;        // (stride) out: that of this one; only [0] unless one-vs-rest
    T* decision;         // (rows, stride) f at entry; kept up to date with every change
    T* alpha;            // (rows, stride) dual variables, updated
    T* frozen;           // (rows, stride) 0, or -inf / +inf: alpha stays 0 / at its upper bound
    T* change;           // (rows, stride) out: change of each sample's coefficients in W
    T* gap;              // (rows) out: the sample's share of the duality gap met at the visit
    T* moved;            // (rows) out: largest change of a multiplier, in units of the gradient
    int* changed;        // (rows) out: 0 where nothing changed
    T* scratch;          // (4 * stride)
    const Span* ahead;   // (spans) what is asked for on the way, evenly
    int spans;
    double dual_gain;  // out: change of sum alpha - (hinge 2) |alpha|^2 / (4C)
};

// A column map for float32 sources. The centre is kept in two parts: rounded, it would shift whole
// columns by more than the rounding of single features.
struct Map32 {
    const float* centre;
    const float* inverse_scale;
    const float* correction;  // (centre - exact centre) * inverse_scale
};

// The products and the dual steps, in float32 or float64.
template <class T>
struct SvmKernels {
    // out[r, k] = sum_j x[r, j] * w[k, j], j < n (a multiple of kPad).
    void (*dots)(const T* x, std::int64_t ldx, int rows, const T* w, std::int64_t ldw, int classes,
                 int n, T* out, std::int64_t ldo);

    // The same for rows anywhere; on the way, `spans` spans are asked for.
    void (*dots_lines)(const T* const* x, int rows, const T* w, std::int64_t ldw, int classes,
                       int n, T* out, std::int64_t ldo, const Span* ahead, int spans);

    // w[k, j] += sum_r coefficient[r, k] * x[r][j], j < n (a multiple of kPad).
    void (*update)(T* w, std::int64_t ldw, int classes, const T* const* x, int rows,
                   const T* coefficient, std::int64_t ldc, int n);

    // The same for lists: out[list[i]] = <x, w[list[i]]>, and w += sum_r coefficient[r] * x[r].
    void (*dots_list)(const T* x, const T* w, std::int64_t ldw, const int* list, int count, int n,
                      T* out);
    void (*update_list)(T* w, const T* const* x, const T* coefficient, int rows, int n);

    // One visit of every sample of a block, in order.
    void (*solve_block)(DualBlock<T>& block);

    // What a visit of each sample by itself would meet, without changing alpha: gap, violation, and
    // which pairs a solver may leave alone (frozen).
    void (*inspect_block)(DualBlock<T>& block);

    // Codes -1, 0, +1 to and from -inf, 0, +inf, n a multiple of kPad; how many are 0.
    void (*decode_frozen)(const std::int8_t* code, T* frozen, int n);
    int (*encode_frozen)(const T* frozen, std::int8_t* code, int n);

    // sum over j < n of a[j]^2, in float64.
    double (*square_norm)(const T* a, std::int64_t n);
};

// Rows packed in bytes, n coarse ones and then n that tell the parts of these: a feature is
// unit * (coarse + fine / kFinePart), or without the second half unit * coarse. Errors are up to
// 1/254 of the row's largest feature, or 1/64516 of it.
struct Coarse {
    std::int8_t byte;
};
struct Fine {
    std::int8_t byte;
};
constexpr float kFinePart = 254.0f;

// Products with packed rows in units of theirs, as in SvmKernels. Null where the processor has no
// instructions to widen bytes.
template <class X>
struct PackedKernels {
    void (*dots_lines)(const X* const* x, int rows, const float* w, std::int64_t ldw, int classes,
                       int n, float* out, std::int64_t ldo, const Span* ahead, int spans);
    void (*dots_list)(const X* x, const float* w, std::int64_t ldw, const int* list, int count,
                      int n, float* out);
    void (*update_list)(float* w, const X* const* x, const float* coefficient, int rows, int n);
};

struct Kernels {
    const char* name;

    // dst[j] = (src[j] - centre[j]) * inverse_scale[j], j < d; dst[d .. padded_d) = 0.
    void (*map_row)(DType dtype, const void* src, std::int64_t d, const Map32& map,
                    const double* centre, const double* inverse_scale, float* dst,
                    std::int64_t padded_d);

    // The same in float64.
    void (*map_row_exact)(DType dtype, const void* src, std::int64_t d, const double* centre,
                          const double* inverse_scale, double* dst, std::int64_t padded_d);

    // dst[j] = float(src[j])
    void (*widen_row)(DType dtype, const void* src, std::int64_t d, float* dst);

    // sum[j] += x[j] - shift[j]; square[j] += (x[j] - shift[j])^2, in float64.
    void (*moments)(DType dtype, const void* src, std::int64_t d, const double* shift, double* sum,
                    double* square);

    SvmKernels<float> f32;
    SvmKernels<double> f64;

    // dst (2 n) from src (n a multiple of kPad); returns the unit. Null as in PackedKernels.
    float (*pack_row)(const float* src, std::int64_t n, std::int8_t* dst);
    PackedKernels<Coarse> coarse;
    PackedKernels<Fine> fine;

    // z = max(0, z + bias)
    void (*relu)(float* z, const float* bias, std::int64_t n);

    // signal = source where activation > 0, else 0.
    void (*mask)(float* signal, const float* source, const float* activation, std::int64_t n);

    // sum_j exp(keep * p[j] - shift), every exponent at most 0; p may hold -inf.
    double (*sum_exp)(const double* p, std::int64_t n, double keep, double shift);
};

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
