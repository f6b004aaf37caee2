// The instruction sets' versions of the generator behind head.h.
#pragma once

#include <cstdint>

namespace lead_fast {

using DrawBlocks = void (*)(std::uint64_t seed, std::uint32_t layer, std::int64_t first,
                            std::int64_t last, float scale, float* weights);

#define LEAD_FAST_DECLARE_DRAW(isa)                                               \
    namespace isa {                                                               \
    void draw_blocks(std::uint64_t seed, std::uint32_t layer, std::int64_t first, \
                     std::int64_t last, float scale, float* weights);             \
    }
LEAD_FAST_DECLARE_DRAW(baseline)
LEAD_FAST_DECLARE_DRAW(avx2)
LEAD_FAST_DECLARE_DRAW(avx512)
#undef LEAD_FAST_DECLARE_DRAW

}  // namespace lead_fast
