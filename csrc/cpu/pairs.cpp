// Ranks of all pairs: histograms by thread, then exact ranks of the pairs of chosen bins.

#include "../pairs.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace lead_fast {
namespace {

constexpr int kPiece = 256;

int common(const std::uint64_t* a, const std::uint64_t* b, int words) {
    int total = 0;
    for (int w = 0; w < words; ++w) total += __builtin_popcountll(a[w] & b[w]);
    return total;
}

// Weight of the pair (column j, row i), j < i: the first index of the table is the column's.
double weight_of(const PairWeights& w, std::int64_t j, std::int64_t i) {
    const std::int64_t place = static_cast<std::int64_t>(w.code[j]) * w.codes + w.code[i];
    if (w.bits == nullptr) return w.weight[place];
    return w.weight[place * w.shared + common(w.bits + j * w.words, w.bits + i * w.words, w.words)];
}

template <class T>
std::int64_t index_of(T t, const Division& d) {
    const double place = (static_cast<double>(t) - d.low) * d.scale;
    const double last = static_cast<double>(d.bins - 1);
    const double positive = place > 0.0 ? place : 0.0;  // so that a NaN has index 0
    return static_cast<std::int64_t>(positive < last ? positive : last);
}

template <class T>
bool passes(T t, const PairFilter& filter) {
    for (std::size_t l = 0; l < filter.division.size(); ++l) {
        if (index_of(t, filter.division[l]) != filter.index[l]) return false;
    }
    return true;
}

// Calls body(j, i, distance, index) for the pairs of row i.
template <class T, class Body>
void for_row(const PairBlock<T>& block, std::int64_t row, const PairFilter& filter,
             const Division& division, Body body) {
    const T* similarity = block.similarity + row * block.ld;
    const std::int64_t i = block.first + row;
    T t[kPiece];
    std::int32_t index[kPiece];
    const double low = division.low, scale = division.scale;
    const double last = static_cast<double>(division.bins - 1);
    for (std::int64_t first = 0; first < i; first += kPiece) {
        const int count = static_cast<int>(std::min<std::int64_t>(kPiece, i - first));
        for (int p = 0; p < count; ++p) t[p] = T(1) - similarity[first + p];
        for (int p = 0; p < count; ++p) {  // index_of, in 32 bits so that it is vectorised
            const double place = (static_cast<double>(t[p]) - low) * scale;
            const double positive = place > 0.0 ? place : 0.0;
            index[p] = static_cast<std::int32_t>(positive < last ? positive : last);
        }
        if (filter.division.empty()) {
            for (int p = 0; p < count; ++p) body(first + p, i, static_cast<double>(t[p]), index[p]);
            continue;
        }
        for (int p = 0; p < count; ++p) {
            if (passes(t[p], filter)) body(first + p, i, static_cast<double>(t[p]), index[p]);
        }
    }
}

}  // namespace

template <class T>
void pair_histogram(const PairBlock<T>& block, const PairWeights& weights, const PairFilter& filter,
                    const Division& division, int threads, std::uint32_t* count, double* sum) {
    const bool one_label = weights.bits == nullptr;
    std::vector<std::vector<double>> rows(threads, std::vector<double>(weights.codes));
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const int me = omp_get_thread_num();
        std::uint32_t* mine = count + me * division.bins;
        double* mine_sum = sum + me * division.bins;
        if (one_label) {
            double* of_code = rows[me].data();  // weights of this row, side by side
            const std::int32_t own = weights.code[block.first + row];
            for (int c = 0; c < weights.codes; ++c) {
                of_code[c] = weights.weight[static_cast<std::int64_t>(c) * weights.codes + own];
            }
            const std::int32_t* code = weights.code;
            for_row(block, row, filter, division,
                    [=](std::int64_t j, std::int64_t, double, std::int32_t index) {
                        ++mine[index];
                        const double w = of_code[code[j]];
                        if (w != 0.0) mine_sum[index] += w;
                    });
        } else {
            for_row(block, row, filter, division,
                    [&](std::int64_t j, std::int64_t i, double, std::int32_t index) {
                        ++mine[index];
                        const double w = weight_of(weights, j, i);
                        if (w != 0.0) mine_sum[index] += w;
                    });
        }
    }
}

template <class T>
void pair_collect(const PairBlock<T>& block, const PairWeights& weights, const PairFilter& filter,
                  const Division& division, int threads, std::int64_t* cursor,
                  const std::int64_t* end, double* distance, double* weight) {
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
    for (std::int64_t row = 0; row < block.rows; ++row) {
        for_row(block, row, filter, division,
                [&](std::int64_t j, std::int64_t i, double t, std::int32_t index) {
                    if (end[index] < 0) return;
                    std::int64_t place;
#pragma omp atomic capture
                    place = cursor[index]++;
                    if (place >= end[index]) return;  // another number of pairs than was counted
                    distance[place] = t;
                    weight[place] = weight_of(weights, j, i);
                });
    }
}

