// 2^x by a polynomial, for the units of a GPU that are idle while its special function unit takes
// the other exponentials.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace lead_fast {

// 2^x for x <= 0, with a relative error below 2e-7; below 2^-126 it is 2^-126. A NaN counts as
// -inf.
//
// x = n + f with n whole and |f| <= 1/2: adding 1.5 * 2^23 rounds x to a whole number, whose bits
// are then the lowest of the sum's. The polynomial is 2^f's of degree 5 with the least relative
// error (9e-8) among those that are exact at 0.
LEAD_FAST_HOST_DEVICE inline float power_of_two_by_polynomial(float x) {
    constexpr float kRound = 12582912.0f;
    x = x > -126.0f ? x : -126.0f;
    const float rounded = x + kRound;
    const float f = x - (rounded - kRound);
    float p = 0x1.5bba14p-10f;
    p = p * f + 0x1.3cea88p-7f;
    p = p * f + 0x1.c6b752p-5f;
    p = p * f + 0x1.ebf9bcp-3f;
    p = p * f + 0x1.62e42ap-1f;
    p = p * f + 1.0f;
    // The exponent grows by n; what of `rounded` is not n is shifted out.
    std::uint32_t bits, power;
    std::memcpy(&bits, &rounded, 4);
    std::memcpy(&power, &p, 4);
    power += bits << 23;
    std::memcpy(&p, &power, 4);
    return p;
}

}  // namespace lead_fast
