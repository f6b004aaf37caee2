// As lead_fast/metrics/_mixture_arrays.py has it in array operations, some fourteen launches for a
// draw and thirteen for a round. Here a draw is two kernels and a product, a round four and two.

#include <algorithm>
#include <cmath>

#include "kmeans.h"
#include "sample_sums.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr std::int64_t kMostChunks = 1024;  // of the samples, with a partial sum each
static_assert(kWarps == kTrials, "a warp draws one candidate");

// Candidates for a centre: their rows, squared lengths and products with all samples (n, kTrials).
template <class T>
struct Candidates {
    std::int64_t* rows;
    double* norms;
    T* products;
};

// Samples and what is known of their distances. `nearest` (n) is the squared distance from the
// nearest centre but for the last one chosen.
template <class T>
struct Distances {
    std::int64_t n, c, chunk;
    const T* z;
    const T* norms;
    double* nearest;

    // From candidate t, or from a centre that is nearer.
    __device__ double within(double known, std::int64_t i, const Candidates<T>& of, int t) const {
        const double product = static_cast<double>(of.products[i * kTrials + t]);
        const double squared = static_cast<double>(norms[i]) + of.norms[t] - 2.0 * product;
        return fmin(fmax(squared, 0.0), known);
    }
};

// The first place whose sum of value(0), ..., value(place) is not below `target`, from `sum` on,
// which is brought to what lies before it; count - 1 if there is none. A whole warp.
template <class Value>
__device__ std::int64_t place_of(double target, std::int64_t count, double& sum, Value value) {
    const int lane = threadIdx.x % 32;
    for (std::int64_t base = 0; base < count; base += 32) {
        const double mine = base + lane < count ? value(base + lane) : 0.0;
        double up_to = mine;
        for (int step = 1; step < 32; step *= 2) {
            const double other = __shfl_sync(kAllLanes, up_to, lane - step);
            if (lane >= step) up_to += other;
        }
        const bool last = base + 32 >= count;
        const unsigned reached =
            __ballot_sync(kAllLanes, sum + up_to >= target || (last && base + lane == count - 1));
        if (reached != 0) {
            const int first = __ffs(static_cast<int>(reached)) - 1;
            sum += __shfl_sync(kAllLanes, up_to - mine, first);
            return base + first;
        }
        sum += __shfl_sync(kAllLanes, up_to, 31);
    }
    return count - 1;
}

// Keeps the best of the candidates before, by partial (chunks, kTrials), and draws the next ones;
// the sample `first` where none are before, none where draws is null. A warp for each candidate.
template <class T>
__global__ void __launch_bounds__(kThreads)
    draw_kernel(Distances<T> d, std::int64_t chunks, const double* __restrict__ partial,
                std::int64_t first, const double* __restrict__ draws, Candidates<T> before,
                Candidates<T> next, T* __restrict__ drawn, int* __restrict__ best,
                std::int64_t* __restrict__ chosen) {
    __shared__ double totals[kTrials];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    std::int64_t row = first;
    if (partial != nullptr) {
        double sum = 0.0;
        for (std::int64_t b = lane; b < chunks; b += 32) sum += partial[b * kTrials + warp];
        sum = group_sum(sum);
        if (lane == 0) totals[warp] = sum;
        __syncthreads();
        int kept = 0;
        for (int t = 1; t < kTrials; ++t) {
            if (totals[t] < totals[kept]) kept = t;
        }
        if (threadIdx.x == 0) {
            *best = kept;
            *chosen = before.rows[kept];
        }
        if (draws == nullptr) return;
        const double target = draws[warp] * totals[kept];
        sum = 0.0;
        const std::int64_t at = place_of(
            target, chunks, sum, [&](std::int64_t b) { return partial[b * kTrials + kept]; });
        const std::int64_t start = at * d.chunk;
        const std::int64_t count = d.n - start < d.chunk ? d.n - start : d.chunk;
        row = start + place_of(target, count, sum, [&](std::int64_t i) {
                  return d.within(d.nearest[start + i], start + i, before, kept);
              });
    }
    for (std::int64_t j = lane; j < d.c; j += 32) drawn[warp * d.c + j] = d.z[row * d.c + j];
    if (lane == 0) {
        next.rows[warp] = row;
        next.norms[warp] = static_cast<double>(d.norms[row]);
    }
}

