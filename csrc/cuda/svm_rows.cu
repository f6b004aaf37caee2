// Passes over samples: one kernel each instead of a dozen elementwise ones. A thread takes a
// sample, whose formulas are in ../svm_rows.h. Where multipliers are moved, of up to 163 classes,
// the whole block brings its numbers to shared memory and back, so that reads and writes are of
// neighbours.

#include "sample_sums.cuh"
#include "svm_rows.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kRowThreads = 128;
constexpr int kShared = 46 * 1024;  // bytes for tiles, which every device has beside the sums

// An odd number of words between rows puts those of a warp into different banks.
__host__ __device__ constexpr int pitch_of(int classes) { return classes | 1; }

// Samples of a block, a thread each, that fit with two floats and a mask for each class; 0 if it is
// better not to bring them to shared memory.
int staged_rows(int classes) {
    if (classes < 4) return 0;
    const int bytes = 8 * pitch_of(classes) + classes;
    for (const int count : {128, 64, 32}) {
        if (count * bytes <= kShared) return count;
    }
    return 0;
}

// Calls body(r, k) for the cells of `count` rows, neighbours by neighbours.
template <class Body>
__device__ __forceinline__ void each_cell(int count, int classes, Body body) {
    const int across = static_cast<int>(blockDim.x) % classes;
    const int down = static_cast<int>(blockDim.x) / classes;
    int r = static_cast<int>(threadIdx.x) / classes, k = static_cast<int>(threadIdx.x) % classes;
    while (r < count) {
        body(r, k);
        r += down;
        k += across;
        if (k >= classes) {
            k -= classes;
            ++r;
        }
    }
}

struct Advance {
    RowProblem problem;
    std::int64_t n;
    int classes;
    const std::int32_t* labels;
    const float *f, *a;
    float rho;
    float *next, *coefficients;
    std::uint8_t* mask;
    float* weight;
    std::uint8_t* curved;
    double* partial;  // three totals of each block
};

// What a sample's report adds to a thread's totals.
struct Totals {
    double loss = 0.0, linear = 0.0, quadratic = 0.0;

    __device__ void take(const Advance& to, std::int64_t i, const RowReport& found) {
        to.weight[i] = found.weight;
        to.curved[i] = found.curved ? 1 : 0;
        loss += found.loss;
        linear += found.linear;
        quadratic += found.quadratic;
    }

    __device__ void write(double* partial) {
        __shared__ double slots[3][kRowThreads / 32];
        loss = block_sum(loss, slots[0]);
        linear = block_sum(linear, slots[1]);
        quadratic = block_sum(quadratic, slots[2]);
        if (threadIdx.x == 0) {
            partial[3 * blockIdx.x] = loss;
            partial[3 * blockIdx.x + 1] = linear;
            partial[3 * blockIdx.x + 2] = quadratic;
        }
    }
};

__global__ void __launch_bounds__(kRowThreads) advance_kernel(Advance to) {
    Totals totals;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
         i < to.n; i += stride) {
        const std::int64_t at = i * to.classes;
        totals.take(to, i,
                    advance_row(to.problem, to.classes, to.labels[i], to.f + at, to.a + at, to.rho,
                                to.next + at, to.coefficients + at, to.mask + at));
    }
    totals.write(to.partial);
}

// The same with the rows of a block in shared memory, where the multipliers replace those that they
// come from, and the coefficients the decision values: advance_row reads each before it writes.
__global__ void __launch_bounds__(kRowThreads) advance_staged_kernel(Advance to) {
    extern __shared__ float tiles[];
    const int classes = to.classes, pitch = pitch_of(classes), rows = static_cast<int>(blockDim.x);
    float* const f = tiles;
    float* const a = f + rows * pitch;
    std::uint8_t* const mask = reinterpret_cast<std::uint8_t*>(a + rows * pitch);
    Totals totals;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * rows;
    for (std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * rows; base < to.n;
         base += stride) {
        const int count = to.n - base < rows ? static_cast<int>(to.n - base) : rows;
        const std::int64_t at = base * classes;
        each_cell(count, classes, [&](int r, int k) {
            f[r * pitch + k] = to.f[at + r * classes + k];
            a[r * pitch + k] = to.a[at + r * classes + k];
        });
        __syncthreads();
        const int mine = static_cast<int>(threadIdx.x);
        if (mine < count) {
            float* const own_f = f + mine * pitch;
            float* const own_a = a + mine * pitch;
            totals.take(to, base + mine,
                        advance_row(to.problem, classes, to.labels[base + mine], own_f, own_a,
                                    to.rho, own_a, own_f, mask + mine * classes));
        }
        __syncthreads();
        each_cell(count, classes, [&](int r, int k) {
            to.next[at + r * classes + k] = a[r * pitch + k];
            to.coefficients[at + r * classes + k] = f[r * pitch + k];
            to.mask[at + r * classes + k] = mask[r * classes + k];
        });
        __syncthreads();
    }
    totals.write(to.partial);
}