template void pair_histogram(const PairBlock<float>&, const PairWeights&, const PairFilter&,
                             const Division&, int, std::uint32_t*, double*);
template void pair_histogram(const PairBlock<double>&, const PairWeights&, const PairFilter&,
                             const Division&, int, std::uint32_t*, double*);
template void pair_collect(const PairBlock<float>&, const PairWeights&, const PairFilter&,
                           const Division&, int, std::int64_t*, const std::int64_t*, double*,
                           double*);
template void pair_collect(const PairBlock<double>&, const PairWeights&, const PairFilter&,
                           const Division&, int, std::int64_t*, const std::int64_t*, double*,
                           double*);

void pair_ranks(std::int64_t bins, const std::int64_t* begin, const std::int64_t* before,
                int threads, const double* distance, const double* weight, double* rank_weight,
                double* ties) {
    std::vector<double> of_bin(bins, 0.0), ties_of_bin(bins, 0.0);
    std::vector<std::vector<std::pair<double, double>>> scratch(threads);
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
    for (std::int64_t b = 0; b < bins; ++b) {
        auto& pairs = scratch[omp_get_thread_num()];
        pairs.clear();
        for (std::int64_t p = begin[b]; p < begin[b + 1]; ++p) {
            // A NaN would have no place in an order, nor an equal, itself included.
            const double far = std::numeric_limits<double>::infinity();
            pairs.emplace_back(std::isnan(distance[p]) ? far : distance[p], weight[p]);
        }
        std::sort(pairs.begin(), pairs.end());
        const std::size_t size = pairs.size();
        for (std::size_t p = 0, next; p < size; p = next) {
            double total = 0.0;
            for (next = p; next < size && pairs[next].first == pairs[p].first; ++next) {
                total += pairs[next].second;
            }
            const double tied = static_cast<double>(next - p);
            of_bin[b] += total * (static_cast<double>(before[b]) + static_cast<double>(p) +
                                  0.5 * (tied + 1.0));
            ties_of_bin[b] += tied * tied * tied - tied;
        }
    }
    *rank_weight = *ties = 0.0;
    for (std::int64_t b = 0; b < bins; ++b) {
        *rank_weight += of_bin[b];
        *ties += ties_of_bin[b];
    }
}

void pair_types(const PairWeights& labels, std::int64_t n, int threads, std::int64_t* counts) {
    const std::int64_t cells = static_cast<std::int64_t>(labels.codes) * labels.codes *
                               (labels.bits != nullptr ? labels.shared : 1);
    std::vector<std::vector<std::int64_t>> mine(threads, std::vector<std::int64_t>(cells, 0));
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
    for (std::int64_t i = 0; i < n; ++i) {
        auto& count = mine[omp_get_thread_num()];
        for (std::int64_t j = 0; j < i; ++j) {
            std::int64_t place =
                static_cast<std::int64_t>(labels.code[j]) * labels.codes + labels.code[i];
            if (labels.bits != nullptr) {
                place =
                    place * labels.shared + common(labels.bits + j * labels.words,
                                                   labels.bits + i * labels.words, labels.words);
            }
            ++count[place];
        }
    }
    for (std::int64_t c = 0; c < cells; ++c) {
        counts[c] = 0;
        for (const auto& count : mine) counts[c] += count[c];
    }
}

void one_hot_products(int k, double* products) {
    const double off = -1.0 / k, on = 1.0 - 1.0 / k;
    std::vector<double> before(k), after(k);  // sums up to the component
    double sum = 0.0;
    for (int c = 0; c < k; ++c) {
        before[c] = sum;
        sum = std::fma(off, off, sum);
    }
    for (int i = 0; i < k; ++i) {
        double own = std::fma(on, on, before[i]);
        double other = std::fma(on, off, before[i]);
        for (int c = i + 1; c < k; ++c) {
            after[c] = std::fma(off, on, other);
            own = std::fma(off, off, own);
            other = std::fma(off, off, other);
        }
        products[i * static_cast<std::int64_t>(k) + i] = own;
        // All chains after their second `on`, side by side.
        for (int c = i + 2; c < k; ++c) {
            for (int j = i + 1; j < c; ++j) after[j] = std::fma(off, off, after[j]);
        }
        for (int j = i + 1; j < k; ++j) {
            products[i * static_cast<std::int64_t>(k) + j] = after[j];
            products[j * static_cast<std::int64_t>(k) + i] = after[j];
        }
    }
}

}  // namespace lead_fast
