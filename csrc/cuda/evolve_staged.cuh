// The logits' cross-entropy for rows of 33 to 1024 classes that start on 16 bytes and hold whole
// 16-byte pieces. One block for each processor; every warp has two rows in shared memory and waits
// only for itself: the next row is on its way while one is worked on, whatever the registers hold.
//
// The label's own term is part of the sum:
//   log_softmax(E_i)[y] = gain + keep (p_y - top) - log(S + (exp(gain) - 1) exp(keep (p_y - top)))
// with top = max_k p_k and S = sum_k exp(keep (p_k - top)) >= 1; nothing cancels. keep * log2(e) is
// one float32 here. The exponents of 1024 terms have, each weighted by its term, a mean size below
// 6.5, so roundings by 2^-24 of them and of keep * log2(e) change log(S) by less than 6e-7.
#pragma once

#include "async_copy.cuh"
#include "evolve_terms.cuh"

namespace lead_fast {
namespace cuda {

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

// For up to kN times at once: most warps of a block (fewer where shared memory holds no more), rows
// of a warp whose float64 part waits, rows that a warp takes at once.
template <int kN>
struct Staged {
    static constexpr int kWarps = kN <= 2 ? 32 : 24;
    static constexpr int kWaiting = 32 / kN;
    static constexpr int kRows = kWaiting < 8 ? 8 : kWaiting;
};

// Sums kN numbers over the lanes of a warp: lane l gets the sum of number l / (32 / kN). As long as
// a lane has several, float32: each of them is a sum of a few dozen terms already.
template <int kN>
__device__ __forceinline__ double spread_sums(const float (&x)[kN], int lane) {
    if constexpr (kN == 1) {
        return group_sum(static_cast<double>(x[0]));
    } else {
        float have[kN];
#pragma unroll
        for (int i = 0; i < kN; ++i) have[i] = x[i];
        int mask = 16;
#pragma unroll
        for (int count = kN / 2; count > 0; count /= 2) {
            const bool upper = (lane & mask) != 0;
#pragma unroll
            for (int i = 0; i < count; ++i) {
                const float sent = upper ? have[i] : have[i + count];
                const float kept = upper ? have[i + count] : have[i];
                have[i] = kept + __shfl_xor_sync(kAllLanes, sent, mask);
            }
            mask /= 2;
        }
        return group_sum(static_cast<double>(have[0]), 32 / kN);
    }
}

// partial[block, j] = sum over this block's rows of their scores at time j, times <= kN. A block
// has units blockIdx.x, blockIdx.x + gridDim.x, ... of kRows rows, dealt out to its warps in turn,
// and adds them up at the end: unit_score (units, kN) is scratch. Shared memory: two rows a warp.
//
// A warp's lanes share a row. What is left to do of a row in float64 waits in the lanes' registers
// until there are kWaiting rows: lane l has time l / kWaiting of row l % kWaiting.
template <class T, int kN>
__global__ void __launch_bounds__(32 * Staged<kN>::kWarps, 1)
    staged_logits_kernel(const void* x, std::int64_t row_bytes, std::int64_t n, int classes,
                         const std::int32_t* __restrict__ labels, const Decay* __restrict__ decay,
                         int times, double* unit_score, double* __restrict__ partial,
                         DeviceFindings* findings) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ double totals[Staged<kN>::kWarps][kN];
    constexpr int kCount = Piece<T>::kCount;
    constexpr int kPieces = 1024 / (32 * kCount);  // of a lane, at most
    constexpr int kWaiting = Staged<kN>::kWaiting, kRows = Staged<kN>::kRows;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    const int own_time = lane / kWaiting;
    const int pieces = classes / kCount, stage = 16 * pieces;
    const int full = pieces / 32;  // pieces of every lane
    const bool another = lane < pieces % 32;
    unsigned char* const ring = memory + warp * 2 * stage;
    __syncthreads();  // nothing needs it; without it the machine code is not what was measured

    const std::int64_t units = (n + kRows - 1) / kRows;
    unsigned taken = warp;  // the next of the block's units for this warp
    const auto take = [&]() -> std::int64_t {
        const unsigned i = taken;
        taken += static_cast<unsigned>(warps);
        return blockIdx.x + static_cast<std::int64_t>(i) * gridDim.x;
    };
    const auto label_of = [&](std::int64_t unit) {
        const std::int64_t row = unit * kRows + lane;
        return lane < kRows && row < n ? labels[row] : 0;
    };
    int slot = 0;  // where in the ring the next row to be worked on is: 0 or `stage`
    // The copies of a row are one group, empty where there is no such row.
    const auto fetch = [&](std::int64_t row, unsigned char* to) {
        if (row < n) {
            const unsigned char* from =
                reinterpret_cast<const unsigned char*>(row_of<T>(x, row_bytes, row)) + 16 * lane;
            to += 16 * lane;
            asm volatile("" : "+l"(from), "+l"(to));  // addresses are worked out once
#pragma unroll
            for (int c = 0; c < kPieces; ++c) {
                if (c < full || (c == full && another)) copy_16(to + 512 * c, from + 512 * c);
            }
        }
        end_group();
    };

