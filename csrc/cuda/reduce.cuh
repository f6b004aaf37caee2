// Sums over warps and blocks in a fixed order: the same input gives the same bits.
#pragma once

#include "error.h"

namespace lead_fast {
namespace cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// The sum over the `width` lanes (a power of two) of each group, in all of them.
template <class T>
__device__ __forceinline__ T group_sum(T x, int width = 32) {
    for (int step = width / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
    return x;
}

// The largest over a warp, in all lanes; numbers that are none are passed over.
__device__ __forceinline__ double warp_max(double x) {
    for (int step = 16; step > 0; step /= 2) x = fmax(x, __shfl_xor_sync(kAllLanes, x, step));
    return x;
}

// The sum over a block of whole warps, in thread 0. `slots` [warps] shared; may be used again after
// the next __syncthreads().
template <class T>
__device__ __forceinline__ T block_sum(T x, T* slots) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = group_sum(x);
    if (lane == 0) slots[warp] = x;
    __syncthreads();
    if (warp == 0) {
        x = lane < static_cast<int>(blockDim.x / 32) ? slots[lane] : T(0);
        x = group_sum(x);
    }
    return x;
}

}  // namespace cuda
}  // namespace lead_fast
