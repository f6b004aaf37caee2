// Random heads. Compiled without contraction of a * b + c (see philox.h and CMakeLists.txt).

#include "../philox.h"
#include "head.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// Thread b draws block b of four numbers: weights[4 b .. 4 b + 3] = scale * normal.
__global__ void head_weights_kernel(std::uint64_t seed, std::uint32_t layer, std::int64_t count,
                                    float scale, float* __restrict__ weights) {
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    const std::int64_t blocks = (count + 3) / 4;
    for (std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
         b < blocks; b += stride) {
        const std::uint64_t counter = static_cast<std::uint64_t>(b);
        const Philox words =
            philox4x32(static_cast<std::uint32_t>(counter),
                       static_cast<std::uint32_t>(counter >> 32), layer, kHeadStream, seed);
        float normal[4];
        normal4(words, normal);
        for (int i = 0; i < 4; ++i) {
            if (4 * b + i < count) weights[4 * b + i] = normal[i] * scale;
        }
    }
}

}  // namespace

void head_weights(const Call& call, std::uint64_t seed, std::uint32_t layer, std::int64_t count,
                  float scale, float* weights) {
    if (count == 0) return;
    const std::int64_t needed = ((count + 3) / 4 + kThreads - 1) / kThreads;
    const std::int64_t most = 16 * call.facts().processors;
    head_weights_kernel<<<static_cast<unsigned>(needed < most ? needed : most), kThreads, 0,
                          call.stream()>>>(seed, layer, count, scale, weights);
    LEAD_FAST_LAUNCHED(head_weights_kernel, call.stream());
}

}  // namespace cuda
}  // namespace lead_fast
