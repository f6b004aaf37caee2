// The logits' cross-entropy for rows of 33 to 1024 classes that start on 16 bytes and hold whole
// 16-byte pieces. Every warp has a ring of rows in shared memory and waits only for itself: rows
// are on their way while another is worked on, whatever the registers hold.
#pragma once

#include <type_traits>

#include "async_copy.cuh"
#include "evolve_terms.cuh"

namespace lead_fast {
namespace cuda {

constexpr int kStagedThreads = 256;
constexpr int kStagedWarps = kStagedThreads / 32;

// A 16-byte piece of a row.
template <class T>
union Piece {
    static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
    uint4 bits;
    T number[kCount];

    __device__ __forceinline__ Piece(const void* row, int i)
        : bits(static_cast<const uint4*>(row)[i]) {}

    __device__ __forceinline__ void get(float (&value)[kCount]) const {
#pragma unroll
        for (int v = 0; v < kCount; ++v) value[v] = to_float(number[v]);
    }
};

__device__ __forceinline__ void set(float* to, float x) { *to = x; }
__device__ __forceinline__ void set(__half* to, float x) { *to = __float2half(x); }
__device__ __forceinline__ void set(__nv_bfloat16* to, float x) { *to = __float2bfloat16(x); }

// partial[block, j] = sum over this block's rows of their scores at time j. kMany: up to eight
// times at once, else one. Shared memory: kStages rows for each warp.
//
// A warp's lanes share a row. What is left to do of a row in float64 waits in the lanes' registers:
// with one time until there are 32 rows, lane l having row l, with eight times until there are
// four, lane l having time l / 4 of row l % 4. kMixed: see Terms.
template <class T, int kStages, bool kMany, bool kMixed>
__global__ void __launch_bounds__(kStagedThreads)
    staged_logits_kernel(const void* x, std::int64_t row_bytes, std::int64_t n, int classes,
                         const std::int32_t* __restrict__ labels, const Decay* __restrict__ decay,
                         int times, double* __restrict__ partial, DeviceFindings* findings) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ double totals[kStagedWarps][kTimes];
    constexpr int kCount = Piece<T>::kCount;
    constexpr int kWaiting = kMany ? 32 / kTimes : 32;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int own_time = kMany ? lane / kWaiting : 0;
    const int pieces = classes / kCount, stage = 16 * pieces;
    unsigned char* const ring = memory + warp * kStages * stage;

