// Random heads on a device: csrc/head.h, with the pointer on the device.
#pragma once

#include "runtime.h"

namespace lead_fast {
namespace cuda {

// weights[i] = scale * normal(i), i < count, the same bits as on the processor.
void head_weights(const Call& call, std::uint64_t seed, std::uint32_t layer, std::int64_t count,
                  float scale, float* weights);

}  // namespace cuda
}  // namespace lead_fast
