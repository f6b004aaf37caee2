// Kernels with one fault each, and some with none, by which the emulator is tried: `faults NAME`
// runs one of them and prints the launch's error, or what it computed.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "cuda/async_copy.cuh"

namespace {

using lead_fast::cuda::copy_16;
using lead_fast::cuda::end_group;
using lead_fast::cuda::wait_for_groups;

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

// Every kind of operation, as it should be: a ring of two copies, ballots of quarters of a warp
// that are not in step, atomics; blocks take the static memory of others over.
__global__ void all_right(float* out, int) {
    extern __shared__ __align__(16) float tile[];
    __shared__ float slots[kThreads];
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* const ring = tile + threadIdx.x / 32 * 8;
    float sum = 0.0f;
    if (lane == 0) copy_16(ring, out + 32);
    end_group();
    for (int step = 0; step < 4; ++step) {
        wait_for_groups<0>();
        __syncwarp();
        if (lane == 0 && step < 3) copy_16(ring + (step + 1) % 2 * 4, out + 32);
        end_group();
        sum += ring[step % 2 * 4 + lane % 4];
    }
    slots[threadIdx.x] = sum;
    __syncthreads();
    sum += slots[threadIdx.x ^ 33];
    const unsigned quarter = 0xffu << (lane / 8 * 8);
    for (int turn = 0; turn < lane / 8; ++turn) {
        if (__ballot_sync(quarter, lane % 8 == turn) != 1u << (lane / 8 * 8 + turn)) sum = 0.0f;
    }
    const float before = __shfl_sync(0xffffffffu, sum, 1);
    if (lane < 2) {
        __ballot_sync(3u, true);
        __ballot_sync(3u, true);
    }
    if (before != sum) sum = 0.0f;
    atomicAdd(reinterpret_cast<unsigned*>(out), static_cast<unsigned>(sum));
}

// Who comes last writes what stays.
__global__ void last_thread(float* out, int) {
    atomicAdd(reinterpret_cast<unsigned*>(out + 1), 1u);
    if (reinterpret_cast<unsigned*>(out)[1] % (2 * kThreads) == 0) {
        out[0] = static_cast<float>(blockIdx.x * kThreads + threadIdx.x);
    }
}

__global__ void race_in_shared(float* out, int) {
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

}  // namespace

// Of a template that another file might have as well.
template <class T>
__global__ void outside_of_a_template(T* out, int one) {
    __shared__ T tile[kThreads];
    T* volatile to = tile;
    to[threadIdx.x + one] = T(1);
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

namespace {

__global__ void outside_by_atomics(float* out, int one) {
    atomicAdd(reinterpret_cast<unsigned*>(out) + threadIdx.x + one, 1u);
}

__global__ void race_with_atomics(float* out, int) {
    if (threadIdx.x == 3) out[0] = 0.0f;
    if (threadIdx.x == 5) atomicAdd(reinterpret_cast<unsigned*>(out), 1u);
}

__global__ void outside_global(float* out, int one) { out[threadIdx.x + one] = 1.0f; }

__global__ void misaligned(float* out, int one) {
    *reinterpret_cast<float4*>(out + one) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__global__ void unwritten(float* out, int) {
    extern __shared__ float tile[];
    out[threadIdx.x] += tile[threadIdx.x];
}

__global__ void unwritten_static(float* out, int) {
    __shared__ float slots[kThreads];
    if (threadIdx.x == 1) slots[1] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = slots[threadIdx.x];
}

// The second copy goes where the first one's bytes are still read.
__global__ void race_with_a_copy(float* out, int) {
    extern __shared__ __align__(16) float tile[];
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* const own = tile + threadIdx.x / 32 * 4;
    if (lane == 0) copy_16(own, out + 32);
    end_group();
    wait_for_groups<0>();
    __syncwarp();
    const float x = own[lane % 4];
    if (lane == 0) copy_16(own, out + 32);
    end_group();
    __syncwarp();
    wait_for_groups<0>();
    out[threadIdx.x % 32] = x;
}

__global__ void unwaited(float* out, int) {
    extern __shared__ __align__(16) float tile[];
    if (threadIdx.x == 0) {
        for (int i = 0; i < 4; ++i) out[i] = 1.0f;
        copy_16(tile, out);
        end_group();
        wait_for_groups<1>();
        out[0] = tile[0];
        wait_for_groups<0>();
    }
}

__global__ void never_waited(float* out, int) {
    extern __shared__ __align__(16) float tile[];
    copy_16(tile, out);
}

__global__ void misaligned_copy(float* out, int one) {
    extern __shared__ __align__(16) float tile[];
    copy_16(tile, out + one);
}

__global__ void apart(float* out, int) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 0.0f;
}

__global__ void some_ended(float* out, int) {
    if (threadIdx.x >= 32) return;
    __syncthreads();
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

__global__ void too_much_static(float* out, int) {
    __shared__ float slots[12260];
    slots[threadIdx.x] = 1.0f;
    out[threadIdx.x] = slots[threadIdx.x];
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
    {"all_right", all_right},
    {"last_thread", last_thread},
    {"race_in_shared", race_in_shared},
    {"race_in_a_warp", race_in_a_warp},
    {"race_in_global_memory", race_in_global_memory},
    {"outside_dynamic_shared", outside_dynamic_shared},
    {"outside_static_shared", outside_static_shared},
    {"outside_of_a_template", outside_of_a_template<float>},
    {"outside_by_atomics", outside_by_atomics},
    {"race_with_atomics", race_with_atomics},
    {"outside_global", outside_global},
    {"misaligned", misaligned},
    {"unwritten", unwritten},
    {"unwritten_static", unwritten_static},
    {"race_with_a_copy", race_with_a_copy},
    {"unwaited", unwaited},
    {"never_waited", never_waited},
    {"misaligned_copy", misaligned_copy},
    {"apart", apart},
    {"some_ended", some_ended},
    {"lanes_apart", lanes_apart},
    {"lanes_gone", lanes_gone},
    {"not_of_the_mask", not_of_the_mask},
    {"too_much_static", too_much_static},
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
    unsigned blocks = 1;
    if (name == "all_right" || name == "last_thread") {
        for (int i = 0; i < kThreads; ++i) out[i] = i < 32 ? 0.0f : 1.0f;
        blocks = 2;
    }
    if (name == "right_after_a_fault") {
        for_ever<<<1, kThreads, 0, nullptr>>>(out, 1);
        cudaGetLastError();
    }
    if (name == "attribute") {
        if (cudaFuncSetAttribute(right, cudaFuncAttributeMaxDynamicSharedMemorySize, 232449) ==
            cudaSuccess) {
            return 2;
        }
        cudaGetLastError();
        cudaFuncSetAttribute(right, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000);
        shared = 50000;
    }
    kernel<<<blocks, threads, shared, nullptr>>>(out, 1);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) {
        std::printf("error: %s\n", cudaGetErrorString(status));
        return 1;
    }
    if (name == "all_right") {
        std::printf("%u\n", *reinterpret_cast<unsigned*>(out));
    } else {
        std::printf("%g\n", static_cast<double>(out[0]));
    }
    cudaFreeAsync(out, nullptr);
    return 0;
}
