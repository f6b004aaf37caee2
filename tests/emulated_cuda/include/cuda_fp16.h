#pragma once

#include <cstdint>

#include "half.h"

struct __half {
    std::uint16_t bits;
};
inline float __half2float(__half x) { return lead_fast::from_half_bits(x.bits); }
