// Batched symmetric eigenproblems on a device.
#pragma once

#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// What is wrong with a matrix; several may hold.
enum MatrixFlag : int { kNotFinite = 1, kNotSymmetric = 2, kNoConvergence = 4 };

// The largest matrix whose eigenvalues alone the package's own kernel finds on this device; larger
// ones, and all with vectors, go to cuSOLVER.
std::int64_t own_limit(const DeviceFacts& facts);

// matrices[i] (sizes[i], sizes[i]) float32 or float64 row-major on the device, in ascending order
// of size; the array of pointers is on the host. values gets all eigenvalues, ascending, one matrix
// after another; vectors, if not null, all eigenvector matrices, each with vector j in *row* j.
// flags[i], on the host, is 0 or what is wrong, and matrix i then has no meaningful result. Only
// the upper triangle decides, as on the processor. `own`: whether the own kernel may be used.
// Synchronises.
void eigh_batched(const Call& call, const void* const* matrices, DType dtype,
                  const std::int64_t* sizes, std::int64_t count, bool own, double* values,
                  double* vectors, int* flags);

}  // namespace cuda
}  // namespace lead_fast
