// Passes over samples and features for the SVM: one kernel each instead of a dozen elementwise
// ones. A thread takes a sample, whose formulas are in ../svm_rows.h. All sums are float64, in a
// fixed order.

#include <algorithm>
#include <cmath>

#include "load.cuh"
#include "reduce.cuh"
#include "svm.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 128;  // of the kernels with a thread per sample

unsigned grid(std::int64_t blocks) { return static_cast<unsigned>(blocks); }

std::int64_t blocks_for(const Call& call, std::int64_t items, int per_block) {
    return std::clamp<std::int64_t>((items + per_block - 1) / per_block, 1,
                                    8 * call.facts().processors);
}

// sums[k] = sum_b partial[b, k]. Block k.
__global__ void fold_kernel(const double* __restrict__ partial, std::int64_t blocks, int count,
                            double* __restrict__ sums) {
    __shared__ double slots[kThreads / 32];
    double sum = 0.0;
    for (std::int64_t b = threadIdx.x; b < blocks; b += kThreads) {
        sum += partial[b * count + blockIdx.x];
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

void fold(const Call& call, const double* partial, std::int64_t blocks, int count, double* sums) {
    fold_kernel<<<grid(count), kThreads, 0, call.stream()>>>(partial, blocks, count, sums);
    LEAD_FAST_LAUNCHED(fold_kernel, call.stream());
}

// partial[block] = three totals. Thread i.
__global__ void advance_kernel(RowProblem problem, std::int64_t n, int classes,
                               const std::int32_t* __restrict__ labels, const float* __restrict__ f,
                               const float* __restrict__ a, float rho, float* __restrict__ next,
                               float* __restrict__ coefficients, std::uint8_t* __restrict__ mask,
                               float* __restrict__ weight, std::uint8_t* __restrict__ curved,
                               double* __restrict__ partial) {
    __shared__ double slots[3][kRowThreads / 32];
    double loss = 0.0, linear = 0.0, quadratic = 0.0;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kRowThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x; i < n;
         i += stride) {
        const std::int64_t at = i * classes;
        const RowReport found = advance_row(problem, classes, labels[i], f + at, a + at, rho,
                                            next + at, coefficients + at, mask + at);
        weight[i] = found.weight;
        curved[i] = found.curved ? 1 : 0;
        loss += found.loss;
        linear += found.linear;
        quadratic += found.quadratic;
    }
    loss = block_sum(loss, slots[0]);
    linear = block_sum(linear, slots[1]);
    quadratic = block_sum(quadratic, slots[2]);
    if (threadIdx.x == 0) {
        partial[3 * blockIdx.x] = loss;
        partial[3 * blockIdx.x + 1] = linear;
        partial[3 * blockIdx.x + 2] = quadratic;
    }
}

// partial[block] = the slopes of its samples, of ww or cs. Thread i.
__global__ void slope_kernel(RowProblem problem, std::int64_t n, int classes,
                             const std::int32_t* __restrict__ labels, const float* __restrict__ f,
                             const float* __restrict__ a, const float* __restrict__ df,
                             const float* __restrict__ t, float rho, double* __restrict__ partial) {
    __shared__ double slots[kRowThreads / 32];
    double sum = 0.0;
    const float step = *t;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kRowThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x; i < n;
         i += stride) {
        const std::int64_t at = i * classes;
        sum += slope_row(problem, classes, labels[i], f + at, a + at, df + at, step, rho);
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// partial[block, k] = sum of cell(i, k) over the samples i of a block. With up to kThreads classes
// a thread keeps its class and the block takes kThreads / classes samples at once.
template <class Cell>
__global__ void columns_kernel(std::int64_t n, int classes, Cell cell,
                               double* __restrict__ partial) {
    __shared__ double slots[kThreads];
    double* const out = partial + static_cast<std::int64_t>(blockIdx.x) * classes;
    const int thread = threadIdx.x;
    if (classes > kThreads) {
        for (int k = thread; k < classes; k += kThreads) {
            double sum = 0.0;
            for (std::int64_t i = blockIdx.x; i < n; i += gridDim.x) sum += cell(i, k);
            out[k] = sum;
        }
        return;
    }
    const int at_once = kThreads / classes, k = thread % classes, place = thread / classes;
    double sum = 0.0;
    if (place < at_once) {
        for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * at_once + place; i < n;
             i += static_cast<std::int64_t>(gridDim.x) * at_once) {
            sum += cell(i, k);
        }
    }
    slots[thread] = sum;
    __syncthreads();
    if (thread < classes) {
        for (int other = 1; other < at_once; ++other) sum += slots[other * classes + thread];
        out[thread] = sum;
    }
}

struct Number {
    const float* g;
    int classes;
    __device__ double operator()(std::int64_t i, int k) const { return g[i * classes + k]; }
};

struct Slope {
    RowProblem problem;
    int classes;
    const std::int32_t* labels;
    const float *f, *a, *df, *t;
    float rho;
    __device__ double operator()(std::int64_t i, int k) const {
        const std::int64_t at = i * classes + k;
        return slope_cell(problem, labels[i] == k, f[at], a[at], df[at], t[k], rho);
    }
};

template <class Cell>
void sum_columns(const Call& call, std::int64_t n, int classes, const Cell& cell, double* sums) {
    const std::int64_t blocks = blocks_for(call, n, std::max(1, 4 * kThreads / classes));
    const Buffer<double> partial(call, blocks * classes);
    columns_kernel<<<grid(blocks), kThreads, 0, call.stream()>>>(n, classes, cell, partial.data());
    LEAD_FAST_LAUNCHED(columns_kernel, call.stream());
    fold(call, partial.data(), blocks, classes, sums);
}

// Block i.
template <class T>
__global__ void gather_mapped_kernel(const void* x, std::int64_t row_bytes, std::int64_t d,
                                     const std::int64_t* __restrict__ rows,
                                     const float* __restrict__ centre,
                                     const float* __restrict__ scale, float* __restrict__ out) {
    const std::int64_t i = blockIdx.x;
    const T* const from = row_of<T>(x, row_bytes, rows == nullptr ? i : rows[i]);
    for (std::int64_t j = threadIdx.x; j < d; j += kThreads) {
        out[i * d + j] = (to_float(from[j]) - centre[j]) * scale[j];
    }
}

// Of the rows of a chunk (blockIdx.y) the mean and the sum of squares about it, in `partial`
// (chunks, 2, d). Sums are shifted by the chunk's first row. Thread j.
template <class T>
__global__ void moments_kernel(const void* x, std::int64_t row_bytes, std::int64_t n,
                               std::int64_t d, std::int64_t chunk, double* __restrict__ partial) {
    const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (j >= d) return;
    const std::int64_t first = blockIdx.y * chunk;
    const std::int64_t last = first + chunk < n ? first + chunk : n;
    const double shift = to_double(row_of<T>(x, row_bytes, first)[j]);
    double sum = 0.0, squares = 0.0;
#pragma unroll 8
    for (std::int64_t i = first; i < last; ++i) {
        const double value = to_double(row_of<T>(x, row_bytes, i)[j]) - shift;
        sum += value;
        squares += value * value;
    }
    const double count = static_cast<double>(last - first);
    partial[(2 * blockIdx.y) * d + j] = shift + sum / count;
    partial[(2 * blockIdx.y + 1) * d + j] = fmax(0.0, squares - sum * (sum / count));
}

// Puts the chunks together (Chan, Golub and LeVeque 1979). Thread j.
__global__ void join_moments_kernel(const double* __restrict__ partial, std::int64_t n,
                                    std::int64_t d, std::int64_t chunk, std::int64_t chunks,
                                    double* __restrict__ mean, double* __restrict__ variance) {
    const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (j >= d) return;
    double centre = 0.0, squares = 0.0, zero = 0.0;
    for (std::int64_t c = 0; c < chunks; ++c) {
        const double seen = static_cast<double>(c * chunk);
        const double count = static_cast<double>((c + 1) * chunk < n ? chunk : n - c * chunk);
        const double part = partial[2 * c * d + j], shift = part - centre;
        zero += 0.0 * part;  // NaN if it is not finite, which fmax would hide
        centre += shift * (count / (seen + count));
        squares += partial[(2 * c + 1) * d + j] + shift * shift * (count * seen / (seen + count));
    }
    mean[j] = centre + zero;
    variance[j] = squares / static_cast<double>(n) + zero;
}

}  // namespace