struct Curve {
    RowProblem problem;
    std::int64_t first, n, stride;
    int classes;
    const std::int32_t* labels;
    const std::int64_t* names;
    const float* shift;
    const std::uint8_t* mask;
    const float* weight;
    float rho;
    float* values;

    __device__ std::int64_t sample(std::int64_t i) const {
        return names == nullptr ? first + i : names[first + i];
    }
};

__global__ void __launch_bounds__(kRowThreads) curve_kernel(Curve to) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= to.n) return;
    const std::int64_t sample = to.sample(i);
    float* const own = to.values + i * to.stride;
    curve_row(to.problem, to.classes, to.labels[sample], own, to.shift,
              to.mask + sample * to.classes, to.weight[sample], to.rho, own);
}

struct Slope {
    RowProblem problem;
    std::int64_t n;
    int classes;
    const std::int32_t* labels;
    const float *f, *a, *df, *t;
    float rho;

    // Of one class of ovr.
    __device__ double operator()(std::int64_t i, int k) const {
        const std::int64_t at = i * classes + k;
        return slope_cell(problem, labels[i] == k, f[at], a[at], df[at], t[k], rho);
    }
};

// partial[block] = the slopes of its samples, of ww or cs. Thread i.
__global__ void __launch_bounds__(kRowThreads) slope_kernel(Slope of, double* partial) {
    __shared__ double slots[kRowThreads / 32];
    const float step = *of.t;
    double sum = 0.0;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kRowThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
         i < of.n; i += stride) {
        const std::int64_t at = i * of.classes;
        sum += slope_row(of.problem, of.classes, of.labels[i], of.f + at, of.a + at, of.df + at,
                         step, of.rho);
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

}  // namespace

void advance_rows(const Call& call, const SvmRows& rows, const float* f, const float* a, float rho,
                  float* next, float* coefficients, std::uint8_t* mask, float* weight,
                  std::uint8_t* curved, double* totals) {
    const int staged = staged_rows(rows.classes);
    const int threads = staged > 0 ? staged : kRowThreads;
    const std::int64_t blocks = sum_blocks(call, rows.n, threads);
    const Buffer<double> partial(call, 3 * blocks);
    const Advance to{rows.problem,  rows.n, rows.classes, rows.labels, f,      a,
                     rho,           next,   coefficients, mask,        weight, curved,
                     partial.data()};
    if (staged > 0) {
        const int shared = threads * (8 * pitch_of(rows.classes) + rows.classes);
        advance_staged_kernel<<<grid(blocks), threads, shared, call.stream()>>>(to);
    } else {
        advance_kernel<<<grid(blocks), threads, 0, call.stream()>>>(to);
    }
    LEAD_FAST_LAUNCHED(advance_kernel, call.stream());
    fold(call, partial.data(), blocks, 3, false, totals);
}

void curve_rows(const Call& call, const SvmRows& rows, std::int64_t first, std::int64_t count,
                std::int64_t stride, const std::int64_t* names, const float* shift,
                const std::uint8_t* mask, const float* weight, float rho, float* values) {
    const std::int64_t blocks = (count + kRowThreads - 1) / kRowThreads;
    if (blocks == 0) return;
    const Curve to{rows.problem, first, count, stride, rows.classes, rows.labels,
                   names,        shift, mask,  weight, rho,          values};
    curve_kernel<<<grid(blocks), kRowThreads, 0, call.stream()>>>(to);
    LEAD_FAST_LAUNCHED(curve_kernel, call.stream());
}

void slope_rows(const Call& call, const SvmRows& rows, const float* f, const float* a,
                const float* df, const float* t, float rho, double* slopes) {
    const Slope of{rows.problem, rows.n, rows.classes, rows.labels, f, a, df, t, rho};
    if (!rows.coupled()) {
        sum_columns(call, rows.n, rows.classes, of, false, slopes);
        return;
    }
    const std::int64_t blocks = sum_blocks(call, rows.n, kRowThreads);
    const Buffer<double> partial(call, blocks);
    slope_kernel<<<grid(blocks), kRowThreads, 0, call.stream()>>>(of, partial.data());
    LEAD_FAST_LAUNCHED(slope_kernel, call.stream());
    fold(call, partial.data(), blocks, 1, false, slopes);
}

}  // namespace cuda
}  // namespace lead_fast
