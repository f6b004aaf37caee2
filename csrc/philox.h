// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11)
// and normal numbers from it, by operations that IEEE 754 defines exactly and in one fixed order:
// every processor that does not contract a * b + c draws the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace lead_fast {

// static, not only inline: each instruction set compiles its own copy, and no linker may merge
// them.

struct Philox {
    std::uint32_t word[4];
};

LEAD_FAST_HOST_DEVICE static inline Philox philox4x32(std::uint32_t c0, std::uint32_t c1,
                                                      std::uint32_t c2, std::uint32_t c3,
                                                      std::uint64_t key) {
    std::uint32_t k0 = static_cast<std::uint32_t>(key);
    std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = static_cast<std::uint64_t>(0xD2511F53u) * c0;
        const std::uint64_t b = static_cast<std::uint64_t>(0xCD9E8D57u) * c2;
        const std::uint32_t n0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
        const std::uint32_t n2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
        c1 = static_cast<std::uint32_t>(b);
        c3 = static_cast<std::uint32_t>(a);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Philox{{c0, c1, c2, c3}};
}

// ln(((w >> 8) + 1/2) / 2^24), relative error below 2e-7.
LEAD_FAST_HOST_DEVICE static inline float log_uniform(std::uint32_t w) {
    const std::uint32_t m = w >> 8;
    const float u = (static_cast<float>(m) + 0.5f) * 0x1p-24f;
    // Near 1 the half is lost in u; the distance to 1 is exact.
    const float below_one = (static_cast<float>(0x1000000u - m) - 0.5f) * -0x1p-24f;
    std::uint32_t bits;
    std::memcpy(&bits, &u, 4);
    const std::uint32_t shifted =
        bits - 0x3f3504f3u;  // sqrt(1/2): mantissa into [sqrt(1/2), sqrt(2))
    const std::int32_t exponent = static_cast<std::int32_t>(shifted) >> 23;
    bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
    float mantissa;
    std::memcpy(&mantissa, &bits, 4);
    const float e = static_cast<float>(exponent);
    const float z = exponent == 0 ? below_one : mantissa - 1.0f;
    // log(1 + z) = z - z^2/2 + z^3 p(z); p as in the Cephes library's logf.
    float p = 7.0376836292e-2f;
    p = p * z + -1.1514610310e-1f;
    p = p * z + 1.1676998740e-1f;
    p = p * z + -1.2420140846e-1f;
    p = p * z + 1.4249322787e-1f;
    p = p * z + -1.6668057665e-1f;
    p = p * z + 2.0000714765e-1f;
    p = p * z + -2.4999993993e-1f;
    p = p * z + 3.3333331174e-1f;
    const float square = z * z;
    float tail = z * square * p;
    tail = tail + e * -2.12194440e-4f;
    tail = tail + square * -0.5f;
    return (z + tail) + e * 0.693359375f;
}

// cos and sin of 2 pi (w >> 8) / 2^24, absolute error below 2e-7.
LEAD_FAST_HOST_DEVICE static inline void cos_sin_uniform(std::uint32_t w, float* c, float* s) {
    const std::int32_t m = static_cast<std::int32_t>(w >> 8);
    const std::int32_t quadrant = (m + (1 << 21)) >> 22;  // nearest multiple of a quarter turn
    const float x = static_cast<float>(m - (quadrant << 22)) * (0x1p-24f * 6.28318530717958648f);
    const float z = x * x;
    float sine = -1.9515295891e-4f;
    sine = sine * z + 8.3321608736e-3f;
    sine = sine * z + -1.6666654611e-1f;
    sine = sine * z * x + x;
    float cosine = 2.443315711809948e-5f;
    cosine = cosine * z + -1.388731625493765e-3f;
    cosine = cosine * z + 4.166664568298827e-2f;
    cosine = cosine * z * z + (z * -0.5f + 1.0f);
    const bool swap = (quadrant & 1) != 0;
    const float a = swap ? sine : cosine;
    const float b = swap ? cosine : sine;
    *c = ((quadrant + 1) & 2) != 0 ? -a : a;
    *s = (quadrant & 2) != 0 ? -b : b;
}

// Four standard normal numbers from one block of random words (Box-Muller, twice).
LEAD_FAST_HOST_DEVICE static inline void normal4(const Philox& block, float out[4]) {
    for (int pair = 0; pair < 2; ++pair) {
        const float radius = sqrtf(-2.0f * log_uniform(block.word[2 * pair]));
        float c, s;
        cos_sin_uniform(block.word[2 * pair + 1], &c, &s);
        out[2 * pair] = radius * c;
        out[2 * pair + 1] = radius * s;
    }
}

// What the third and fourth counter words mean: (layer, 0) weights of a head; (class, 1) the choice
// of samples for the kernel; (class, 2) the dealing of samples into folds.
enum PhiloxStream : std::uint32_t { kHeadStream = 0, kSampleStream = 1, kFoldStream = 2 };

}  // namespace lead_fast
