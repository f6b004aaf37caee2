// One round of Lloyd's algorithm, with bounds that spare most distances (Hamerly, SDM 2010).
#pragma once

#include <cstdint>

namespace lead_fast {

// Samples z (n, ld) and centres (k, ld), padded with zeros to ld, a multiple of 16.
//
// upper[i] bounds the distance of sample i to the centre label[i], lower[i] that to every other
// one, as of centres that have since moved by moved (k): samples whose bounds still tell them apart
// stay where they are, all others are measured. label, upper and lower are brought up to date; so
// are the sums (k, ld) and counts (k) of the samples of each centre. A sample with label -1 has no
// centre yet. Returns how many samples changed theirs.
//
// The same bits for any number of threads. Sums in float64; distances in the type of z.
template <class T>
std::int64_t kmeans_round(const T* z, std::int64_t n, std::int64_t ld, int k, const T* centre,
                          const T* moved, int threads, std::int32_t* label, T* upper, T* lower,
                          double* sum, std::int64_t* count);

}  // namespace lead_fast
