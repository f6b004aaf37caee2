#include <algorithm>

#include "svm_narrow.h"
#include "svm_products.h"
#include "svm_vectors.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{64} << 20;  // of converted rows at a time

std::int64_t rows_at_once(const SvmMatrix& m) {
    if (!m.convert) return m.x.n;
    return std::min(m.x.n, std::max<std::int64_t>(64, kBlockBytes / (4 * m.x.d)));
}

// TF32 products are fast only with rows that start and end on 16 bytes.
std::int64_t stride_of(int classes, bool narrow, bool allow_tf32) {
    return narrow || !allow_tf32 ? classes : (std::int64_t{classes} + 3) / 4 * 4;
}

__global__ void __launch_bounds__(kVectorThreads) aim_kernel(std::int64_t length, SvmAim aim) {
    __shared__ double slots[kVectorThreads / 32];
    const std::int64_t base = blockIdx.x * length, width = length - 1;
    float beta = 0.0f;
    if (aim.before != nullptr) {
        beta = quotient(sum_for(aim.rs, aim.classes, aim.coupled),
                        sum_for(aim.before, aim.classes, aim.coupled));
    }
    double centred = 0.0, bias = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        float value = aim.s[base + j];
        if (aim.before != nullptr) value += beta * aim.d[base + j];
        aim.d[base + j] = value;
        if (j < width) {
            const double mapped = aim.scale == nullptr ? value : value * aim.scale[j];
            aim.wide[blockIdx.x * width + j] = static_cast<float>(mapped);
            if (aim.centre != nullptr) centred += mapped * aim.centre[j];
        } else {
            bias = value;
        }
    }
    const double shift = block_sum(bias - centred, slots);
    if (threadIdx.x == 0) aim.shift[blockIdx.x] = static_cast<float>(shift);
}

}  // namespace

SvmProducts::SvmProducts(const Call& call, const SvmMatrix& matrix, int classes, bool allow_tf32)
    : call_(call),
      matrix_(matrix),
      blas_(call),
      classes_(classes),
      narrow_(!matrix.convert && narrow_suits(matrix.x, classes)),
      allow_tf32_(allow_tf32),
      block_(rows_at_once(matrix)),
      stride_(stride_of(classes, narrow_, allow_tf32)),
      converted_(call, matrix.convert ? block_ * matrix.x.d : 0) {}

const float* SvmProducts::rows(std::int64_t first, std::int64_t count) const {
    if (!matrix_.convert) return static_cast<const float*>(matrix_.x.row(first));
    FeatureMatrix part = matrix_.x;
    part.data = part.row(first);
    gather_mapped(call_, part, nullptr, count, matrix_.centre, matrix_.scale, converted_.data());
    return converted_.data();
}

void SvmProducts::forward(const float* rows, std::int64_t count, const float* wide,
                          float* values) const {
    const std::int64_t d = matrix_.x.d;
    if (narrow_) {
        narrow_rows(call_, matrix_.x, wide, static_cast<int>(classes_), values);
    } else {
        blas_.multiply(count, stride_, d, {rows, d}, {wide, d, true}, 0.0f, values, stride_,
                       allow_tf32_);
    }
}

void SvmProducts::backward(const float* rows, std::int64_t count, const float* g, bool add,
                           float* product) const {
    const std::int64_t d = matrix_.x.d;
    if (narrow_) {
        narrow_columns(call_, matrix_.x, g, static_cast<int>(classes_), product);
    } else {
        blas_.multiply(stride_, d, count, {g, stride_, true}, {rows, d}, add ? 1.0f : 0.0f, product,
                       d, allow_tf32_);
    }
}

void svm_aim(const Call& call, std::int64_t length, const SvmAim& aim) {
    aim_kernel<<<static_cast<unsigned>(aim.classes), kVectorThreads, 0, call.stream()>>>(length,
                                                                                         aim);
    LEAD_FAST_LAUNCHED(aim_kernel, call.stream());
}

}  // namespace cuda
}  // namespace lead_fast
