// Log-determinants of the classes' scatter matrices.
#pragma once

#include "types.h"

namespace lead_fast {

// Class c has the rows order[ends[c - 1] .. ends[c]) of x (n, d). With Z_c those rows less
// centre (classes, d), for each class
//   A = Z_c^T Z_c + spread_c spread_c^T + shift_c I, (d, d),
// its log-determinant and its smallest pivot of a Cholesky factorisation as a share of the diagonal
// entry there; NaN and 0 where A is not positive definite, or the class has no rows. Without spread
// (null) and for at most d rows A may be Z_c Z_c^T + shift_c I, which is smaller. total (d, d),
// unless null: sum over c of Z_c^T Z_c is added to its column-major upper triangle, in the order of
// the classes. Products and factors in float32, or in float64 if `exact`.
void class_log_determinants(const FeatureMatrix& x, const std::int64_t* order,
                            const std::int64_t* ends, int classes, const double* centre,
                            const double* spread, const double* shift, bool exact, int threads,
                            double* total, double* log_determinant, double* pivot);

}  // namespace lead_fast
