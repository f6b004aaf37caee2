// Softmax regression: loss and gradient in one read of the features.
#pragma once

#include "svm.h"

namespace lead_fast {

struct SoftmaxPass {
    double loss;       // sum over the samples of -log p[label]
    double curvature;  // sum over samples of (|z|^2 + 1) * sum_k p_k (1 - p_k), if asked for
};

// z (n, d) = the features through the map; scores z weights^T + bias, weights (classes, d), bias
// (classes). gradient (classes, d) and bias_gradient (classes): sums over the samples of
// (p - onehot) z and (p - onehot). Products in float32, or in float64 if `exact`; sums beyond some
// hundred samples in float64, in an order that does not depend on the threads.
SoftmaxPass softmax_pass(const FeatureMatrix& x, const ColumnMap& map, const std::int32_t* labels,
                         int classes, const double* weights, const double* bias, bool exact,
                         bool want_curvature, int threads, double* gradient, double* bias_gradient);

}  // namespace lead_fast
