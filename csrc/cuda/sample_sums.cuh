// Sums over samples, in float64 and in a fixed order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "reduce.cuh"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

constexpr int kSumThreads = 256;

inline std::int64_t sum_blocks(const Call& call, std::int64_t items, int per_block) {
    return std::clamp<std::int64_t>((items + per_block - 1) / per_block, 1,
                                    8 * call.facts().processors);
}

// sums[k] = sum_b partial[b, k], plus what is there if `add`. Block k.
static __global__ void __launch_bounds__(kSumThreads)
    fold_kernel(const double* __restrict__ partial, std::int64_t blocks, int count, bool add,
                double* __restrict__ sums) {
    __shared__ double slots[kSumThreads / 32];
    double sum = 0.0;
    for (std::int64_t b = threadIdx.x; b < blocks; b += kSumThreads) {
        sum += partial[b * count + blockIdx.x];
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) sums[blockIdx.x] = add ? sums[blockIdx.x] + sum : sum;
}

inline void fold(const Call& call, const double* partial, std::int64_t blocks, int count, bool add,
                 double* sums) {
    fold_kernel<<<static_cast<unsigned>(count), kSumThreads, 0, call.stream()>>>(partial, blocks,
                                                                                 count, add, sums);
    LEAD_FAST_LAUNCHED(fold_kernel, call.stream());
}

// partial[block, k] = sum of cell(i, k) over the samples i of a block. With up to kSumThreads
// classes a thread keeps its class and the block takes kSumThreads / classes samples at once.
template <class Cell>
__global__ void __launch_bounds__(kSumThreads)
    columns_kernel(std::int64_t n, int classes, Cell cell, double* __restrict__ partial) {
    __shared__ double slots[kSumThreads];
    double* const out = partial + static_cast<std::int64_t>(blockIdx.x) * classes;
    const int thread = threadIdx.x;
    if (classes > kSumThreads) {
        for (int k = thread; k < classes; k += kSumThreads) {
            double sum = 0.0;
            for (std::int64_t i = blockIdx.x; i < n; i += gridDim.x) sum += cell(i, k);
            out[k] = sum;
        }
        return;
    }
    const int at_once = kSumThreads / classes, k = thread % classes, place = thread / classes;
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

// The cells of a matrix (n, classes), `stride` numbers from row to row.
template <class T>
struct Number {
    const T* g;
    std::int64_t stride;
    __device__ double operator()(std::int64_t i, int k) const { return g[i * stride + k]; }
};

// sums (classes) of cell(i, k) over n samples.
template <class Cell>
void sum_columns(const Call& call, std::int64_t n, int classes, const Cell& cell, bool add,
                 double* sums) {
    const std::int64_t blocks = sum_blocks(call, n, std::max(1, 4 * kSumThreads / classes));
    const Buffer<double> partial(call, blocks * classes);
    columns_kernel<Cell><<<static_cast<unsigned>(blocks), kSumThreads, 0, call.stream()>>>(
        n, classes, cell, partial.data());
    LEAD_FAST_LAUNCHED(columns_kernel, call.stream());
    fold(call, partial.data(), blocks, classes, add, sums);
}

}  // namespace cuda
}  // namespace lead_fast
