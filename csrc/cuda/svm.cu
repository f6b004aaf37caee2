// Column sums, mapped rows and moments of columns.

#include <algorithm>

#include "load.cuh"
#include "sample_sums.cuh"
#include "svm.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;

template <class Out, class T>
__device__ Out number(T x) {
    if constexpr (sizeof(Out) == 8) {
        return to_double(x);
    } else {
        return to_float(x);
    }
}

// A thread takes column j of the rows of a chunk (blockIdx.y).
template <class T, class Out>
__global__ void __launch_bounds__(kThreads)
    gather_mapped_kernel(const void* x, std::int64_t row_bytes, std::int64_t n, std::int64_t d,
                         std::int64_t chunk, const std::int64_t* __restrict__ rows,
                         const double* __restrict__ centre, const double* __restrict__ scale,
                         Out* __restrict__ out) {
    const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (j >= d) return;
    const Out from = static_cast<Out>(centre[j]), by = static_cast<Out>(scale[j]);
    const std::int64_t first = blockIdx.y * chunk, last = first + chunk < n ? first + chunk : n;
#pragma unroll 8
    for (std::int64_t i = first; i < last; ++i) {
        const T* const row = row_of<T>(x, row_bytes, rows == nullptr ? i : rows[i]);
        out[i * d + j] = (number<Out>(row[j]) - from) * by;
    }
}

template <class Out>
void gather(const Call& call, const FeatureMatrix& x, const std::int64_t* rows, std::int64_t n,
            const double* centre, const double* scale, Out* out) {
    if (n == 0) return;
    // No more chunks than blockIdx.y counts.
    const std::int64_t chunk = std::max<std::int64_t>(16, (n + 65534) / 65535);
    const dim3 blocks(grid((x.d + kThreads - 1) / kThreads), grid((n + chunk - 1) / chunk));
    with_type(x.dtype, [&](auto type) {
        gather_mapped_kernel<decltype(type), Out><<<blocks, kThreads, 0, call.stream()>>>(
            x.data, x.row_bytes, n, x.d, chunk, rows, centre, scale, out);
    });
    LEAD_FAST_LAUNCHED(gather_mapped_kernel, call.stream());
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
    const double rest = squares - sum * (sum / count);
    partial[(2 * blockIdx.y + 1) * d + j] = rest < 0.0 ? 0.0 : rest;  // NaN stays, as of overflow
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

void column_sums(const Call& call, const float* g, std::int64_t n, int classes, std::int64_t stride,
                 bool add, double* sums) {
    sum_columns(call, n, classes, Number<float>{g, stride}, add, sums);
}

void gather_mapped(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
                   std::int64_t n, const double* centre, const double* scale, float* out) {
    gather(call, x, rows, n, centre, scale, out);
}

void gather_mapped(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
                   std::int64_t n, const double* centre, const double* scale, double* out) {
    gather(call, x, rows, n, centre, scale, out);
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
