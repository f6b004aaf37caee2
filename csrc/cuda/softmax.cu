// One pass of softmax regression: logits, what they say of loss, slopes and curvature, and the
// gradient. Up to nine launches without a look from the host, where array operations take four
// times as many; formulas as in lead_fast/metrics/_softmax_pass.py.

#include <cmath>

#include "sample_sums.cuh"
#include "softmax.h"
#include "svm_products.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

template <class To, class From>
__global__ void convert_kernel(std::int64_t cells, const From* __restrict__ from,
                               To* __restrict__ to) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < cells) to[i] = static_cast<To>(from[i]);
}

template <class To, class From>
void convert(const Call& call, std::int64_t cells, const From* from, To* to) {
    if (cells == 0) return;
    convert_kernel<To, From>
        <<<grid((cells + kThreads - 1) / kThreads), kThreads, 0, call.stream()>>>(cells, from, to);
    LEAD_FAST_LAUNCHED(convert_kernel, call.stream());
}

// Logits without bias (n, classes) become slopes p - onehot; partial (blocks, 2) the block's loss
// and curvature. A warp takes a sample at a time, a lane every 32nd class.
template <class T>
__global__ void __launch_bounds__(kThreads)
    slopes_kernel(std::int64_t n, int classes, const std::int64_t* __restrict__ labels,
                  const double* __restrict__ weight, const double* __restrict__ bias,
                  T* __restrict__ cells, double* __restrict__ partial) {
    __shared__ double slots[2][kWarps];
    const int lane = threadIdx.x % 32;
    double loss = 0.0, curvature = 0.0;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; i < n;
         i += static_cast<std::int64_t>(gridDim.x) * kWarps) {
        T* const own = cells + i * classes;
        const std::int64_t label = labels[i];
        double top = -INFINITY, at_label = 0.0;
        for (int k = lane; k < classes; k += 32) {
            const double logit = static_cast<double>(own[k]) + bias[k];
            top = fmax(top, logit);
            if (k == label) at_label = logit;  // of one lane
        }
        top = warp_max(top);
        at_label = group_sum(at_label) - top;
        double others = 0.0;
        for (int k = lane; k < classes; k += 32) {
            const double logit = static_cast<double>(own[k]) + bias[k];
            if (k != label) others += exp(logit - top);
        }
        others = group_sum(others);
        const double total = exp(at_label) + others;
        if (lane == 0) loss += log(total) - at_label;
        double spread = 0.0;
        for (int k = lane; k < classes; k += 32) {
            const double logit = static_cast<double>(own[k]) + bias[k];
            // 1 - p keeps its digits as a sum over the others.
            const double slope = (k == label ? -others : exp(logit - top)) / total;
            const double size = fabs(slope);  // p, or 1 - p
            spread += size * (1.0 - size);
            own[k] = static_cast<T>(slope);
        }
        curvature += spread * weight[i];
    }
    loss = block_sum(loss, slots[0]);
    curvature = block_sum(curvature, slots[1]);
    if (threadIdx.x == 0) {
        partial[2 * blockIdx.x] = loss;
        partial[2 * blockIdx.x + 1] = curvature;
    }
}

// What the logits without bias say, which become slopes: sums (2 + classes).
template <class T>
void slopes(const Call& call, const SoftmaxSamples& s, const double* bias, T* cells, double* sums) {
    const std::int64_t blocks = sum_blocks(call, s.x.n, kWarps);
    const Buffer<double> partial(call, 2 * blocks);
    slopes_kernel<T><<<grid(blocks), kThreads, 0, call.stream()>>>(
        s.x.n, s.classes, s.labels, s.weight, bias, cells, partial.data());
    LEAD_FAST_LAUNCHED(slopes_kernel, call.stream());
    fold(call, partial.data(), blocks, 2, false, sums);
    sum_columns(call, s.x.n, s.classes, Number<T>{cells, s.classes}, false, sums + 2);
}

void in_float64(const Call& call, const SoftmaxSamples& s, const double* weights,
                const double* bias, double* gradient, double* sums) {
    const std::int64_t n = s.x.n, d = s.x.d, classes = s.classes;
    const FactorOf<double> x{static_cast<const double*>(s.x.data), d};
    const Buffer<double> cells(call, n * classes);
    const Blas blas(call);
    blas.multiply(n, classes, d, x, {weights, d, true}, 0.0, cells.data(), classes);
    slopes(call, s, bias, cells.data(), sums);
    blas.multiply(classes, d, n, {cells.data(), classes, true}, x, 0.0, gradient, d);
}

void in_float32(const Call& call, const SoftmaxSamples& s, const double* weights,
                const double* bias, double* gradient, double* sums) {
    const std::int64_t n = s.x.n, of_weights = s.classes * s.x.d;
    const SvmMatrix matrix{s.x, false, nullptr, nullptr};
    const SvmProducts products(call, matrix, s.classes, false);
    const float* const x = products.rows(0, n);
    const Buffer<float> cells(call, n * s.classes), narrow(call, of_weights);
    convert(call, of_weights, weights, narrow.data());
    products.forward(x, n, narrow.data(), cells.data());
    slopes(call, s, bias, cells.data(), sums);
    products.backward(x, n, cells.data(), false, narrow.data());
    convert(call, of_weights, narrow.data(), gradient);
}

}  // namespace

void softmax_pass(const Call& call, const SoftmaxSamples& samples, const double* weights,
                  const double* bias, double* gradient, double* sums) {
    const auto pass = samples.x.dtype == DType::float64 ? in_float64 : in_float32;
    pass(call, samples, weights, bias, gradient, sums);
}

}  // namespace cuda
}  // namespace lead_fast
