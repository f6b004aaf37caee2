// The GPU's eigenvalue algorithm on the processor: what tests compare with LAPACK.
#pragma once

#include <cstdint>

namespace lead_fast {

// values (n) ascending of matrix (n, n) float64, finite and symmetric, by a team of threads.
void team_eigenvalues(const double* matrix, std::int64_t n, int team, double* values);

}  // namespace lead_fast
