// A step of Newton's method: a search along the direction (svm_direction.cu), and the move.

#include <algorithm>
#include <vector>

#include "../line_search.h"
#include "svm_products.h"
#include "svm_rows.h"
#include "svm_vectors.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTries = 8;
constexpr double kEnough = 0.1;  // of the slope at 0 that may be left

// sums[0] = <v, p>, sums[1] = <p, p> of each class, (2, classes).
__global__ void __launch_bounds__(kVectorThreads)
    along_kernel(std::int64_t length, const double* __restrict__ v, const float* __restrict__ p,
                 double* __restrict__ sums) {
    __shared__ double slots[2][kVectorThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    double vp = 0.0, pp = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        const double value = p[base + j];
        vp += v[base + j] * value;
        pp += value * value;
    }
    vp = block_sum(vp, slots[0]);
    pp = block_sum(pp, slots[1]);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = vp;
        sums[gridDim.x + blockIdx.x] = pp;
    }
}

// values[i] += shift[i % classes].
__global__ void shift_kernel(std::int64_t cells, int classes, const float* __restrict__ shift,
                             float* __restrict__ values) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < cells) values[i] += shift[i % classes];
}

// to[i] += t[class] from[i], of a class's `length` cells, or of cells that the classes take in
// turn; t one number or one of each class.
template <class To>
__global__ void move_kernel(std::int64_t cells, int classes, std::int64_t length, bool in_turn,
                            const double* __restrict__ t, int steps, const float* __restrict__ from,
                            To* __restrict__ to) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= cells) return;
    const To step = static_cast<To>(t[steps == 1 ? 0 : in_turn ? i % classes : i / length]);
    to[i] += step * static_cast<To>(from[i]);
}

// values (n, classes) = Z p^T; sums (2, classes) of <v, p> and <p, p>, on the device.
void along(const Call& call, const SvmMatrix& matrix, int classes, const double* v, const float* p,
           float* values, double* sums) {
    const SvmProducts products(call, matrix, classes, false);
    const std::int64_t d = matrix.x.d, length = d + 1, cells = matrix.x.n * classes;
    const Buffer<float> copy(call, classes * length), wide(call, classes * d), shift(call, classes);
    svm_aim(call, length,
            {classes, false, p, nullptr, nullptr, products.centre(), products.scale(), copy.data(),
             wide.data(), shift.data()});
    for (std::int64_t first = 0; first < matrix.x.n; first += products.block()) {
        const std::int64_t count = std::min(products.block(), matrix.x.n - first);
        products.forward(products.rows(first, count), count, wide.data(), values + first * classes);
    }
    shift_kernel<<<grid((cells + kThreads - 1) / kThreads), kThreads, 0, call.stream()>>>(
        cells, classes, shift.data(), values);
    LEAD_FAST_LAUNCHED(shift_kernel, call.stream());
    along_kernel<<<grid(classes), kVectorThreads, 0, call.stream()>>>(length, v, p, sums);
    LEAD_FAST_LAUNCHED(along_kernel, call.stream());
}

// v (classes, length) += t p and f (n, classes) += t fp.
void move_along(const Call& call, std::int64_t n, int classes, std::int64_t length,
                const std::vector<double>& t, const float* p, const float* fp, double* v,
                float* f) {
    const int steps = static_cast<int>(t.size());
    const Buffer<double> step(call, steps);
    step.upload(t.data(), steps);
    const std::int64_t of_v = classes * length, of_f = n * classes;
    const auto blocks = [](std::int64_t cells) { return grid((cells + kThreads - 1) / kThreads); };
    move_kernel<double><<<blocks(of_v), kThreads, 0, call.stream()>>>(of_v, classes, length, false,
                                                                      step.data(), steps, p, v);
    LEAD_FAST_LAUNCHED(move_kernel, call.stream());
    move_kernel<float><<<blocks(of_f), kThreads, 0, call.stream()>>>(of_f, classes, length, true,
                                                                     step.data(), steps, fp, f);
    LEAD_FAST_LAUNCHED(move_kernel, call.stream());
}

}  // namespace

int svm_newton(const Call& call, const SvmRows& rows, const SvmMatrix& matrix,
               const SvmSystem& system, const SvmPreconditioner& precondition,
               const SvmSearch& search, const float* gradient, const float* a, double* v, float* f,
               float* p, float* fp) {
    const int taken = svm_direction(call, rows, system, precondition, search, gradient, p);
    const std::int64_t classes = rows.classes, groups = rows.coupled() ? 1 : classes;
    // What the host is told at once: <v, p> and <p, p>, and slopes of the loss at 0 and at 1.
    const Buffer<double> told(call, 2 * classes + 2 * groups);
    double* const slopes = told.data() + 2 * classes;
    along(call, matrix, rows.classes, v, p, fp, told.data());
    const Buffer<double> later(call, groups);
    const Buffer<float> steps(call, 2 * groups);
    std::vector<float> at(static_cast<std::size_t>(2 * groups), 0.0f);
    std::fill(at.begin() + groups, at.end(), 1.0f);
    steps.upload(at.data(), 2 * groups);
    for (int i = 0; i < 2; ++i) {
        slope_rows(call, rows, f, a, fp, steps.data() + i * groups, system.rho,
                   slopes + i * groups);
    }
    std::vector<double> found(static_cast<std::size_t>(2 * classes + 2 * groups));
    told.download(found.data(), static_cast<std::int64_t>(found.size()));
    call.synchronize();

    std::vector<double> vp(static_cast<std::size_t>(groups)), pp(vp);
    for (std::int64_t k = 0; k < classes; ++k) {
        vp[static_cast<std::size_t>(k % groups)] += found[static_cast<std::size_t>(k)];
        pp[static_cast<std::size_t>(k % groups)] += found[static_cast<std::size_t>(classes + k)];
    }
    // The slope of the whole objective: half the square of v + t p, and the loss.
    const auto whole = [&](const std::vector<double>& t, const double* of_loss) {
        std::vector<double> sum(vp);
        for (std::size_t g = 0; g < sum.size(); ++g) sum[g] += t[g] * pp[g] + of_loss[g];
        return sum;
    };
    const double* const told_slopes = found.data() + 2 * classes;
    const std::vector<double> lengths =
        line_search(whole(std::vector<double>(vp.size(), 0.0), told_slopes),
                    whole(std::vector<double>(vp.size(), 1.0), told_slopes + groups), kTries,
                    kEnough, [&](const std::vector<double>& t) {
                        std::copy(t.begin(), t.end(), at.begin());
                        steps.upload(at.data(), groups);
                        slope_rows(call, rows, f, a, fp, steps.data(), system.rho, later.data());
                        later.download(found.data(), groups);
                        call.synchronize();
                        return whole(t, found.data());
                    });
    move_along(call, rows.n, rows.classes, matrix.x.d + 1, lengths, p, fp, v, f);
    return taken;
}

}  // namespace cuda
}  // namespace lead_fast
