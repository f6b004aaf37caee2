// What the parts of the emulated run-time library share.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace emulated {

constexpr int kMostShared = 232448;  // bytes of shared memory that a block may have, as on an H100
constexpr int kProcessors = 3;       // few, so that blocks and warps go on to further work

// Notes an error for cudaGetLastError(), and returns it.
cudaError_t set_error(cudaError_t error, const std::string& what);

}  // namespace emulated
