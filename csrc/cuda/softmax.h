// Softmax regression on a GPU: what one pass over the samples gives.
#pragma once

#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// Samples on the device: x (n, d) float32 or float64, C-contiguous; class numbers (n); what the
// curvature of each counts (n), one plus its squared length.
struct SoftmaxSamples {
    FeatureMatrix x;
    int classes;
    const std::int64_t* labels;
    const double* weight;
};

// For logits x weights^T + bias, weights (classes, d), bias (classes), p their softmax, all on the
// device: gradient (classes, d) = (p - onehot)^T x in the arithmetic of x; sums (2 + classes) over
// the samples of the loss, -log p[label], of the curvature, weight * sum_k p_k (1 - p_k), and for
// each class of p - onehot, rounded to the type of x.
void softmax_pass(const Call& call, const SoftmaxSamples& samples, const double* weights,
                  const double* bias, double* gradient, double* sums);

}  // namespace cuda
}  // namespace lead_fast