    std::int64_t unit = take();
    std::int32_t unit_label = label_of(unit);
    fetch(unit * kRows, ring);
    while (unit < units) {
        std::int64_t ahead = unit;
        std::int32_t ahead_label = 0;
        const int steps = static_cast<int>(n - unit * kRows < kRows ? n - unit * kRows : kRows);
        double score = 0.0;  // of the lane's time
        double waiting_sum = 1.0;
        float waiting_top = 0.0f, waiting_own = 0.0f;
        std::int32_t waiting_label = -1;
#pragma unroll 1
        for (int step = 0; step < steps; ++step) {
            wait_for_groups<0>();
            __syncwarp();  // the row is there, and the one before it not needed any more
            const T* const row = reinterpret_cast<const T*>(ring + slot);
            slot = stage - slot;
            std::int64_t following = unit * kRows + step + 1;
            if (step + 1 == steps) {
                ahead = take();
                ahead_label = label_of(ahead);
                following = ahead * kRows;
            }
            fetch(following, ring + slot);
            const std::int32_t label = __shfl_sync(kAllLanes, unit_label, step);
            const Decay* const d = decay + static_cast<std::int64_t>(label) * times;
            float2 keep[kN];  // times log2(e), in two parts
#pragma unroll
            for (int j = 0; j < kN; ++j) {
                keep[j] = j < times ? *reinterpret_cast<const float2*>(&d[j].high)
                                    : make_float2(0.0f, 0.0f);
            }
            const float own = to_float(row[label]);
            float top = -INFINITY, zero = 0.0f;  // NaN if a number is not finite
#pragma unroll 4
            for (int c = 0; c < pieces; c += 32) {
                float value[kCount];
                Piece<T>(row, min(c + lane, pieces - 1)).get(value);
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
            if (bad && lane == 0) {
                note(&findings->non_finite, &findings->first_non_finite, unit * kRows + step);
            }
            float sums[kN] = {}, scale[kN];
#pragma unroll
            for (int j = 0; j < kN; ++j) scale[j] = keep[j].x + keep[j].y;
#pragma unroll 1
            for (int i = lane; i < pieces; i += 32) {
                float value[kCount];
                Piece<T>(row, i).get(value);
#pragma unroll
                for (int v = 0; v < kCount; ++v) value[v] -= top;
#pragma unroll
                for (int v = 0; v < kCount; v += 4) {
#pragma unroll
                    for (int j = 0; j < kN; ++j) {
                        float term[4];
#pragma unroll
                        for (int u = 0; u < 4; ++u) {
                            term[u] = power_of_two_of(scale[j] * value[v + u]);
                        }
                        sums[j] += (term[0] + term[1]) + (term[2] + term[3]);
                    }
                }
            }
            const double sum = spread_sums<kN>(sums, lane);
            if (lane % kWaiting == step % kWaiting) {
                waiting_sum = sum;
                waiting_top = top;
                waiting_own = own;
                waiting_label = label;
            }
            if (step % kWaiting == kWaiting - 1 || step + 1 == steps) {
                if (waiting_label >= 0 && own_time < times) {
                    const Decay& w =
                        decay[static_cast<std::int64_t>(waiting_label) * times + own_time];
                    const double own_power = w.keep * (static_cast<double>(waiting_own) -
                                                       static_cast<double>(waiting_top));
                    score += w.gain + own_power - log(waiting_sum + w.more * exp(own_power));
                }
                waiting_label = -1;
            }
        }
        score = group_sum(score, kWaiting);
        if (lane % kWaiting == 0) unit_score[unit * kN + own_time] = score;
        unit = ahead;
        unit_label = ahead_label;
    }
    wait_for_groups<0>();
    __syncthreads();
    // Thread t takes time t % kN of every blockDim.x / kN-th unit of the block.
    double total = 0.0;
    const std::int64_t apart = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kN);
    for (std::int64_t u = blockIdx.x + static_cast<std::int64_t>(gridDim.x) * (threadIdx.x / kN);
         u < units; u += apart) {
        total += unit_score[u * kN + threadIdx.x % kN];
    }
#pragma unroll
    for (int mask = 16; mask >= kN; mask /= 2) total += __shfl_xor_sync(kAllLanes, total, mask);
    if (lane < kN) totals[warp][lane] = total;
    __syncthreads();
    if (threadIdx.x < times) {
        total = 0.0;
        for (int w = 0; w < warps; ++w) total += totals[w][threadIdx.x];
        partial[static_cast<std::int64_t>(blockIdx.x) * times + threadIdx.x] = total;
    }
}

}  // namespace cuda
}  // namespace lead_fast
