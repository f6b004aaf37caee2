// The Gram half of the kernel: Phi = sum_l (A_l A_l^T + 1) * (S_l S_l^T).
#pragma once

#include <vector>

#include "runtime.h"

namespace lead_fast {
namespace cuda {

struct GramOperand {
    const float* data;  // (rows, width) row-major, on the device
    std::int64_t width;
};

// operands: a_0, s_1, a_1, s_2, ..., a_{L-1} of rows class_begin[0] .. class_begin[classes], the
// first of which is row 0 of each; s_L = ones(outputs). phi: the kernels of the classes one after
// another, (m, m) each. Every element is the same for (u, v) and (v, u). *overflow, on the device,
// becomes 1 if an element is not finite.
void gram(const Call& call, const std::vector<GramOperand>& operands, double outputs,
          const std::int64_t* class_begin, int classes, double* phi, int* overflow);

}  // namespace cuda
}  // namespace lead_fast
