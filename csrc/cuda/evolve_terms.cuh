// The arithmetic that the kernels of the logits' cross-entropy share; see evolve_logits.cu.
#pragma once

#include "../exp2.h"
#include "evolve.cuh"

namespace lead_fast {
namespace cuda {

__device__ __forceinline__ float power_of_two_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// One row's score at one time, from S, top and p_y.
__device__ __forceinline__ double row_score(const Decay& d, double own, double top, double sum,
                                            bool others) {
    const double e = d.gain + d.keep * own;
    if (!others) return 0.0;  // one class: its probability is 1
    const double rest = d.keep * top;
    const double shift = e > rest ? e : rest;
    return e - shift - log(sum * exp(rest - shift) + exp(e - shift));
}

// Sum of 2^((high + low) value) over a few numbers at a time, side by side; kMixed: every fourth by
// the polynomial.
template <int kChains, bool kMixed = false>
struct Terms {
    float part[kChains] = {};

    template <int V>
    __device__ __forceinline__ void add(float high, float low, const float (&value)[V]) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float x = fmaf(high, value[v], low * value[v]);
            const bool polynomial = kMixed && v % 4 == 3;
            part[v % kChains] += polynomial ? power_of_two_by_polynomial(x) : power_of_two_of(x);
        }
    }
    __device__ __forceinline__ float sum() const {
        float all = part[0];
#pragma unroll
        for (int c = 1; c < kChains; ++c) all += part[c];
        return all;
    }
};

// Sums eight numbers over the lanes of a warp: lane l gets the sum of number l / 4. Each exchange
// halves how many numbers a lane has, so that it takes 9 exchanges, not 40.
__device__ __forceinline__ double eight_sums(const float (&x)[8], int lane) {
    double four[4], two[2];
    bool upper = (lane & 16) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float sent = upper ? x[i] : x[i + 4], kept = upper ? x[i + 4] : x[i];
        four[i] =
            static_cast<double>(kept) + static_cast<double>(__shfl_xor_sync(kAllLanes, sent, 16));
    }
    upper = (lane & 8) != 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const double sent = upper ? four[i] : four[i + 2], kept = upper ? four[i + 2] : four[i];
        two[i] = kept + __shfl_xor_sync(kAllLanes, sent, 8);
    }
    upper = (lane & 4) != 0;
    const double sent = upper ? two[0] : two[1], kept = upper ? two[1] : two[0];
    double one = kept + __shfl_xor_sync(kAllLanes, sent, 4);
    one += __shfl_xor_sync(kAllLanes, one, 2);
    one += __shfl_xor_sync(kAllLanes, one, 1);
    return one;
}

}  // namespace cuda
}  // namespace lead_fast
