// Drawing normal numbers, compiled once per instruction set and without contraction (see philox.h).

#include "../philox.h"
#include "head_kernels.h"

namespace lead_fast {
namespace LEAD_FAST_ISA {

// weights[4 (b - first) ...] for blocks first <= b < last, all of them whole.
void draw_blocks(std::uint64_t seed, std::uint32_t layer, std::int64_t first, std::int64_t last,
                 float scale, float* weights) {
    constexpr int kLanes = 32;
    float lane[4][kLanes];
    for (std::int64_t block = first; block < last; block += kLanes) {
        for (int i = 0; i < kLanes; ++i) {
            const std::uint64_t b = static_cast<std::uint64_t>(block + i);
            const Philox words =
                philox4x32(static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32),
                           layer, kHeadStream, seed);
            float normal[4];
            normal4(words, normal);
            for (int k = 0; k < 4; ++k) lane[k][i] = normal[k] * scale;
        }
        const int count = last - block < kLanes ? static_cast<int>(last - block) : kLanes;
        for (int i = 0; i < count; ++i) {
            for (int k = 0; k < 4; ++k) weights[4 * (block - first + i) + k] = lane[k][i];
        }
    }
}

}  // namespace LEAD_FAST_ISA
}  // namespace lead_fast
