// Kernels over vectors of one class each, (classes, length), whose last number is the bias's. A
// block is a class.
#pragma once

#include <cstdint>

#include "reduce.cuh"

namespace lead_fast {
namespace cuda {

constexpr int kVectorThreads = 512;

// The sum that a step length is made of: of this class, or over all classes where these are
// coupled. For all threads of a block together.
__device__ __forceinline__ double sum_for(const double* __restrict__ per_class, int classes,
                                          bool coupled) {
    if (!coupled) return per_class[blockIdx.x];
    double sum = 0.0;
    for (int c = threadIdx.x % 32; c < classes; c += 32) sum += per_class[c];
    return group_sum(sum);  // every warp in the same order
}

__device__ __forceinline__ float quotient(double a, double b) {
    return b > 0.0 ? static_cast<float>(a / b) : 0.0f;
}

// Number j of a class's g^T Z, from the product with the rows as they are and g's sum.
__device__ __forceinline__ double mapped_part(double product, double bias, const double* centre,
                                              const double* scale, std::int64_t j) {
    if (centre != nullptr) product -= bias * centre[j];
    return scale == nullptr ? product : product * scale[j];
}

}  // namespace cuda
}  // namespace lead_fast
