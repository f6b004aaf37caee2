// The cross-entropy of the evolved state read as logits, from one read of the initial state.
//
//   log_softmax(E_i)[y] = e - log(exp(e) + sum_{k != y} exp(keep p_k)),   e = gain + keep p_y
//
// With top = max_{k != y} p_k the sum is exp(keep top) S, S = sum_{k != y} exp(keep (p_k - top))
// >= 1. The terms of S are float32: the differences are exact where the terms are large, keep *
// log2(e) has two parts, and ex2.approx has a relative error below 2^-22; flushing terms below
// 2^-126 to zero does not matter beside the 1 in S. Sums of more than a thread's terms, and all
// that follows, are float64.

#include <algorithm>
#include <type_traits>

#include "evolve.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr std::int64_t kWidest = 1024;  // classes that a warp holds in registers

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

// V numbers of a row for each lane of a group of G, in 16-byte loads where kVector.
template <class T, int G, int V, bool kVector>
struct Line {
    static constexpr int kWide = kVector ? 16 / static_cast<int>(sizeof(T)) : 1;
    static constexpr int kLoads = V / kWide;
    static_assert(V % kWide == 0, "whole loads");

    struct alignas(kVector ? 16 : sizeof(T)) Load {
        T value[kWide];
    };
    Load load[kLoads];

    static __device__ __forceinline__ int column(int lane, int v) {
        return (v / kWide * G + lane) * kWide + v % kWide;
    }
    // Columns from `classes` on are left as they are.
    __device__ __forceinline__ void read(const T* row, int lane, int classes) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
            const int at = (i * G + lane) * kWide;
            if (at < classes) load[i] = *reinterpret_cast<const Load*>(row + at);
        }
    }
    __device__ __forceinline__ float get(int v) const {
        return to_float(load[v / kWide].value[v % kWide]);
    }
};

// partial[block, j] = sum over this block's rows of their scores at time j, for classes <= G V.
//
// A warp takes 32 rows at a time: G lanes hold a row in registers, 32 / G rows side by side, so G
// steps find S, top and p_y of all 32; then each lane finishes one row in float64. The next step's
// rows are on their way while this one's are worked on. kVector needs rows that start on 16 bytes
// and hold whole 16-byte pieces.
template <class T, int G, int V, bool kVector>
__global__ void __launch_bounds__(kThreads, 2)
    logits_kernel(const void* x, std::int64_t row_bytes, std::int64_t n, int classes,
                  const std::int32_t* __restrict__ labels, const Decay* __restrict__ decay,
                  int times, double* __restrict__ partial, DeviceFindings* findings) {
    __shared__ double sums[kWarps][kTimes][32];
    __shared__ float tops[kWarps][32], owns[kWarps][32];
    __shared__ double score[kWarps][kTimes];
    constexpr int kSide = 32 / G;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int group = lane / G, member = lane % G;
    if (lane < kTimes) score[warp][lane] = 0.0;
    __syncwarp();

    const std::int64_t tiles = (n + 31) / 32;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
    std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp;
    Line<T, G, V, kVector> next;
    std::int32_t next_label = 0;
    const auto fetch = [&](std::int64_t row) {
        if (row >= n) return;
        next.read(row_of<T>(x, row_bytes, row), member, classes);
        next_label = labels[row];
    };
    if (tile < tiles) fetch(tile * 32 + group);
    for (; tile < tiles; tile += stride) {
        for (int step = 0; step < G; ++step) {
            const int place = step * kSide + group;
            const std::int64_t row = tile * 32 + place;
            const bool inside = row < n;
            const Line<T, G, V, kVector> line = next;
            const std::int32_t label = next_label;
            fetch(step + 1 < G ? row + kSide : (tile + stride) * 32 + group);

            float value[V];
            float zero = 0.0f, own = 0.0f, top = -INFINITY;
            bool has_own = false;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const int k = Line<T, G, V, kVector>::column(member, v);
                float p = -INFINITY;
                if (inside && k < classes) {
                    p = line.get(v);
                    zero += 0.0f * p;  // NaN if p is not finite
                }
                if (k == label) {
                    own = p;
                    has_own = true;
                    p = -INFINITY;  // the label's term is added by itself
                }
                value[v] = p;
                top = fmaxf(top, p);
            }
#pragma unroll
            for (int mask = G / 2; mask > 0; mask /= 2) {
                top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, mask));
            }
            if (has_own) owns[warp][place] = own;
            if (member == 0) tops[warp][place] = top;
            const unsigned bad = __ballot_sync(kAllLanes, inside && !(zero == 0.0f));
            if (bad != 0) {
                const unsigned mine = G == 32 ? kAllLanes : ((1u << G % 32) - 1u) << (group * G);
                if (member == 0 && (bad & mine) != 0) {
                    note(&findings->non_finite, &findings->first_non_finite, row);
                }
            }
