// What the sweeps and the certificate of the dual solver share.
#pragma once

#include <cmath>
#include <vector>

#include "../svm.h"
#include "aligned.h"
#include "mapped_rows.h"

namespace lead_fast {

// splitmix64: the order of visits asks for no better random numbers than these.
inline std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

template <class T>
void shuffle(T* items, std::int64_t n, std::uint64_t seed) {
    for (std::int64_t i = n - 1; i > 0; --i) {
        seed = mix(seed);
        std::swap(items[i], items[seed % static_cast<std::uint64_t>(i + 1)]);
    }
}

// The solver's state in float32, or in float64 where float32 cannot reach the tolerance.
template <class T>
struct SvmState {
    SvmState(const MappedRows& mapped, const std::int32_t* class_numbers, int n_classes,
             const SvmOptions& chosen);
    // Goes on from the multipliers of a solver in float32.
    explicit SvmState(const SvmState<float>& from);

    const MappedRows& rows;
    const std::int32_t* labels;
    const SvmOptions& options;
    const int classes;
    const int stride;        // padded(classes)
    const std::int64_t ldw;  // padded(columns)
    const int block_size;    // rows per block
    const std::int64_t blocks;

    AlignedBuffer<T> weights;            // (classes, ldw) the sum of all changes so far
    AlignedBuffer<T> average;            // (classes, ldw) the same, averaged over the last sweeps
    std::vector<T> bias;                 // (classes)
    std::vector<T> average_bias;         // (classes)
    AlignedBuffer<T> alpha;              // (n, classes)
    std::vector<float> gap;              // (n) shares of the duality gap met at the last visits
    std::vector<std::int8_t> frozen;     // (n, classes) -1, 0, +1: see DualBlock::frozen
    std::vector<std::int32_t> awake;     // (n) pairs of the sample that are not frozen
    std::vector<std::int32_t> due;       // (n) the sweep in which the sample is visited next
    std::vector<std::int64_t> sequence;  // (n) rows in the order in which blocks hold them
    AlignedBuffer<T> gram;  // (blocks, block_size * (block_size + 1) / 2) lower triangles
    bool gram_known = false;
    double full_gap = INFINITY;  // estimated by the last sweep over everything
    double hidden_gap =
        1.2;  // its ratio to the estimate before, which frozen pairs were left out of

    double dual_terms = 0.0;  // sum alpha - (hinge 2) |alpha|^2 / (4C)

    std::int64_t packed_block() const {
        return static_cast<std::int64_t>(block_size) * (block_size + 1) / 2;
    }
};

// Visits blocks until the gap estimated from what the visits met is at most `target`, or the pass
// limit; returns the estimate. Throws Interrupted.
template <class T>
double sweep(SvmState<T>& state, double target, SvmReport& report);

}  // namespace lead_fast
