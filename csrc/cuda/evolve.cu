// Closed-form evolution, and its cross-entropy where E is read as a distribution. The other
// cross-entropy is in evolve_logits.cu.

#include <algorithm>

#include "evolve.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned long long kNone = ~0ull;

// decay[c, j] for rate c and time j. given: rates (classes), then t (times). Thread (c, j).
__global__ void decay_kernel(const double* __restrict__ given, std::int64_t classes, int times,
                             Decay* __restrict__ decay) {
    const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (at >= classes * times) return;
    const double rate = given[at / times], t = given[classes + at % times];
    const double x = rate == 0.0 ? 0.0 : rate * t;  // a rate of 0 never moves
    const double smallest = 0x1p-149;
    Decay d;
    d.keep = exp(-x);
    d.gain = -expm1(-x);
    d.more = expm1(d.gain);
    const double scaled = d.keep * 1.4426950408889634;  // log2(e)
    d.high = fmaxf(__double2float_rz(scaled), static_cast<float>(smallest));
    d.low = fmaxf(static_cast<float>(fmax(scaled - static_cast<double>(d.high), smallest)),
                  static_cast<float>(smallest));
    decay[at] = d;
}

// score[j] = sum_b partial[b, j] / n, in a fixed order. Block j.
__global__ void mean_kernel(const double* __restrict__ partial, int blocks, int times,
                            std::int64_t n, double* __restrict__ score) {
    __shared__ double slots[kThreads / 32];
    double sum = 0.0;
    for (int b = threadIdx.x; b < blocks; b += kThreads) sum += partial[b * times + blockIdx.x];
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) score[blockIdx.x] = sum / static_cast<double>(n);
}

// evolved[i, :] = keep p_i + gain onehot(y_i). A group of `lanes` (a power of two up to 32)
// neighbouring threads per row; float64 throughout.
template <class T>
__global__ void evolve_kernel(const void* x, std::int64_t row_bytes, std::int64_t n,
                              std::int64_t classes, const std::int32_t* __restrict__ labels,
                              const Decay* __restrict__ decay, int lanes,
                              double* __restrict__ evolved, DeviceFindings* findings) {
    const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads / lanes;
    const int lane = threadIdx.x % lanes;
    for (std::int64_t i = thread / lanes; i < n; i += stride) {
        const T* const p = row_of<T>(x, row_bytes, i);
        const std::int32_t y = labels[i];
        const double keep = decay[y].keep, gain = decay[y].gain;
        bool bad = false;
        for (std::int64_t k = lane; k < classes; k += lanes) {
            const double value = to_double(p[k]);
            bad = bad || !isfinite(value);
            evolved[i * classes + k] = keep * value + (k == y ? gain : 0.0);
        }
        // One note per row: only the lowest lane that saw something writes it. The lanes of a group
        // are in step, but groups of a warp may leave the loop apart.
        const unsigned group = (lanes == 32 ? kAllLanes : (1u << lanes) - 1u)
                               << (threadIdx.x % 32 / lanes * lanes);
        const unsigned seen = __ballot_sync(group, bad);
        if (seen != 0 && lane == 0) note(&findings->non_finite, &findings->first_non_finite, i);
    }
}

// partial[block, j] = sum over this block's rows of log E_i[y_i] at time j. A thread per row;
// float64. `own`: column y_i, or column 0 where only_label.
template <class T>
__global__ void distribution_kernel(const void* x, std::int64_t row_bytes, std::int64_t n,
                                    bool only_label, const std::int32_t* __restrict__ labels,
                                    const Decay* __restrict__ decay, int times,
                                    double* __restrict__ partial, DeviceFindings* findings) {
    __shared__ double slots[kTimes][kThreads / 32];
    double sum[kTimes] = {};
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n;
         i += stride) {
        const std::int32_t y = labels[i];
        const double p = to_double(row_of<T>(x, row_bytes, i)[only_label ? 0 : y]);
        if (!isfinite(p)) {
            note(&findings->non_finite, &findings->first_non_finite, i);
        } else if (p < -1e-6 || p > 1.0 + 1e-3) {
            note(&findings->outside, &findings->first_outside, i);
        }
        const Decay* const d = decay + static_cast<std::int64_t>(y) * times;
#pragma unroll
        for (int j = 0; j < kTimes; ++j) {
            if (j < times) {
                // Two forms of one number: E = gain + keep p, and 1 - E = keep (1 - p). Each keeps
                // its digits where the other loses them.
                const double e = d[j].gain + d[j].keep * p;
                sum[j] += e < 0.5 ? log(e) : log1p(-d[j].keep * (1.0 - p));
            }
        }
    }