    const std::int64_t tiles = (n + 31) / 32;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kStagedWarps;
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kStagedWarps + warp;
    // The next row of this warp; its copies are one group, empty where there is no such row.
    unsigned fetched = 0, slot = 0;
    const auto fetch = [&] {
        const std::int64_t row = (first + fetched / 32 * stride) * 32 + fetched % 32;
        if (row < n) {
            const unsigned char* const from =
                reinterpret_cast<const unsigned char*>(row_of<T>(x, row_bytes, row));
            unsigned char* const to = ring + slot * stage;
            for (int i = lane; i < pieces; i += 32) copy_16(to + 16 * i, from + 16 * i);
        }
        end_group();
        ++fetched;
        slot = slot == kStages - 1 ? 0 : slot + 1;
    };
    for (int i = 0; i < kStages - 1; ++i) fetch();
    double score = 0.0;  // of the lane's time
    double waiting_sum = 0.0;
    float waiting_top = 0.0f, waiting_own = 0.0f;
    std::int32_t waiting_label = -1;
    const auto finish = [&] {
        if (waiting_label >= 0 && own_time < times) {
            score += row_score(decay[static_cast<std::int64_t>(waiting_label) * times + own_time],
                               waiting_own, waiting_top, waiting_sum, true);
        }
        waiting_label = -1;
    };
    for (std::int64_t tile = first; tile < tiles; tile += stride) {
        const std::int64_t mine = tile * 32 + lane;
        const std::int32_t own_label = mine < n ? labels[mine] : 0;
        const int steps = static_cast<int>(n - tile * 32 < 32 ? n - tile * 32 : 32);
        for (int step = 0; step < steps; ++step) {
            wait_for_groups<kStages - 2>();
            __syncwarp();
            fetch();  // where the row before this one was; `slot` is where the oldest is
            T* const row = reinterpret_cast<T*>(ring + slot * stage);
            const std::int32_t label = __shfl_sync(kAllLanes, own_label, step);
            // The label's term is added by itself: another's number stands in its place while the
            // largest is sought, -inf after that.
            const float own = to_float(row[label]);
            __syncwarp();
            if (lane == 0) row[label] = row[label == 0 ? 1 : 0];
            __syncwarp();
            float top = -INFINITY, zero = 0.0f * own;  // NaN if a number is not finite
#pragma unroll 2
            for (int i = lane; i < pieces; i += 32) {
                float value[kCount];
                Piece<T>(row, i).get(value);
#pragma unroll
                for (int v = 0; v < kCount; v += 2) {
                    top = fmaxf(top, fmaxf(value[v], value[v + 1]));
                    zero = fmaf(0.0f, value[v], fmaf(0.0f, value[v + 1], zero));
                }
            }
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) {
                top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, mask));
            }
            const bool bad = __any_sync(kAllLanes, !(zero == 0.0f));
            __syncwarp();  // shuffles and votes order no memory
            if (lane == 0) {
                set(row + label, -INFINITY);
                if (bad) note(&findings->non_finite, &findings->first_non_finite, tile * 32 + step);
            }
            __syncwarp();
            const Decay* const d = decay + static_cast<std::int64_t>(label) * times;
            double sum;
            if constexpr (kMany) {
                float high[kTimes], low[kTimes], lane_sums[kTimes];
                Terms<1, kMixed> terms[kTimes];
#pragma unroll
                for (int j = 0; j < kTimes; ++j) {
                    high[j] = j < times ? d[j].high : 0.0f;
                    low[j] = j < times ? d[j].low : 0.0f;
                }
#pragma unroll 1
                for (int i = lane; i < pieces; i += 32) {
                    float value[kCount];
                    Piece<T>(row, i).get(value);
#pragma unroll
                    for (int v = 0; v < kCount; ++v) value[v] -= top;
#pragma unroll
                    for (int j = 0; j < kTimes; ++j) {
                        if (j < times) terms[j].add(high[j], low[j], value);
                    }
                }
#pragma unroll
                for (int j = 0; j < kTimes; ++j) lane_sums[j] = terms[j].sum();
                sum = eight_sums(lane_sums, lane);
            } else {
                const float high = d->high, low = d->low;
                Terms<4> terms;
#pragma unroll 2
                for (int i = lane; i < pieces; i += 32) {
                    float value[kCount];
                    Piece<T>(row, i).get(value);
#pragma unroll
                    for (int v = 0; v < kCount; ++v) value[v] -= top;
                    terms.add(high, low, value);
                }
                sum = group_sum(static_cast<double>(terms.sum()));
            }
            if (lane % kWaiting == step % kWaiting) {
                waiting_sum = sum;
                waiting_top = top;
                waiting_own = own;
                waiting_label = label;
            }
            if (step % kWaiting == kWaiting - 1) finish();
        }
        finish();
    }
    wait_for_groups<0>();
    if constexpr (kMany) {
        score += __shfl_xor_sync(kAllLanes, score, 1);
        score += __shfl_xor_sync(kAllLanes, score, 2);
    } else {
        score = group_sum(score);
    }
    if (lane % kWaiting == 0) totals[warp][own_time] = score;
    __syncthreads();
    if (threadIdx.x < times) {
        double total = 0.0;
        for (int w = 0; w < kStagedWarps; ++w) total += totals[w][threadIdx.x];
        partial[static_cast<std::int64_t>(blockIdx.x) * times + threadIdx.x] = total;
    }
}

}  // namespace cuda
}  // namespace lead_fast
