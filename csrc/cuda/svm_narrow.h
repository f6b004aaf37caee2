// Products of a matrix with few columns, at the speed of reading it.
#pragma once

#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// Whether the two below take this matrix: float32, rows of at least 256 numbers that start on 16
// bytes, at most 16 classes.
bool narrow_suits(const FeatureMatrix& x, std::int64_t classes);

// values (n, classes) = X wide^T, wide (classes, d) on 16 bytes.
void narrow_rows(const Call& call, const FeatureMatrix& x, const float* wide, int classes,
                 float* values);

// product (classes, d) = g^T X, g (n, classes). At most 2048 rows (of up to 134 million) are summed
// in float32, these sums in float64, in an order that depends on the device alone.
void narrow_columns(const Call& call, const FeatureMatrix& x, const float* g, int classes,
                    float* product);

}  // namespace cuda
}  // namespace lead_fast