SvmTotals svm_advance(const Call& call, const SvmRows& rows, const float* f, const float* a,
                      float rho, float* next, float* coefficients, std::uint8_t* mask,
                      float* weight, std::uint8_t* curved) {
    const std::int64_t blocks = blocks_for(call, rows.n, kRowThreads);
    const Buffer<double> partial(call, 3 * blocks), totals(call, 3);
    advance_kernel<<<grid(blocks), kRowThreads, 0, call.stream()>>>(
        rows.problem, rows.n, rows.classes, rows.labels, f, a, rho, next, coefficients, mask,
        weight, curved, partial.data());
    LEAD_FAST_LAUNCHED(advance_kernel, call.stream());
    fold(call, partial.data(), blocks, 3, totals.data());
    double found[3];
    totals.download(found, 3);
    call.synchronize();
    return {found[0], found[1], found[2]};
}

void svm_slope(const Call& call, const SvmRows& rows, const float* f, const float* a,
               const float* df, const float* t, float rho, double* slopes) {
    const bool separate = rows.problem.form == SvmForm::one_vs_rest;
    const int count = separate ? rows.classes : 1;
    const Buffer<float> steps(call, count);
    const Buffer<double> sums(call, count);
    steps.upload(t, count);
    if (separate) {
        const Slope cell{rows.problem, rows.classes, rows.labels, f, a, df, steps.data(), rho};
        sum_columns(call, rows.n, rows.classes, cell, sums.data());
    } else {
        const std::int64_t blocks = blocks_for(call, rows.n, kRowThreads);
        const Buffer<double> partial(call, blocks);
        slope_kernel<<<grid(blocks), kRowThreads, 0, call.stream()>>>(
            rows.problem, rows.n, rows.classes, rows.labels, f, a, df, steps.data(), rho,
            partial.data());
        LEAD_FAST_LAUNCHED(slope_kernel, call.stream());
        fold(call, partial.data(), blocks, 1, sums.data());
    }
    sums.download(slopes, count);
    call.synchronize();
}

