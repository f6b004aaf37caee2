// The cross-entropy of the evolved state read as logits, from one read of the initial state.
//
//   log_softmax(E_i)[y] = e - log(exp(e) + sum_{k != y} exp(keep p_k)),   e = gain + keep p_y
//
// With top = max_{k != y} p_k the sum is exp(keep top) S, S = sum_{k != y} exp(keep (p_k - top))
// >= 1. The terms of S are float32: the differences are exact where the terms are large, keep *
// log2(e) has two parts, and ex2.approx has a relative error below 2^-22; flushing terms below
// 2^-126 to zero does not matter beside the 1 in S. Sums of more than a thread's terms, and all
// that follows, are float64. The kernel of evolve_staged.cuh does it a little differently.

#include <algorithm>
#include <type_traits>

#include "evolve_staged.cuh"
#include "evolve_terms.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr std::int64_t kWidest = 1024;  // classes that a warp takes by itself

// partial[block, j] = sum over this block's rows of their scores at time j, for classes <= G V,
// rows of any address.
//
// A warp takes 32 rows at a time: G lanes hold a row in registers, 32 / G rows side by side, so G
// steps find S and top of all 32; then each lane finishes one row in float64. Other warps hide the
// loads of one.
template <class T, int G, int V>
__global__ void __launch_bounds__(kThreads)
    logits_kernel(const void* x, std::int64_t row_bytes, std::int64_t n, int classes,
                  const std::int32_t* __restrict__ labels, const Decay* __restrict__ decay,
                  int times, double* __restrict__ partial, DeviceFindings* findings) {
    __shared__ double sums[kWarps][kTimes][32];
    __shared__ float tops[kWarps][32];
    __shared__ double score[kWarps][kTimes];
    constexpr int kSide = 32 / G;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int group = lane / G, member = lane % G;
    if (lane < kTimes) score[warp][lane] = 0.0;
    __syncwarp();

    const std::int64_t tiles = (n + 31) / 32;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
    for (std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp; tile < tiles;
         tile += stride) {
        const std::int64_t mine = tile * 32 + lane;
        const bool inside = mine < n;
        const std::int32_t own_label = inside ? labels[mine] : 0;
        for (int step = 0; step < G; ++step) {
            const int place = step * kSide + group;
            const std::int64_t row = tile * 32 + place;
            const std::int32_t label = __shfl_sync(kAllLanes, own_label, place);
            const int width = row < n ? classes : 0;
            const T* const p = row_of<T>(x, row_bytes, row);
            float value[V], zero = 0.0f, top = -INFINITY;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const int k = v * G + member;
                value[v] = k < width ? to_float(p[k]) : -INFINITY;
            }
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const int k = v * G + member;
                if (k < width) zero += 0.0f * value[v];  // NaN if it is not finite
                if (k == label) value[v] = -INFINITY;    // its term is added by itself
                top = fmaxf(top, value[v]);
            }
#pragma unroll
            for (int mask = G / 2; mask > 0; mask /= 2) {
                top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, mask));
            }
            if (member == 0) tops[warp][place] = top;
            const unsigned bad = __ballot_sync(kAllLanes, !(zero == 0.0f));
            if (bad != 0) {
                const unsigned group_lanes =
                    G == 32 ? kAllLanes : ((1u << G % 32) - 1u) << (group * G);
                if (member == 0 && (bad & group_lanes) != 0) {
                    note(&findings->non_finite, &findings->first_non_finite, row);
                }
            }
#pragma unroll
            for (int v = 0; v < V; ++v) value[v] -= top;
            const Decay* const d = decay + static_cast<std::int64_t>(label) * times;
            for (int j = 0; j < times; ++j) {
                Terms<(V < 4 ? V : 4)> terms;
                terms.add(d[j].high, d[j].low, value);
                const double sum = group_sum(static_cast<double>(terms.sum()), G);
                if (member == 0) sums[warp][j][place] = sum;
            }
        }
        __syncwarp();
        const Decay* const d = decay + static_cast<std::int64_t>(own_label) * times;
        const double own = inside ? to_double(row_of<T>(x, row_bytes, mine)[own_label]) : 0.0;
        const double top = tops[warp][lane];
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

    // A grid of as many blocks as fit, or fewer if `rows_per_block` rows each are enough.
    template <class Kernel>
    void launch(Kernel kernel, std::int64_t rows_per_block, std::size_t shared) const {
        const std::int64_t wanted = (initial.n + rows_per_block - 1) / rows_per_block;
        const int blocks =
            static_cast<int>(std::min<std::int64_t>(wanted, resident_blocks(call, kernel, shared)));
        const Buffer<double> partial(call, static_cast<std::int64_t>(blocks) * times);
        kernel<<<static_cast<unsigned>(blocks), kThreads, shared, call.stream()>>>(
            initial.data, initial.row_bytes, initial.n, static_cast<int>(initial.d), labels,
            evolution.decay(), times, partial.data(), evolution.findings());
        LEAD_FAST_LAUNCHED(kernel, call.stream());
        evolution.mean(partial.data(), blocks, initial.n, score);
    }

    template <class T, int G, int V>
    void narrow() const {
        launch(logits_kernel<T, G, V>, 32 * kWarps, 0);
    }

    template <class T, int kN>
    void staged_for() const {
        const auto kernel = staged_logits_kernel<T, kN>;
        const std::size_t rows = 2 * static_cast<std::size_t>(initial.d) * sizeof(T);  // of a warp
        const std::size_t most = call.facts().block_memory - 2560;  // 2560: what is static
        const std::size_t warps = std::min<std::size_t>(Staged<kN>::kWarps, most / rows);
        // Always the same, as other threads may be about to launch the same kernel.
        LEAD_FAST_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(most)));
        const std::int64_t units = (initial.n + Staged<kN>::kRows - 1) / Staged<kN>::kRows;
        const int blocks = static_cast<int>(std::min<std::int64_t>(units, call.facts().processors));
        const Buffer<double> unit_score(call, units * kN);
        const Buffer<double> partial(call, static_cast<std::int64_t>(blocks) * times);
        kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(32 * warps), rows * warps,
                 call.stream()>>>(initial.data, initial.row_bytes, initial.n,
                                  static_cast<int>(initial.d), labels, evolution.decay(), times,
                                  unit_score.data(), partial.data(), evolution.findings());
        LEAD_FAST_LAUNCHED(staged_logits_kernel, call.stream());
        evolution.mean(partial.data(), blocks, initial.n, score);
    }

    template <class T>
    void staged() const {
        if (times == 1) return staged_for<T, 1>();
        if (times == 2) return staged_for<T, 2>();
        if (times <= 4) return staged_for<T, 4>();
        return staged_for<T, kTimes>();
    }

    template <class T>
    void wide() const {
        const auto kernel = wide_logits_kernel<T>;
        const std::size_t row = static_cast<std::size_t>(initial.d) * sizeof(T);
        const bool staged = row + 4096 <= call.facts().block_memory;  // 4096: what is static
        const std::size_t shared = staged ? row : 0;
        LEAD_FAST_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(call.facts().block_memory - 4096)));
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
        if (k <= 4) return narrow<T, 4, 1>();
        if (k <= 8) return narrow<T, 8, 1>();
        if (k <= 16) return narrow<T, 16, 1>();
        if (k <= 32) return narrow<T, 32, 1>();
        if (k > kWidest) return wide<T>();
        if (whole) return staged<T>();
        if (k <= 128) return narrow<T, 32, 4>();
        if (k <= 256) return narrow<T, 32, 8>();
        if (k <= 512) return narrow<T, 32, 16>();
        return narrow<T, 32, 32>();
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
