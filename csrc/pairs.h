// Ranks of the distances of all pairs of samples, without an array of the pairs.
#pragma once

#include <cstdint>
#include <vector>

#include "types.h"

namespace lead_fast {

// What the labels say of a pair: a weight, looked up by the codes of its two samples or, for
// several labels per sample, by their numbers of labels and how many they share.
struct PairWeights {
    const std::int32_t* code;   // (n)
    int codes;                  // codes in use
    const double* weight;       // (codes, codes), or (codes, codes, shared) with bits
    const std::uint64_t* bits;  // (n, words) one bit per label, or null
    int words;
    int shared;  // one more than the most labels that two samples can share
};

// One division of an interval of distances into bins; a distance t has index
// floor((t - low) * scale), limited to [0, bins).
struct Division {
    double low;
    double scale;
    std::int64_t bins;
};

// Only pairs whose index in each of these divisions is the given one take part.
struct PairFilter {
    std::vector<Division> division;
    std::vector<std::int64_t> index;
};

// Rows first .. first + rows of the (n, n) similarities, columns 0 .. first + rows, row-major with
// leading dimension ld. The pairs are those with column < row; their distance is 1 - similarity.
template <class T>
struct PairBlock {
    const T* similarity;
    std::int64_t ld;
    std::int64_t first;
    std::int64_t rows;
};

// count[thread * bins + index] += 1 and sum[...] += weight for every pair; thread < threads.
template <class T>
void pair_histogram(const PairBlock<T>& block, const PairWeights& weights, const PairFilter& filter,
                    const Division& division, int threads, std::uint32_t* count, double* sum);

// Puts distance and weight of every pair of a wanted bin at that bin's cursor, which moves on, up
// to end[index]; end[index] is -1 for bins that are not wanted.
template <class T>
void pair_collect(const PairBlock<T>& block, const PairWeights& weights, const PairFilter& filter,
                  const Division& division, int threads, std::int64_t* cursor,
                  const std::int64_t* end, double* distance, double* weight);

// For bins b with pairs begin[b] .. begin[b + 1] of distance and weight, and `before[b]` pairs in
// all lower bins: sums over the pairs of rank * weight (ties averaged, from 1), and over the ties
// of size^3 - size. A NaN counts as infinitely far, and has index 0 in the divisions above.
void pair_ranks(std::int64_t bins, const std::int64_t* begin, const std::int64_t* before,
                int threads, const double* distance, const double* weight, double* rank_weight,
                double* ties);

// counts (codes, codes, shared): pairs i < j by code of i, code of j and labels in common.
void pair_types(const PairWeights& labels, std::int64_t n, int threads, std::int64_t* counts);

// products (k, k): inner products of the centred one-hot vectors of length k, summed from the first
// component to the last with fused multiply-add, as the usual matrix products do. They are equal in
// exact arithmetic and differ by roundings, which Spearman's ranks make visible.
void one_hot_products(int k, double* products);

}  // namespace lead_fast
