// Kernels of products with a few columns, which should take no longer than to read the matrix; see
// svm_narrow.cu.
#pragma once

#include <cstdint>

namespace lead_fast {
namespace cuda {

constexpr int kNarrowThreads = 256;
constexpr int kNarrowWarps = kNarrowThreads / 32;
constexpr int kNarrowRows = 32;  // rows of g in shared memory

__device__ __forceinline__ float4 four(const float* p) {
    return *reinterpret_cast<const float4*>(p);
}

// values (n, classes) = x wide^T for x (n, d), d and row_floats multiples of 4, wide (classes, d),
// classes <= K. A warp takes R rows at a time, its lanes four columns each; R rows share what is
// read of wide from shared memory, which holds `tile` columns (a multiple of 4) for each of K
// classes.
template <int K, int R>
__global__ void __launch_bounds__(kNarrowThreads)
    narrow_rows_kernel(const float* __restrict__ x, std::int64_t row_floats, std::int64_t n, int d,
                       int classes, int tile, const float* __restrict__ wide,
                       float* __restrict__ values) {
    extern __shared__ __align__(16) float narrow_tile[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    constexpr int kRows = kNarrowWarps * R;
    for (std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * kRows; base < n;
         base += static_cast<std::int64_t>(gridDim.x) * kRows) {
        const std::int64_t first = base + warp * R;
        const float* row[R];
        float sum[R][K];
#pragma unroll
        for (int r = 0; r < R; ++r) {  // rows past the end are the last one, and not written
            row[r] = x + (first + r < n ? first + r : n - 1) * row_floats;
#pragma unroll
            for (int k = 0; k < K; ++k) sum[r][k] = 0.0f;
        }
        for (int start = 0; start < d; start += tile) {
            const int width = d - start < tile ? d - start : tile;
            // A tile that holds all of wide stays.
            if (d > tile || base == static_cast<std::int64_t>(blockIdx.x) * kRows) {
                __syncthreads();
                for (int i = threadIdx.x; i < K * (tile / 4); i += kNarrowThreads) {
                    const int k = i / (tile / 4), column = i % (tile / 4) * 4;
                    float4 w = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                    if (k < classes && column < width) {
                        w = four(wide + static_cast<std::int64_t>(k) * d + start + column);
                    }
                    *reinterpret_cast<float4*>(narrow_tile + k * tile + column) = w;
                }
                __syncthreads();
            }
            for (int column = 4 * lane; column < width; column += 128) {
                float4 value[R];
#pragma unroll
                for (int r = 0; r < R; ++r) value[r] = four(row[r] + start + column);
#pragma unroll
                for (int k = 0; k < K; ++k) {
                    const float4 w = four(narrow_tile + k * tile + column);
#pragma unroll
                    for (int r = 0; r < R; ++r) {
                        sum[r][k] = fmaf(value[r].x, w.x, sum[r][k]);
                        sum[r][k] = fmaf(value[r].y, w.y, sum[r][k]);
                        sum[r][k] = fmaf(value[r].z, w.z, sum[r][k]);
                        sum[r][k] = fmaf(value[r].w, w.w, sum[r][k]);
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < R; ++r) {
            float mine = 0.0f;
#pragma unroll
            for (int k = 0; k < K; ++k) {
                float all = sum[r][k];
#pragma unroll
                for (int mask = 16; mask > 0; mask /= 2) {
                    all += __shfl_xor_sync(0xffffffffu, all, mask);
                }
                if (lane == k) mine = all;
            }
            if (first + r < n && lane < classes) values[(first + r) * classes + lane] = mine;
        }
    }
}

// partial[split] (classes, d) = g^T x over the rows of this split, g (n, classes), classes <= K. A
// thread has four columns of x; blockIdx.x is the tile of columns, blockIdx.y the split.
template <int K>
__global__ void __launch_bounds__(kNarrowThreads)
    narrow_columns_kernel(const float* __restrict__ x, std::int64_t row_floats, std::int64_t n,
                          int d, int classes, const float* __restrict__ g,
                          float* __restrict__ partial) {
    constexpr int kAhead = 8;  // rows on their way
    __shared__ __align__(16) float part[kNarrowRows][K];
    const int column = (static_cast<int>(blockIdx.x) * kNarrowThreads + threadIdx.x) * 4;
    const float* const mine = x + (column < d ? column : 0);  // others read, and write nothing
    const std::int64_t first = n * blockIdx.y / gridDim.y, last = n * (blockIdx.y + 1) / gridDim.y;
    float4 sum[K];
#pragma unroll
    for (int k = 0; k < K; ++k) sum[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (std::int64_t base = first; base < last; base += kNarrowRows) {
        __syncthreads();
        for (int i = threadIdx.x; i < kNarrowRows * K; i += kNarrowThreads) {
            const int r = i / K, k = i % K;
            part[r][k] = base + r < last && k < classes ? g[(base + r) * classes + k] : 0.0f;
        }
        __syncthreads();
#pragma unroll 1
        for (int start = 0; start < kNarrowRows; start += kAhead) {
            float4 value[kAhead];
#pragma unroll
            for (int r = 0; r < kAhead; ++r) {  // past the end g is 0
                const std::int64_t row = base + start + r;
                value[r] = four(mine + (row < last ? row : last - 1) * row_floats);
            }
#pragma unroll
            for (int r = 0; r < kAhead; ++r) {
#pragma unroll
                for (int k = 0; k < K; k += 4) {
                    const float4 weight = four(&part[start + r][k]);
                    const float w[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        sum[k + i].x = fmaf(w[i], value[r].x, sum[k + i].x);
                        sum[k + i].y = fmaf(w[i], value[r].y, sum[k + i].y);
                        sum[k + i].z = fmaf(w[i], value[r].z, sum[k + i].z);
                        sum[k + i].w = fmaf(w[i], value[r].w, sum[k + i].w);
                    }
                }
            }
        }
    }
    if (column >= d) return;
    float* const out = partial + static_cast<std::int64_t>(blockIdx.y) * classes * d + column;
#pragma unroll
    for (int k = 0; k < K; ++k) {
        if (k < classes)
            *reinterpret_cast<float4*>(out + static_cast<std::int64_t>(k) * d) = sum[k];
    }
}

// product[i] = the sum of partial[split][i], in float64.
__global__ void __launch_bounds__(kNarrowThreads)
    narrow_sum_kernel(const float* __restrict__ partial, int splits, std::int64_t cells,
                      float* __restrict__ product) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kNarrowThreads + threadIdx.x;
    if (i >= cells) return;
    double sum = 0.0;
#pragma unroll 8
    for (int s = 0; s < splits; ++s) sum += static_cast<double>(partial[s * cells + i]);
    product[i] = static_cast<float>(sum);
}

}  // namespace cuda
}  // namespace lead_fast