#pragma unroll
            for (int v = 0; v < V; ++v) value[v] -= top;
            const Decay* const d = decay + static_cast<std::int64_t>(label) * times;
            for (int j = 0; j < times; ++j) {
                const float high = d[j].high, low = d[j].low;
                float part[V < 4 ? V : 4] = {};
#pragma unroll
                for (int v = 0; v < V; ++v) {
                    part[v % 4] += power_of_two_of(fmaf(high, value[v], low * value[v]));
                }
                double sum = part[0];
#pragma unroll
                for (int i = 1; i < (V < 4 ? V : 4); ++i) sum += part[i];
                sum = group_sum(sum, G);
                if (member == 0) sums[warp][j][place] = sum;
            }
        }
        __syncwarp();
        const std::int64_t row = tile * 32 + lane;
        const bool inside = row < n;
        const Decay* const d =
            decay + (inside ? static_cast<std::int64_t>(labels[row]) * times : 0);
        const double own = owns[warp][lane], top = tops[warp][lane];
        for (int j = 0; j < times; ++j) {
            double value =
                inside ? row_score(d[j], own, top, sums[warp][j][lane], classes > 1) : 0.0;
            value = group_sum(value);
            if (lane == 0) score[warp][j] += value;
        }
        __syncwarp();
    }
    __syncthreads();
    if (threadIdx.x < times) {
        double total = 0.0;
        for (int w = 0; w < kWarps; ++w) total += score[w][threadIdx.x];
        partial[static_cast<std::int64_t>(blockIdx.x) * times + threadIdx.x] = total;
    }
}

// The same for any number of classes, and for float64: a block per row. `staged`: the row is kept
// in shared memory and read once; else it is read twice.
template <class T>
__global__ void __launch_bounds__(kThreads)
    wide_logits_kernel(const void* x, std::int64_t row_bytes, std::int64_t n, std::int64_t classes,
                       bool staged, const std::int32_t* __restrict__ labels,
                       const Decay* __restrict__ decay, int times, double* __restrict__ partial,
                       DeviceFindings* findings) {
    using Real = std::conditional_t<std::is_same<T, double>::value, double, float>;
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ Real tops[kWarps];
    __shared__ int bad[kWarps];
    __shared__ double sums[kTimes][kWarps];
    T* const stage = reinterpret_cast<T*>(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    double score = 0.0;  // of time threadIdx.x
    for (std::int64_t row = blockIdx.x; row < n; row += gridDim.x) {
        const T* const p = row_of<T>(x, row_bytes, row);
        const std::int32_t label = labels[row];
        Real top = -INFINITY, zero = 0;
#pragma unroll 8
        for (std::int64_t k = threadIdx.x; k < classes; k += kThreads) {
            const T raw = p[k];
            if (staged) stage[k] = raw;
            const Real value = std::is_same<T, double>::value ? static_cast<Real>(to_double(raw))
                                                              : static_cast<Real>(to_float(raw));
            zero += Real(0) * value;
            if (k != label) top = value > top ? value : top;
        }
        for (int mask = 16; mask > 0; mask /= 2) {
            const Real other = __shfl_xor_sync(kAllLanes, top, mask);
            top = other > top ? other : top;
        }
        const bool any = __any_sync(kAllLanes, !(zero == Real(0)));
        if (lane == 0) {
            tops[warp] = top;
            bad[warp] = any ? 1 : 0;
        }
        __syncthreads();
        int flags = 0;
        for (int w = 0; w < kWarps; ++w) {
            top = tops[w] > top ? tops[w] : top;
            flags |= bad[w];
        }
        if (threadIdx.x == 0 && flags != 0) {
            note(&findings->non_finite, &findings->first_non_finite, row);
        }
        const Decay* const d = decay + static_cast<std::int64_t>(label) * times;
        float high[kTimes], low[kTimes], part[kTimes] = {};
        double sum[kTimes] = {};
#pragma unroll
        for (int j = 0; j < kTimes; ++j) {
            high[j] = j < times ? d[j].high : 0.0f;
            low[j] = j < times ? d[j].low : 0.0f;
        }
        int terms = 0;
        for (std::int64_t k = threadIdx.x; k < classes; k += kThreads) {
            if (k == label) continue;
            const T raw = staged ? stage[k] : p[k];
            const Real value = std::is_same<T, double>::value ? static_cast<Real>(to_double(raw))
                                                              : static_cast<Real>(to_float(raw));
            const float difference = static_cast<float>(value - top);
#pragma unroll
            for (int j = 0; j < kTimes; ++j) {
                if (j < times) {
                    part[j] += power_of_two_of(fmaf(high[j], difference, low[j] * difference));
                }
            }
            if (++terms == 32) {  // float32 sums stay short
#pragma unroll
                for (int j = 0; j < kTimes; ++j) {
                    sum[j] += part[j];
                    part[j] = 0.0f;
                }
                terms = 0;
            }
        }
#pragma unroll
        for (int j = 0; j < kTimes; ++j) {
            if (j < times) {
                const double total = group_sum(sum[j] + part[j]);
                if (lane == 0) sums[j][warp] = total;
            }
        }
        __syncthreads();
        if (threadIdx.x < times) {
            double total = 0.0;
            for (int w = 0; w < kWarps; ++w) total += sums[threadIdx.x][w];
            score += row_score(d[threadIdx.x], to_double(p[label]), top, total, classes > 1);
        }
        // The next row's writes to `sums` come after its first barrier, those to `stage`, `tops`
        // and `bad` after this row's second: every read of this row is before them.
    }
    if (threadIdx.x < times) {
        partial[static_cast<std::int64_t>(blockIdx.x) * times + threadIdx.x] = score;
    }
}

template <class Kernel>
int resident_blocks(const Call& call, Kernel kernel, std::size_t shared) {
    int blocks = 0;
    LEAD_FAST_CHECK(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, shared));
    return std::max(blocks, 1) * call.facts().processors;
}