// Brings `nearest` up to date with candidate `best` of those before, which is null in the first
// step, and adds up what it would be with each of the next ones, partial (chunks, kTrials). Block:
// a chunk.
template <class T>
__global__ void __launch_bounds__(kThreads)
    trial_kernel(Distances<T> d, const int* __restrict__ best, Candidates<T> before,
                 Candidates<T> next, double* __restrict__ partial) {
    __shared__ double slots[kTrials][kWarps];
    const std::int64_t start = blockIdx.x * d.chunk;
    const std::int64_t end = d.n - start < d.chunk ? d.n : start + d.chunk;
    double sums[kTrials] = {};
    for (std::int64_t i = start + threadIdx.x; i < end; i += kThreads) {
        const double known = best == nullptr ? INFINITY : d.within(d.nearest[i], i, before, *best);
        d.nearest[i] = known;
#pragma unroll
        for (int t = 0; t < kTrials; ++t) sums[t] += d.within(known, i, next, t);
    }
#pragma unroll
    for (int t = 0; t < kTrials; ++t) {
        const double sum = block_sum(sums[t], slots[t]);
        if (threadIdx.x == 0) partial[blockIdx.x * kTrials + t] = sum;
    }
}

// The larger of two products, the first of equal ones.
template <class T>
__device__ __forceinline__ void larger(T value, int place, T& most, int& which) {
    if (value > most || (value == most && place < which)) {
        most = value;
        which = place;
    }
}

// Products (n, count) become 1 at the largest of each row and 0 elsewhere, labels (n) its place;
// changed (blocks): how many differ from before. A warp takes a sample at a time.
template <class T>
__global__ void __launch_bounds__(kThreads)
    assign_kernel(std::int64_t n, int count, T* __restrict__ products,
                  std::int64_t* __restrict__ labels, double* __restrict__ changed) {
    __shared__ double slots[kWarps];
    const int lane = threadIdx.x % 32;
    double others = 0.0;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; i < n;
         i += static_cast<std::int64_t>(gridDim.x) * kWarps) {
        T* const own = products + i * count;
        T most = static_cast<T>(-INFINITY);
        int which = lane < count ? lane : 0;
        for (int k = lane; k < count; k += 32) larger(own[k], k, most, which);
        for (int step = 16; step > 0; step /= 2) {
            const T value = __shfl_xor_sync(kAllLanes, most, step);
            const int place = __shfl_xor_sync(kAllLanes, which, step);
            larger(value, place, most, which);
        }
        for (int k = lane; k < count; k += 32) own[k] = k == which ? T(1) : T(0);
        if (lane == 0) {
            if (labels[i] != which) others += 1.0;
            labels[i] = which;
        }
    }
    others = block_sum(others, slots);
    if (threadIdx.x == 0) changed[blockIdx.x] = others;
}

// A centre (width) goes to the mean of its samples' sums (width), the last of which is their
// number; moved (count): the square of its way. Block: a centre.
template <class T>
__global__ void __launch_bounds__(kThreads)
    centre_kernel(std::int64_t width, const T* __restrict__ sums, const T* __restrict__ from,
                  T* __restrict__ to, double* __restrict__ moved) {
    __shared__ double slots[2][kWarps];
    const std::int64_t base = blockIdx.x * width, c = width - 1;
    const T size = sums[base + c];
    double way = 0.0, length = 0.0;
    for (std::int64_t j = threadIdx.x; j < c; j += kThreads) {
        const T before = from[base + j], value = size > T(0) ? sums[base + j] / size : before;
        const double gap = static_cast<double>(value) - static_cast<double>(before);
        to[base + j] = value;
        way += gap * gap;
        length += static_cast<double>(value) * static_cast<double>(value);
    }
    way = block_sum(way, slots[0]);
    length = block_sum(length, slots[1]);
    if (threadIdx.x == 0) {
        to[base + c] = static_cast<T>(-0.5 * length);
        moved[blockIdx.x] = way;
    }
}

}  // namespace

