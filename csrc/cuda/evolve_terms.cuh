// The arithmetic that the kernels of the logits' cross-entropy share; see evolve_logits.cu.
#pragma once

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

// Sum of 2^((high + low) value) over a few numbers at a time, side by side.
template <int kChains>
struct Terms {
    float part[kChains] = {};

    template <int V>
    __device__ __forceinline__ void add(float high, float low, const float (&value)[V]) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            part[v % kChains] += power_of_two_of(fmaf(high, value[v], low * value[v]));
        }
    }
    __device__ __forceinline__ float sum() const {
        float all = part[0];
#pragma unroll
        for (int c = 1; c < kChains; ++c) all += part[c];
        return all;
    }
};

}  // namespace cuda
}  // namespace lead_fast
