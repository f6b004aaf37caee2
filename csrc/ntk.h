// The pseudo neural tangent kernel of a random head, contracted layer by layer.
//
//   Phi[u, v] = sum_l (<a_{l-1}(u), a_{l-1}(v)> + 1) * <s_l(u), s_l(v)>
//
// a_0 = x, a_l the hidden activations, s_l the signal that back-propagation of sum_j F_j brings to
// the pre-activation of layer l (s_L = ones(K)). Nothing of the size of the Jacobian is ever
// formed.
#pragma once

#include "types.h"

namespace lead_fast {

// A multilayer perceptron widths[0] -> ... -> widths[layers], ReLU after every layer but the last.
struct HeadView {
    int layers;
    const std::int64_t* widths;   // (layers + 1)
    const float* const* weights;  // weights[l]: (widths[l], widths[l + 1]), row-major
    const float* const* biases;   // biases[l]: (widths[l + 1])
};

// diagonal[i] = Phi[i, i] of row rows[i]; no n_rows x n_rows array.
void ntk_diagonal(const FeatureMatrix& x, const std::int64_t* rows, std::int64_t n_rows,
                  const HeadView& head, int threads, double* diagonal);

// phi[c] (m, m) with m = class_begin[c + 1] - class_begin[c]: Phi among the rows of each class.
// BLAS must be limited to one thread by the caller: the classes are spread over threads here.
void ntk_kernels(const FeatureMatrix& x, const std::int64_t* rows, const std::int64_t* class_begin,
                 int classes, const HeadView& head, int threads, double* const* phi);

}  // namespace lead_fast
