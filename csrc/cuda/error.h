// Every status of CUDA, cuBLAS and cuSOLVER and every launch goes through here and throws.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>

#include <stdexcept>
#include <string>

namespace lead_fast {
namespace cuda {

// Becomes lead_fast.errors.DeviceError; out_of_memory becomes MemoryError.
struct Error : std::runtime_error {
    Error(const std::string& message, bool memory)
        : std::runtime_error(message), out_of_memory(memory) {}
    bool out_of_memory;
};

[[noreturn]] void fail(cudaError_t status, const char* call, const char* file, int line);
[[noreturn]] void fail(cublasStatus_t status, const char* call, const char* file, int line);
[[noreturn]] void fail(cusolverStatus_t status, const char* call, const char* file, int line);

inline bool good(cudaError_t status) { return status == cudaSuccess; }
inline bool good(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; }
inline bool good(cusolverStatus_t status) { return status == CUSOLVER_STATUS_SUCCESS; }

// After a launch: its own error, and with LEAD_FAST_CUDA_SYNC=1 also that of its execution.
void check_launch(cudaStream_t stream, const char* kernel, const char* file, int line);

}  // namespace cuda
}  // namespace lead_fast

#define LEAD_FAST_CHECK(call)                                                     \
    do {                                                                          \
        const auto lead_fast_status = (call);                                     \
        if (!::lead_fast::cuda::good(lead_fast_status))                           \
            ::lead_fast::cuda::fail(lead_fast_status, #call, __FILE__, __LINE__); \
    } while (false)

#define LEAD_FAST_LAUNCHED(kernel, stream) \
    ::lead_fast::cuda::check_launch(stream, #kernel, __FILE__, __LINE__)