#pragma unroll
    for (int j = 0; j < kTimes; ++j) {
        if (j < times) {
            const double total = block_sum(sum[j], slots[j]);
            if (threadIdx.x == 0) {
                partial[static_cast<std::int64_t>(blockIdx.x) * times + j] = total;
            }
        }
    }
}

unsigned blocks_for(const Call& call, std::int64_t threads) {
    const std::int64_t needed = (threads + kThreads - 1) / kThreads;
    return static_cast<unsigned>(std::clamp<std::int64_t>(needed, 1, 8 * call.facts().processors));
}

}  // namespace

Evolution::Evolution(const Call& call, const double* rates, int classes, const double* t, int times)
    : call_(call),
      times_(times),
      decay_(call, static_cast<std::int64_t>(classes) * times),
      score_(call, times),
      findings_(call, 1) {
    std::vector<double> given(rates, rates + classes);
    given.insert(given.end(), t, t + times);
    const Buffer<double> device_given(call, static_cast<std::int64_t>(given.size()));
    device_given.upload(given.data(), static_cast<std::int64_t>(given.size()));
    const DeviceFindings none{0, kNone, 0, kNone};
    findings_.upload(&none, 1);
    const std::int64_t cells = static_cast<std::int64_t>(classes) * times;
    decay_kernel<<<static_cast<unsigned>((cells + kThreads - 1) / kThreads), kThreads, 0,
                   call.stream()>>>(device_given.data(), classes, times, decay_.data());
    LEAD_FAST_LAUNCHED(decay_kernel, call.stream());
}

void Evolution::mean(const double* partial, int blocks, std::int64_t n, double* score) const {
    mean_kernel<<<static_cast<unsigned>(times_), kThreads, 0, call_.stream()>>>(
        partial, blocks, times_, n, score_.data());
    LEAD_FAST_LAUNCHED(mean_kernel, call_.stream());
    score_.download(score, times_);
}

Findings Evolution::finish() const {
    DeviceFindings found;
    findings_.download(&found, 1);
    call_.synchronize();
    Findings out;
    out.non_finite = static_cast<std::int64_t>(found.non_finite);
    out.outside = static_cast<std::int64_t>(found.outside);
    if (out.non_finite > 0) {
        out.first_non_finite = static_cast<std::int64_t>(found.first_non_finite);
    }
    if (out.outside > 0) out.first_outside = static_cast<std::int64_t>(found.first_outside);
    return out;
}

Findings evolve_logits(const Call& call, const FeatureMatrix& initial, const std::int32_t* labels,
                       const double* rates, double t, double* evolved) {
    if (initial.n == 0) return {};
    const Evolution evolution(call, rates, static_cast<int>(initial.d), &t, 1);
    int lanes = 1;
    while (lanes < 32 && lanes < initial.d) lanes *= 2;
    with_type(initial.dtype, [&](auto type) {
        evolve_kernel<decltype(type)>
            <<<blocks_for(call, initial.n * lanes), kThreads, 0, call.stream()>>>(
                initial.data, initial.row_bytes, initial.n, initial.d, labels, evolution.decay(),
                lanes, evolved, evolution.findings());
    });
    LEAD_FAST_LAUNCHED(evolve_kernel, call.stream());
    return evolution.finish();
}

Findings evolved_score_distribution(const Call& call, const FeatureMatrix& initial, bool only_label,
                                    const std::int32_t* labels, const double* rates, int classes,
                                    const double* t, int times, double* score) {
    Findings found;
    const unsigned blocks = blocks_for(call, initial.n);
    for (int first = 0; first < times; first += kTimes) {
        const int count = std::min(kTimes, times - first);
        const Evolution evolution(call, rates, classes, t + first, count);
        const Buffer<double> partial(call, static_cast<std::int64_t>(blocks) * count);
        with_type(initial.dtype, [&](auto type) {
            distribution_kernel<decltype(type)><<<blocks, kThreads, 0, call.stream()>>>(
                initial.data, initial.row_bytes, initial.n, only_label, labels, evolution.decay(),
                count, partial.data(), evolution.findings());
        });
        LEAD_FAST_LAUNCHED(distribution_kernel, call.stream());
        evolution.mean(partial.data(), static_cast<int>(blocks), initial.n, score + first);
        found = evolution.finish();
    }
    return found;
}

}  // namespace cuda
}  // namespace lead_fast
