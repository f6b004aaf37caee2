// Copies from global to shared memory that a thread waits for later (compute capability 8.0).
#pragma once

#include <cstdint>

namespace lead_fast {
namespace cuda {

// 16 bytes; both addresses are multiples of 16.
__device__ __forceinline__ void copy_16(void* shared, const void* global) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

// Ends a group of this thread's copies; a group may be empty.
__device__ __forceinline__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the newest kPending groups of this thread are under way.
template <int kPending>
__device__ __forceinline__ void wait_for_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace cuda
}  // namespace lead_fast
