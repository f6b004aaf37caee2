#include "runtime_api.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace {

std::mutex lock;
thread_local cudaError_t last = cudaSuccess;
thread_local std::string text;

std::map<void*, std::size_t> lent;
std::uint64_t used = 0, reserved = 0;

cudaError_t given(bool right) {
    return right ? cudaSuccess : emulated::set_error(cudaErrorInvalidValue, "invalid argument");
}

}  // namespace

struct cudaStream {};
struct cudaEvent {};
struct cudaMemPool {};

namespace emulated {

cudaError_t set_error(cudaError_t error, const std::string& what) {
    last = error;
    text = what;
    return error;
}

}  // namespace emulated

const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : text.c_str();
}
cudaError_t cudaGetLastError() {
    const cudaError_t found = last;
    last = cudaSuccess;
    return found;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return given(device == 0); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    *p = cudaDeviceProp{};
    std::strcpy(p->name, "emulated");
    p->major = 9;
    p->multiProcessorCount = emulated::kProcessors;
    p->totalGlobalMem = std::size_t{1} << 30;
    return given(device == 0);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
        case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = emulated::kMostShared; break;
        case cudaDevAttrMultiProcessorCount: *value = emulated::kProcessors; break;
    }
    return given(device == 0);
}
cudaError_t cudaDriverGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
    static cudaMemPool only;
    *pool = &only;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void* value) {
    const std::lock_guard<std::mutex> hold(lock);
    *static_cast<std::uint64_t*>(value) =
        attribute == cudaMemPoolAttrUsedMemCurrent ? used : reserved;
    return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) {
    const std::lock_guard<std::mutex> hold(lock);
    reserved = used;
    return cudaSuccess;
}
// Each of its very size and by itself, and its beginning full of NaN: what lies outside, was freed
// or was never written is found.
cudaError_t cudaMallocFromPoolAsync(void** data, std::size_t bytes, cudaMemPool_t, cudaStream_t) {
    if (posix_memalign(data, 256, bytes) != 0) {
        return emulated::set_error(cudaErrorMemoryAllocation, "");
    }
    std::memset(*data, 0xff, std::min(bytes, std::size_t{4} << 20));
    const std::lock_guard<std::mutex> hold(lock);
    lent[*data] = bytes;
    used += bytes;
    reserved = reserved < used ? used : reserved;
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t) {
    {
        const std::lock_guard<std::mutex> hold(lock);
        const auto found = lent.find(data);
        if (found == lent.end()) return given(false);
        used -= found->second;
        lent.erase(found);
    }
    std::free(data);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t) {
    std::memset(data, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
    *data = std::malloc(bytes);
    return *data != nullptr ? cudaSuccess : emulated::set_error(cudaErrorMemoryAllocation, "");
}
cudaError_t cudaFreeHost(void* data) {
    std::free(data);
    return cudaSuccess;
}

// All is done at once: a stream and an event have nothing to remember.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new cudaStream;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new cudaEvent;
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return given(event != nullptr); }
