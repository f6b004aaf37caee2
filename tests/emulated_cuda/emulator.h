// Runs CUDA kernels on the processor, one thread of a block at a time, to find what a GPU would
// only show now and then: see README.md. Everything here is written from the programming model of
// the CUDA C++ Programming Guide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "vector_types.h"

// What the sanitizers must not take for work of a kernel.
#define EMULATOR_OWN __attribute__((no_sanitize("thread", "address", "undefined")))

namespace emulated {

// Of the thread that is running.
struct Place {
    dim3 thread, block, block_size, grid_size;
    unsigned char* dynamic_shared;
};
extern Place now;

// Runs all threads of all blocks. What goes wrong is what cudaGetLastError() gives.
void run(dim3 grid, dim3 block, std::size_t shared, const void* kernel, void (*body)(void*),
         void* arguments);

// Warp-wide and block-wide operations; `where` names the line for what is said of an error.
void block_barrier(const char* where);
void warp_barrier(unsigned mask, const char* where);
std::uint64_t exchange(unsigned mask, std::uint64_t bits, int from, const char* where);
unsigned ballot(unsigned mask, bool vote, const char* where);
int lane();

// A static variable of shared memory, which holds NaN as a block begins; counts its size.
void fresh(void* variable, std::size_t bytes);

// cp.async: a copy takes place when it is waited for; until then its target is full of NaN.
void copy_async(void* to, const void* from);
void commit_copies();
void wait_for_copies(int pending);

// ex2.approx.ftz.f32.
float power_of_two(float x);

template <class T>
EMULATOR_OWN inline std::uint64_t to_bits(T x) {
    static_assert(sizeof(T) <= 8, "a warp exchanges up to 8 bytes");
    std::uint64_t bits = 0;
    std::memcpy(&bits, &x, sizeof(T));
    return bits;
}

template <class T>
EMULATOR_OWN inline T from_bits(std::uint64_t bits) {
    T x;
    std::memcpy(&x, &bits, sizeof(T));
    return x;
}

// kernel<<<grid, block, shared, stream>>>(arguments) is rewritten to
// emulated::Launch(grid, block, shared, stream).of(kernel, arguments).
class Launch {
  public:
    Launch(dim3 grid, dim3 block, std::size_t shared = 0, const void* = nullptr)
        : grid_(grid), block_(block), shared_(shared) {}

    template <class... Parameters, class... Arguments>
    void of(void (*kernel)(Parameters...), Arguments&&... arguments) const {
        struct Call {
            void (*kernel)(Parameters...);
            std::tuple<Parameters...> arguments;
        } call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
        run(
            grid_, block_, shared_, reinterpret_cast<const void*>(kernel),
            [](void* given) {
                const Call& own = *static_cast<const Call*>(given);
                std::apply(own.kernel, own.arguments);
            },
            &call);
    }

  private:
    dim3 grid_, block_;
    std::size_t shared_;
};

}  // namespace emulated