// The arguments that all kernels take, and the sum over their blocks.
struct Pass {
    const Call& call;
    const FeatureMatrix& initial;
    const std::int32_t* labels;
    const Evolution& evolution;
    int times;
    double* score;

    template <class T, int G, int V, bool kVector>
    void narrow() const {
        const auto kernel = logits_kernel<T, G, V, kVector>;
        const std::int64_t wanted = ((initial.n + 31) / 32 + kWarps - 1) / kWarps;
        const int blocks =
            static_cast<int>(std::min<std::int64_t>(wanted, resident_blocks(call, kernel, 0)));
        const Buffer<double> partial(call, static_cast<std::int64_t>(blocks) * times);
        kernel<<<static_cast<unsigned>(blocks), kThreads, 0, call.stream()>>>(
            initial.data, initial.row_bytes, initial.n, static_cast<int>(initial.d), labels,
            evolution.decay(), times, partial.data(), evolution.findings());
        LEAD_FAST_LAUNCHED(logits_kernel, call.stream());
        evolution.mean(partial.data(), blocks, initial.n, score);
    }

    template <class T>
    void wide() const {
        const auto kernel = wide_logits_kernel<T>;
        const std::size_t row = static_cast<std::size_t>(initial.d) * sizeof(T);
        const bool staged = row + 4096 <= call.facts().block_memory;  // 4096: what is static
        const std::size_t shared = staged ? row : 0;
        LEAD_FAST_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(shared)));
        const int blocks = static_cast<int>(
            std::min<std::int64_t>(initial.n, resident_blocks(call, kernel, shared)));
        const Buffer<double> partial(call, static_cast<std::int64_t>(blocks) * times);
        kernel<<<static_cast<unsigned>(blocks), kThreads, shared, call.stream()>>>(
            initial.data, initial.row_bytes, initial.n, initial.d, staged, labels,
            evolution.decay(), times, partial.data(), evolution.findings());
        LEAD_FAST_LAUNCHED(wide_logits_kernel, call.stream());
        evolution.mean(partial.data(), blocks, initial.n, score);
    }

    template <class T>
    void run() const {
        const std::int64_t k = initial.d;
        constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
        const bool whole = k % kPiece == 0 && initial.row_bytes % 16 == 0 &&
                           reinterpret_cast<std::uintptr_t>(initial.data) % 16 == 0;
        if (k <= 4) return narrow<T, 4, 1, false>();
        if (k <= 8) return narrow<T, 8, 1, false>();
        if (k <= 16) return narrow<T, 16, 1, false>();
        if (k <= 32) return narrow<T, 32, 1, false>();
        if (k > kWidest) return wide<T>();
        if (whole) {
            if (k <= 256) return narrow<T, 32, 8, true>();
            if (k <= 512) return narrow<T, 32, 16, true>();
            return narrow<T, 32, 32, true>();
        }
        if (k <= 128) return narrow<T, 32, 4, false>();
        if (k <= 256) return narrow<T, 32, 8, false>();
        if (k <= 512) return narrow<T, 32, 16, false>();
        return narrow<T, 32, 32, false>();
    }
};

}  // namespace

Findings evolved_score_logits(const Call& call, const FeatureMatrix& initial,
                              const std::int32_t* labels, const double* rates, const double* t,
                              int times, double* score) {
    Findings found;
    if (initial.n == 0) return found;
    for (int first = 0; first < times; first += kTimes) {
        const int count = std::min(kTimes, times - first);
        const Evolution evolution(call, rates, static_cast<int>(initial.d), t + first, count);
        const Pass pass{call, initial, labels, evolution, count, score + first};
        switch (initial.dtype) {
            case DType::float32: pass.run<float>(); break;
            case DType::float16: pass.run<__half>(); break;
            case DType::bfloat16: pass.run<__nv_bfloat16>(); break;
            case DType::float64: pass.wide<double>(); break;
        }
        found = evolution.finish();
    }
    return found;
}

}  // namespace cuda
}  // namespace lead_fast
