// Batched symmetric eigenproblems.
#pragma once

#include "types.h"

namespace lead_fast {

// matrices[i] (sizes[i], sizes[i]) float64 symmetric; values[i] (sizes[i]) ascending; vectors[i]
// the same shape as the matrix with eigenvectors in columns of the row-major array, or vectors
// null. Returns the index of the first matrix for which LAPACK failed, or -1. One matrix per
// thread: BLAS must be limited to one thread by the caller.
std::int64_t eigh_batched(const double* const* matrices, const std::int64_t* sizes,
                          std::int64_t count, int threads, double* const* values,
                          double* const* vectors);

}  // namespace lead_fast