void column_sums(const Call& call, const float* g, std::int64_t n, int classes, double* sums) {
    sum_columns(call, n, classes, Number{g, classes}, sums);
}

void gather_mapped(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
                   std::int64_t n, const float* centre, const float* scale, float* out) {
    if (n == 0) return;
    with_type(x.dtype, [&](auto type) {
        gather_mapped_kernel<decltype(type)><<<grid(n), kThreads, 0, call.stream()>>>(
            x.data, x.row_bytes, x.d, rows, centre, scale, out);
    });
    LEAD_FAST_LAUNCHED(gather_mapped_kernel, call.stream());
}

void column_moments(const Call& call, const FeatureMatrix& x, double* mean, double* variance) {
    const std::int64_t across = (x.d + kThreads - 1) / kThreads;
    // Enough blocks to fill the device; no more chunks than blockIdx.y counts.
    const std::int64_t wanted = std::max<std::int64_t>(1, 16 * call.facts().processors / across);
    const std::int64_t chunk = std::max<std::int64_t>((x.n + wanted - 1) / wanted, 64);
    const std::int64_t chunks = (x.n + chunk - 1) / chunk;
    const Buffer<double> partial(call, 2 * chunks * x.d);
    with_type(x.dtype, [&](auto type) {
        moments_kernel<decltype(type)>
            <<<dim3(grid(across), grid(chunks)), kThreads, 0, call.stream()>>>(
                x.data, x.row_bytes, x.n, x.d, chunk, partial.data());
    });
    LEAD_FAST_LAUNCHED(moments_kernel, call.stream());
    join_moments_kernel<<<grid(across), kThreads, 0, call.stream()>>>(
        partial.data(), x.n, x.d, chunk, chunks, mean, variance);
    LEAD_FAST_LAUNCHED(join_moments_kernel, call.stream());
}

}  // namespace cuda
}  // namespace lead_fast
