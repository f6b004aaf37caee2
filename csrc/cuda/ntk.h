// The pseudo neural tangent kernel on a device: csrc/ntk.h says what it is.
#pragma once

#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// As HeadView, with weights and biases on the device.
struct DeviceHead {
    int layers;
    const std::int64_t* widths;   // (layers + 1), on the host
    const float* const* weights;  // weights[l] (widths[l], widths[l + 1]) row-major
    const float* const* biases;   // biases[l] (widths[l + 1])
};

// rates[c], on the host, is the mean over the rows of class c of the kernel's diagonal. `rows` and
// class_begin (classes + 1) are on the host, x on the device. If phi is not null it gets the
// kernels: class c (m, m) at phi + the sum of the squares of the sizes before it. Returns whether
// all that it wrote is finite: float32 products may overflow where the rates, whose squares are
// summed in float64, do not. Synchronises.
bool ntk(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
         const std::int64_t* class_begin, int classes, const DeviceHead& head, bool allow_tf32,
         double* rates, double* phi);

}  // namespace cuda
}  // namespace lead_fast
