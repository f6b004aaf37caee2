// What decides on the solver's next step: multipliers, gradient, gap, and where there is curvature.

#include <thrust/iterator/counting_iterator.h>

#include <algorithm>
#include <cstring>
#include <cub/device/device_select.cuh>
#include <numeric>
#include <vector>

#include "svm_products.h"
#include "svm_rows.h"
#include "svm_vectors.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kUnit = 4294967296.0;  // of fixed-point sums: 2^32

// gradient = v - g^T Z; squares (3, classes): |v|^2, |g^T Z|^2, |gradient|^2.
__global__ void __launch_bounds__(kVectorThreads)
    gradient_kernel(std::int64_t length, const double* __restrict__ v,
                    const float* __restrict__ product, const double* __restrict__ total,
                    const double* __restrict__ centre, const double* __restrict__ scale,
                    float* __restrict__ gradient, double* __restrict__ squares) {
    __shared__ double slots[3][kVectorThreads / 32];
    const std::int64_t k = blockIdx.x, base = k * length, width = length - 1;
    const double bias = total[k];
    double size = 0.0, dual_size = 0.0, inner = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        const double dual =
            j < width ? mapped_part(product[k * width + j], bias, centre, scale, j) : bias;
        const double weight = v[base + j], left = weight - dual;
        gradient[base + j] = static_cast<float>(left);
        size += weight * weight;
        dual_size += dual * dual;
        inner += left * left;
    }
    size = block_sum(size, slots[0]);
    dual_size = block_sum(dual_size, slots[1]);
    inner = block_sum(inner, slots[2]);
    if (threadIdx.x == 0) {
        squares[k] = size;
        squares[gridDim.x + k] = dual_size;
        squares[2 * gridDim.x + k] = inner;
    }
}

// pairs and fans as svm_look has them, fans in units of 1 / kUnit: integers, whose sums are the
// same in every order. Thread i; most classes of most samples are not free.
__global__ void pairs_kernel(std::int64_t n, int classes, int groups,
                             const std::int32_t* __restrict__ labels,
                             const std::uint8_t* __restrict__ mask,
                             const float* __restrict__ weight, unsigned long long* pairs,
                             unsigned long long* fans) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= n) return;
    const std::uint8_t* const own = mask + i * classes;
    const std::int64_t label = labels[i];
    int count = 0;
    for (int k = 0; k < classes; ++k) {
        if (own[k] == 0) continue;
        atomicAdd(pairs + (groups == 1 ? 0 : label) * classes + k, 1ull);
        ++count;
    }
    if (fans == nullptr || count == 0) return;
    const auto add = [&](std::int64_t k, std::int64_t l, double times) {
        atomicAdd(fans + k * classes + l,
                  static_cast<unsigned long long>(__double2ll_rn(times * weight[i] * kUnit)));
    };
    for (int k = 0; k < classes; ++k) {
        if (own[k] == 0) continue;
        add(label, k, -count);
        add(k, label, -count);
        for (int l = 0; l < classes; ++l) {
            if (own[l] != 0) add(k, l, 1.0);
        }
    }
    add(label, label, static_cast<double>(count) * count);
}

// The numbers of the samples that are marked, in their order, and how many there are.
void select(const Call& call, std::int64_t n, const std::uint8_t* marked, std::int64_t* numbers,
            std::int64_t* count) {
    const thrust::counting_iterator<std::int64_t> all(0);
    std::size_t bytes = 0;
    LEAD_FAST_CHECK(
        cub::DeviceSelect::Flagged(nullptr, bytes, all, marked, numbers, count, n, call.stream()));
    const Scratch scratch(call, std::max<std::size_t>(bytes, 1));
    LEAD_FAST_CHECK(cub::DeviceSelect::Flagged(scratch.data(), bytes, all, marked, numbers, count,
                                               n, call.stream()));
}

}  // namespace

SvmLook svm_look(const Call& call, const SvmRows& rows, const SvmMatrix& matrix, const float* f,
                 const float* a, float rho, const double* v, float* next, std::uint8_t* mask,
                 float* weight, std::int64_t* curved, float* gradient, int groups,
                 std::int64_t* pairs, double* fans) {
    const std::int64_t n = rows.n, classes = rows.classes, d = matrix.x.d;
    const SvmProducts products(call, matrix, rows.classes, false);
    const Buffer<float> g(call, n * classes), product(call, classes * d);
    const Buffer<std::uint8_t> marked(call, n);
    const Buffer<double> total(call, classes);
    // All that the host is told, in one transfer of words of eight bytes.
    const std::int64_t cells = classes * classes;
    const std::int64_t of_pairs = pairs == nullptr ? 0 : groups * classes;
    const std::int64_t of_fans = fans == nullptr ? 0 : cells;
    const std::int64_t at_count = 3 + 3 * classes, at_pairs = at_count + 1;
    const Buffer<std::int64_t> told(call, at_pairs + of_pairs + of_fans);
    double* const sums = reinterpret_cast<double*>(told.data());

    advance_rows(call, rows, f, a, rho, next, g.data(), mask, weight, marked.data(), sums);
    column_sums(call, g.data(), n, rows.classes, classes, false, total.data());
    for (std::int64_t first = 0; first < n; first += products.block()) {
        const std::int64_t count = std::min(products.block(), n - first);
        products.backward(products.rows(first, count), count, g.data() + first * classes, first > 0,
                          product.data());
    }
    gradient_kernel<<<grid(classes), kVectorThreads, 0, call.stream()>>>(
        d + 1, v, product.data(), total.data(), products.centre(), products.scale(), gradient,
        sums + 3);
    LEAD_FAST_LAUNCHED(gradient_kernel, call.stream());
    select(call, n, marked.data(), curved, told.data() + at_count);
    if (pairs != nullptr) {
        auto* const counted = reinterpret_cast<unsigned long long*>(told.data() + at_pairs);
        LEAD_FAST_CHECK(cudaMemsetAsync(
            counted, 0, static_cast<std::size_t>(of_pairs + of_fans) * 8, call.stream()));
        pairs_kernel<<<grid((n + kThreads - 1) / kThreads), kThreads, 0, call.stream()>>>(
            n, rows.classes, groups, rows.labels, mask, weight, counted,
            fans == nullptr ? nullptr : counted + of_pairs);
        LEAD_FAST_LAUNCHED(pairs_kernel, call.stream());
    }

    std::vector<std::int64_t> words(static_cast<std::size_t>(at_pairs + of_pairs + of_fans));
    told.download(words.data(), static_cast<std::int64_t>(words.size()));
    call.synchronize();
    std::vector<double> found(static_cast<std::size_t>(at_count));
    std::memcpy(found.data(), words.data(), found.size() * sizeof(double));
    const auto half_sum = [&](std::int64_t which) {
        const auto first = found.begin() + 3 + which * classes;
        return 0.5 * std::accumulate(first, first + classes, 0.0);
    };
    const std::int64_t* const counted = words.data() + at_pairs;
    if (pairs != nullptr) std::copy(counted, counted + of_pairs, pairs);
    for (std::int64_t i = 0; i < of_fans; ++i) {
        fans[i] = static_cast<double>(counted[of_pairs + i]) / kUnit;
    }
    return {{found[0], found[1], found[2]}, half_sum(0), half_sum(1), half_sum(2), counted[-1]};
}

}  // namespace cuda
}  // namespace lead_fast
