// float16 and bfloat16 by their bits, for processors and compilers without the types.
#pragma once

#include <stdint.h>
#include <string.h>

namespace lead_fast {

// static, not only inline: instruction sets must not share copies.
static inline float from_half_bits(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
    uint32_t bits = static_cast<uint32_t>(h & 0x7fffu) << 13;
    float value;
    if ((h & 0x7c00u) == 0x7c00u) {
        bits |= 0x7f800000u;
        memcpy(&value, &bits, 4);
    } else {
        memcpy(&value, &bits, 4);
        value *= 0x1p112f;  // re-biases the exponent, and makes subnormals normal
    }
    memcpy(&bits, &value, 4);
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}

static inline float from_bfloat_bits(uint16_t b) {
    const uint32_t bits = static_cast<uint32_t>(b) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

}  // namespace lead_fast
