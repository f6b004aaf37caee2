// What the package uses of CUDA's language and run-time library.
#pragma once

#include <math.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "../emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static  // a block is over before the next begins; build.py adds what fills it
#define __CUDA_ARCH__ 900

#define threadIdx (::emulated::now.thread)
#define blockIdx (::emulated::now.block)
#define blockDim (::emulated::now.block_size)
#define gridDim (::emulated::now.grid_size)

#define EMULATED_TEXT_(line) #line
#define EMULATED_TEXT(line) EMULATED_TEXT_(line)
#define EMULATED_HERE __FILE__ ":" EMULATED_TEXT(__LINE__)

#define __syncthreads() ::emulated::block_barrier(EMULATED_HERE)
#define __syncwarp() ::emulated::warp_barrier(0xffffffffu, EMULATED_HERE)
#define __shfl_sync(mask, value, from) ::emulated::shuffle(mask, value, (from) & 31, EMULATED_HERE)
#define __shfl_xor_sync(mask, value, other) \
    ::emulated::shuffle(mask, value, ::emulated::lane() ^ (other), EMULATED_HERE)
#define __any_sync(mask, vote) (::emulated::ballot(mask, vote, EMULATED_HERE) != 0)
#define __ballot_sync(mask, vote) ::emulated::ballot(mask, vote, EMULATED_HERE)
#define __ffs(bits) __builtin_ffs(bits)

namespace emulated {

template <class T>
inline T shuffle(unsigned mask, T value, int from, const char* where) {
    return from_bits<T>(exchange(mask, to_bits(value), from, where));
}

}  // namespace emulated

using std::isfinite;
using std::isnan;

template <class T>
inline T max(T a, T b) {
    return a < b ? b : a;
}
template <class T>
inline T min(T a, T b) {
    return b < a ? b : a;
}

// Atomic for the race detector's sake; of integers.
template <class T>
inline T atomicAdd(T* at, T value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
template <class T>
inline T atomicOr(T* at, T value) {
    return __atomic_fetch_or(at, value, __ATOMIC_RELAXED);
}
template <class T>
inline T atomicMin(T* at, T value) {
    T before = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (value < before && !__atomic_compare_exchange_n(at, &before, value, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return before;
}

inline long long __double2ll_rn(double x) { return llrint(x); }
inline float __double2float_rz(double x) {
    const float near = static_cast<float>(x);
    return std::fabs(static_cast<double>(near)) > std::fabs(x) ? std::nextafterf(near, 0.0f) : near;
}

// ---------------------------------------------------------------------------------- the library

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorInitializationError,
    cudaErrorInsufficientDriver,
    cudaErrorMemoryAllocation,
    cudaErrorNoDevice,
    cudaErrorNoKernelImageForDevice,
    cudaErrorUnsupportedPtxVersion,
    cudaErrorInvalidConfiguration,
    cudaErrorLaunchFailure,
};
enum cudaDeviceAttr {
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrMultiProcessorCount,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaMemAllocationType { cudaMemAllocationTypePinned };
enum cudaMemLocationType { cudaMemLocationTypeDevice };
enum cudaMemPoolAttr {
    cudaMemPoolAttrReleaseThreshold,
    cudaMemPoolAttrReservedMemCurrent,
    cudaMemPoolAttrUsedMemCurrent,
};
enum : unsigned {
    cudaEventDisableTiming = 2,
    cudaEventBlockingSync = 1,
    cudaHostAllocDefault = 0,
    cudaStreamNonBlocking = 1,
};

struct cudaStream;
struct cudaEvent;
struct cudaMemPool;
using cudaStream_t = cudaStream*;
using cudaEvent_t = cudaEvent*;
using cudaMemPool_t = cudaMemPool*;

struct cudaMemPoolProps {
    cudaMemAllocationType allocType;
    struct {
        cudaMemLocationType type;
        int id;
    } location;
};
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount, l2CacheSize;
    std::size_t totalGlobalMem;
};

const char* cudaGetErrorString(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int*);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int);
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int);
cudaError_t cudaDriverGetVersion(int*);
cudaError_t cudaMemPoolCreate(cudaMemPool_t*, const cudaMemPoolProps*);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*);
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t);
cudaError_t cudaMallocFromPoolAsync(void**, std::size_t, cudaMemPool_t, cudaStream_t);
cudaError_t cudaFreeAsync(void*, cudaStream_t);
cudaError_t cudaMemcpyAsync(void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void*, int, std::size_t, cudaStream_t);
cudaError_t cudaHostAlloc(void**, std::size_t, unsigned);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);

namespace emulated {
cudaError_t set_limit(const void* kernel, cudaFuncAttribute, int value);
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
    return emulated::set_limit(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel*, int, std::size_t) {
    *blocks = 2;
    return cudaSuccess;
}
