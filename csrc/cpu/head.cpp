// Random heads.

#include "../head.h"

#include <algorithm>
#include <cstring>

#include "../philox.h"
#include "dispatch.h"
#include "head_kernels.h"

namespace lead_fast {
namespace {

DrawBlocks draw_blocks() {
#if defined(LEAD_FAST_X86)
    if (&kernels() == &avx512::table) return avx512::draw_blocks;
    if (&kernels() == &avx2::table) return avx2::draw_blocks;
#endif
    return baseline::draw_blocks;
}

}  // namespace

void head_weights(std::uint64_t seed, std::uint32_t layer, std::int64_t count, float scale,
                  int threads, float* weights) {
    constexpr std::int64_t kPiece = 1 << 14;  // blocks of four numbers
    const DrawBlocks draw = draw_blocks();
    const std::int64_t whole = count / 4;
    const std::int64_t pieces = (whole + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
        draw(seed, layer, piece * kPiece, std::min(whole, (piece + 1) * kPiece), scale,
             weights + 4 * piece * kPiece);
    }
    if (count % 4 != 0) {
        float last[4];
        draw(seed, layer, whole, whole + 1, scale, last);
        std::memcpy(weights + 4 * whole, last, static_cast<std::size_t>(count % 4) * sizeof(float));
    }
}

void sample_keys(std::uint64_t seed, std::uint32_t class_number, std::uint32_t stream,
                 std::int64_t count, std::uint64_t* keys) {
    for (std::int64_t j = 0; j < count; ++j) {
        const std::uint64_t counter = static_cast<std::uint64_t>(j);
        const Philox block =
            philox4x32(static_cast<std::uint32_t>(counter),
                       static_cast<std::uint32_t>(counter >> 32), class_number, stream, seed);
        keys[j] = static_cast<std::uint64_t>(block.word[1]) << 32 | block.word[0];
    }
}

}  // namespace lead_fast
