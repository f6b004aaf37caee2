#pragma once

#include <cstdint>

#include "half.h"

struct __nv_bfloat16 {
    std::uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 x) { return lead_fast::from_bfloat_bits(x.bits); }
