// What the kernels of evolve.cu and evolve_logits.cu share.
#pragma once

#include <cmath>
#include <vector>

#include "evolve.h"
#include "load.cuh"
#include "reduce.cuh"

namespace lead_fast {
namespace cuda {

constexpr int kTimes = 8;  // most times in one pass

// Of a class and a time: keep = exp(-rate t), gain = 1 - keep, and keep * log2(e) as high + low for
// float32 arithmetic. high is rounded towards zero and both are positive even where keep is 0, so
// that high * d + low * d is -inf, not NaN, for d = -inf; the smallest subnormal changes no finite
// d below 2^100. more = exp(gain) - 1.
struct Decay {
    double keep, gain, more;
    float high, low;
};

struct DeviceFindings {
    unsigned long long non_finite, first_non_finite, outside, first_outside;
};

__device__ __forceinline__ void note(unsigned long long* count, unsigned long long* first,
                                     std::int64_t row) {
    atomicAdd(count, 1ull);
    atomicMin(first, static_cast<unsigned long long>(row));
}

// Rates, times, decays, partial scores and findings of one call, on the device.
class Evolution {
  public:
    Evolution(const Call& call, const double* rates, int classes, const double* t, int times);

    const Decay* decay() const { return decay_.data(); }  // (classes, times)
    DeviceFindings* findings() const { return findings_.data(); }

    // score[j] = the sum of partial (blocks, times) over the blocks / n, once finish() returns.
    void mean(const double* partial, int blocks, std::int64_t n, double* score) const;
    Findings finish() const;

  private:
    const Call& call_;
    const int times_;
    Buffer<Decay> decay_;
    Buffer<double> score_;
    Buffer<DeviceFindings> findings_;
};

}  // namespace cuda
}  // namespace lead_fast
