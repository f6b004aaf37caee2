// k-means on a GPU: centres that are drawn far apart, and rounds of Lloyd's algorithm, without a
// look from the host between two draws or two rounds.
#pragma once

#include <cstdint>

#include "runtime.h"

namespace lead_fast {
namespace cuda {

constexpr int kTrials = 8;  // candidates for each centre after the first

// chosen (count): sample `first`, then for each row of draws (count - 1, kTrials), numbers from 0
// to below 1, that many samples drawn in proportion to their squared distance from the nearest one
// chosen before, of which the one that leaves the smallest sum of these is kept. z (n, c), norms
// (n) the squared lengths of its rows, all on the device.
template <class T>
void kmeans_first(const Call& call, const T* z, const T* norms, std::int64_t n, std::int64_t c,
                  std::int64_t count, std::int64_t first, const double* draws,
                  std::int64_t* chosen);

// Centres [r] of centres (rounds + 1, count, width), of which the first are given, move to [r + 1],
// the means of the samples that they are nearest to; one that has none stays. The last column of z
// (n, width) is 1, and that of a centre minus half the squared length of the others, so that the
// largest product is the nearest centre's. labels (n) are brought up to date from round to round.
// ends (rounds, 2), on the host: samples whose label has changed, and the sum of the centres'
// squared movements. Waits for the stream.
template <class T>
void kmeans_rounds(const Call& call, const T* z, std::int64_t n, std::int64_t width,
                   std::int64_t count, int rounds, T* centres, std::int64_t* labels, double* ends);

}  // namespace cuda
}  // namespace lead_fast
