// Kernels with one fault each, by which the emulator is tried: `faults NAME` runs one of them and
// prints the launch's error, or what it computed.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "emulator.h"

namespace {

constexpr int kThreads = 64;

// What is right: the sum of 0 to 63 in a block, by shuffles and shared memory.
__global__ void right(float* out, int) {
    __shared__ float slots[2];
    float x = static_cast<float>(threadIdx.x);
    for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(0xffffffffu, x, mask);
    if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = slots[0] + slots[1];
}

__global__ void race(float* out, int) {
    __shared__ float slots[kThreads];
    slots[threadIdx.x] = 1.0f;
    out[threadIdx.x] = slots[threadIdx.x ^ 1];
}

// Shuffles order no memory.
__global__ void race_in_a_warp(float* out, int) {
    __shared__ float slots[kThreads];
    slots[threadIdx.x] = 1.0f;
    const float x = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    out[threadIdx.x] = x + slots[threadIdx.x ^ 1];
}

__global__ void race_in_global_memory(float* out, int) {
    if (threadIdx.x % 32 == 0) out[0] = static_cast<float>(threadIdx.x);
}

__global__ void outside_dynamic_shared(float* out, int one) {
    extern __shared__ float tile[];
    tile[threadIdx.x + one] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void outside_static_shared(float* out, int one) {
    __shared__ float tile[kThreads];
    tile[threadIdx.x + one] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void outside_global(float* out, int one) { out[threadIdx.x + one] = 1.0f; }

__global__ void misaligned(float* out, int one) {
    *reinterpret_cast<float4*>(out + one) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__global__ void unwritten(float* out, int) {
    extern __shared__ float tile[];
    out[threadIdx.x] += tile[threadIdx.x];
}

__global__ void unwaited(float* out, int) {
    extern __shared__ __align__(16) float tile[];
    if (threadIdx.x == 0) {
        for (int i = 0; i < 4; ++i) out[i] = 1.0f;
        ::emulated::copy_async(tile, out);
        ::emulated::commit_copies();
        ::emulated::wait_for_copies(1);
        out[0] = tile[0];
        ::emulated::wait_for_copies(0);
    }
}

__global__ void never_waited(float* out, int) {
    extern __shared__ __align__(16) float tile[];
    ::emulated::copy_async(tile, out);
}

__global__ void misaligned_copy(float* out, int one) {
    extern __shared__ __align__(16) float tile[];
    ::emulated::copy_async(tile, out + one);
}

__global__ void apart(float* out, int) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 0.0f;
}

__global__ void lanes_apart(float* out, int) {
    float x = 0.0f;
    if (threadIdx.x % 2 == 0) {
        x = __shfl_xor_sync(0xffffffffu, x, 1);
    } else {
        x = __shfl_sync(0xffffffffu, x, 1);
    }
    out[threadIdx.x] = x;
}

__global__ void lanes_gone(float* out, int) {
    if (threadIdx.x == 5) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

__global__ void not_of_the_mask(float* out, int) {
    out[threadIdx.x] = __ballot_sync(0xfffffff0u, true);
}

__global__ void for_ever(float* out, int) {
    float x = 0.0f;
    if (threadIdx.x != 3) x = __shfl_xor_sync(0xffffffffu, x, 1);
    __syncthreads();
    out[threadIdx.x] = x;
}

using Kernel = void (*)(float*, int);
struct Case {
    const char* name;
    Kernel kernel;
};
const Case cases[] = {
    {"right", right},
    {"race", race},
    {"race_in_a_warp", race_in_a_warp},
    {"race_in_global_memory", race_in_global_memory},
    {"outside_dynamic_shared", outside_dynamic_shared},
    {"outside_static_shared", outside_static_shared},
    {"outside_global", outside_global},
    {"misaligned", misaligned},
    {"unwritten", unwritten},
    {"unwaited", unwaited},
    {"never_waited", never_waited},
    {"misaligned_copy", misaligned_copy},
    {"apart", apart},
    {"lanes_apart", lanes_apart},
    {"lanes_gone", lanes_gone},
    {"not_of_the_mask", not_of_the_mask},
    {"for_ever", for_ever},
};

float* lend() {
    void* data = nullptr;
    cudaMallocFromPoolAsync(&data, kThreads * sizeof(float), nullptr, nullptr);
    return static_cast<float*>(data);
}

}  // namespace

int main(int count, char** given) {
    const std::string name = count > 1 ? given[1] : "";
    float* const out = lend();
    std::size_t shared = kThreads * sizeof(float);
    int threads = kThreads;
    Kernel kernel = right;
    if (name == "too_much_shared") shared = 49153;
    if (name == "too_many_threads") threads = 1025;
    for (const Case& one : cases) {
        if (name == one.name) kernel = one.kernel;
    }
    if (name == "freed") cudaFreeAsync(out, nullptr);
    kernel<<<1, threads, shared, nullptr>>>(out, 1);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) {
        std::printf("error: %s\n", cudaGetErrorString(status));
        return 1;
    }
    std::printf("%g\n", static_cast<double>(out[0]));
    cudaFreeAsync(out, nullptr);
    return 0;
}
