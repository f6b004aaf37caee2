// Features of any dtype as float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../types.h"

namespace lead_fast {
namespace cuda {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(double x) { return static_cast<float>(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ double to_double(T x) {
    return static_cast<double>(to_float(x));
}
__device__ __forceinline__ double to_double(double x) { return x; }

// Row i of a matrix whose rows are row_bytes apart.
template <class T>
__device__ __forceinline__ const T* row_of(const void* data, std::int64_t row_bytes,
                                           std::int64_t i) {
    return reinterpret_cast<const T*>(static_cast<const char*>(data) + i * row_bytes);
}

// Calls body(T{}) with the type that the dtype names.
template <class Body>
void with_type(DType dtype, Body body) {
    switch (dtype) {
        case DType::float32: return body(float{});
        case DType::float16: return body(__half{});
        case DType::bfloat16: return body(__nv_bfloat16{});
        case DType::float64: return body(double{});
    }
}

}  // namespace cuda
}  // namespace lead_fast