template <class T>
void kmeans_first(const Call& call, const T* z, const T* norms, std::int64_t n, std::int64_t c,
                  std::int64_t count, std::int64_t first, const double* draws,
                  std::int64_t* chosen) {
    const std::int64_t chunk = std::max<std::int64_t>(128, (n + kMostChunks - 1) / kMostChunks);
    const std::int64_t chunks = (n + chunk - 1) / chunk;
    const Buffer<double> nearest(call, n), partial(call, chunks * kTrials),
        sizes(call, 2 * kTrials);
    const Buffer<std::int64_t> rows(call, 2 * kTrials);
    const Buffer<T> products(call, 2 * n * kTrials), drawn(call, kTrials * c);
    const Buffer<int> best(call, 1);
    const Blas blas(call);
    const Distances<T> distances{n, c, chunk, z, norms, nearest.data()};
    const auto candidates = [&](std::int64_t step) {
        const std::int64_t half = step % 2;
        return Candidates<T>{rows.data() + half * kTrials, sizes.data() + half * kTrials,
                             products.data() + half * n * kTrials};
    };
    for (std::int64_t step = 0; step <= count; ++step) {
        const Candidates<T> before = candidates(step + 1), next = candidates(step);
        const bool more = step > 0 && step < count;
        draw_kernel<T><<<1, kThreads, 0, call.stream()>>>(
            distances, chunks, step > 0 ? partial.data() : nullptr, first,
            more ? draws + (step - 1) * kTrials : nullptr, before, next, drawn.data(), best.data(),
            chosen + std::max<std::int64_t>(step - 1, 0));
        LEAD_FAST_LAUNCHED(draw_kernel, call.stream());
        if (step == count) break;
        blas.multiply(n, kTrials, c, FactorOf<T>{z, c}, FactorOf<T>{drawn.data(), c, true}, T(0),
                      next.products, kTrials);
        trial_kernel<T><<<grid(chunks), kThreads, 0, call.stream()>>>(
            distances, step > 0 ? best.data() : nullptr, before, next, partial.data());
        LEAD_FAST_LAUNCHED(trial_kernel, call.stream());
    }
}

template <class T>
void kmeans_rounds(const Call& call, const T* z, std::int64_t n, std::int64_t width,
                   std::int64_t count, int rounds, T* centres, std::int64_t* labels, double* ends) {
    const std::int64_t blocks = sum_blocks(call, n, kWarps), cells = count * width;
    const Buffer<T> products(call, n * count), sums(call, cells);
    const Buffer<double> changed(call, blocks), moved(call, count), found(call, 2 * rounds);
    const Blas blas(call);
    for (int r = 0; r < rounds; ++r) {
        const T* const from = centres + r * cells;
        blas.multiply(n, count, width, FactorOf<T>{z, width}, FactorOf<T>{from, width, true}, T(0),
                      products.data(), count);
        assign_kernel<T><<<grid(blocks), kThreads, 0, call.stream()>>>(
            n, static_cast<int>(count), products.data(), labels, changed.data());
        LEAD_FAST_LAUNCHED(assign_kernel, call.stream());
        blas.multiply(count, width, n, FactorOf<T>{products.data(), count, true},
                      FactorOf<T>{z, width}, T(0), sums.data(), width);
        centre_kernel<T><<<grid(count), kThreads, 0, call.stream()>>>(
            width, sums.data(), from, centres + (r + 1) * cells, moved.data());
        LEAD_FAST_LAUNCHED(centre_kernel, call.stream());
        fold(call, changed.data(), blocks, 1, false, found.data() + 2 * r);
        fold(call, moved.data(), count, 1, false, found.data() + 2 * r + 1);
    }
    found.download(ends, 2 * rounds);
    call.synchronize();
}

template void kmeans_first(const Call&, const float*, const float*, std::int64_t, std::int64_t,
                           std::int64_t, std::int64_t, const double*, std::int64_t*);
template void kmeans_first(const Call&, const double*, const double*, std::int64_t, std::int64_t,
                           std::int64_t, std::int64_t, const double*, std::int64_t*);
template void kmeans_rounds(const Call&, const float*, std::int64_t, std::int64_t, std::int64_t,
                            int, float*, std::int64_t*, double*);
template void kmeans_rounds(const Call&, const double*, std::int64_t, std::int64_t, std::int64_t,
                            int, double*, std::int64_t*, double*);

}  // namespace cuda
}  // namespace lead_fast
