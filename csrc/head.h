// Random heads: He-normal weights from a counter-based generator.
#pragma once

#include "types.h"

namespace lead_fast {

// weights[i] = scale * normal(i), i < count: the row-major weights of one layer.
void head_weights(std::uint64_t seed, std::uint32_t layer, std::int64_t count, float scale,
                  int threads, float* weights);

// keys[j] of the j-th sample of a class: the sample order of a seeded choice without replacement.
void sample_keys(std::uint64_t seed, std::uint32_t class_number, std::uint32_t stream,
                 std::int64_t count, std::uint64_t* keys);

}  // namespace lead_fast
