// Rounds of Lloyd's algorithm: tiles of samples against all centres, then sums of those that moved.

#include "../kmeans.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "aligned.h"
#include "dispatch.h"

namespace lead_fast {
namespace {

constexpr int kTile = 64;  // samples

// Bounds nearer than this are measured: distances are a difference of products, and rounded.
template <class T>
constexpr T kSlack = T(1) + (sizeof(T) == 4 ? T(1e-4) : T(1e-10));

template <class T>
struct Tile {
    explicit Tile(std::int64_t stride) : product(static_cast<std::size_t>(kTile) * stride) {}
    AlignedBuffer<T> product;
    const T* row[kTile];
    std::int64_t who[kTile];
};

// A sample that goes from one centre to another.
struct Move {
    std::int64_t sample;
    std::int32_t from, to;
};

template <class T>
struct Round {
    const T* z;
    std::int64_t n, ld;
    int k;
    const T* centre;
    const T* moved;
    std::vector<T> square;     // of each centre, halved
    int far = 0;               // the centre that moved most,
    T farthest = 0, next = 0;  // by how much, and the most of the others

    Round(const T* rows, std::int64_t samples, std::int64_t stride, int centres, const T* at,
          const T* by)
        : z(rows), n(samples), ld(stride), k(centres), centre(at), moved(by) {
        for (int c = 0; c < k; ++c) {
            square.push_back(static_cast<T>(0.5 * kernels_of<T>().square_norm(at + c * ld, ld)));
            if (moved[c] > farthest) {
                next = farthest;
                farthest = moved[far = c];
            } else {
                next = std::max(next, moved[c]);
            }
        }
    }

    // Samples `first` to `last`; adds to `moves`.
    void assign(std::int64_t first, std::int64_t last, std::int32_t* label, T* upper, T* lower,
                Tile<T>& tile, std::vector<Move>& moves) const {
        int count = 0;
        for (std::int64_t i = first; i < last; ++i) {
            const std::int32_t own = label[i];
            if (own >= 0) {
                upper[i] += moved[own];
                lower[i] -= own == far ? next : farthest;
                if (upper[i] * kSlack<T> < lower[i]) continue;
            }
            tile.row[count] = z + i * ld;
            tile.who[count++] = i;
        }
        if (count == 0) return;
        const std::int64_t stride = padded(k);
        kernels_of<T>().dots_lines(tile.row, count, centre, ld, k, static_cast<int>(ld),
                                   tile.product.data(), stride, nullptr, 0);
        for (int j = 0; j < count; ++j) {
            const T* product = tile.product.data() + j * stride;
            // Half the squared distances less half the sample's own square.
            T best = std::numeric_limits<T>::infinity(), second = best;
            std::int32_t nearest = 0;
            for (int c = 0; c < k; ++c) {
                const T distance = square[static_cast<std::size_t>(c)] - product[c];
                if (distance < best) {
                    second = best;
                    best = distance;
                    nearest = c;
                } else if (distance < second) {
                    second = distance;
                }
            }
            const std::int64_t i = tile.who[j];
            const T own = static_cast<T>(kernels_of<T>().square_norm(tile.row[j], ld));
            upper[i] = std::sqrt(std::max(own + 2 * best, T(0)));
            lower[i] = std::sqrt(std::max(own + 2 * second, T(0)));
            if (nearest != label[i]) {
                moves.push_back({i, label[i], nearest});
                label[i] = nearest;
            }
        }
    }

    // Brings a centre's sum and count up to date.
    void settle(const std::vector<std::vector<Move>>& moves, int c, double* sum,
                std::int64_t* count) const {
        double* const total = sum + c * ld;
        for (const std::vector<Move>& some : moves) {
            for (const Move& move : some) {
                if (move.from != c && move.to != c) continue;
                const T* row = z + move.sample * ld;
                const double sign = move.to == c ? 1.0 : -1.0;
                for (std::int64_t j = 0; j < ld; ++j) total[j] += sign * row[j];
                count[c] += move.to == c ? 1 : -1;
            }
        }
    }
};

}  // namespace

template <class T>
std::int64_t kmeans_round(const T* z, std::int64_t n, std::int64_t ld, int k, const T* centre,
                          const T* moved, int threads, std::int32_t* label, T* upper, T* lower,
                          double* sum, std::int64_t* count) {
    const Round<T> round(z, n, ld, k, centre, moved);
    std::vector<Tile<T>> tiles;
    for (int t = 0; t < threads; ++t) tiles.emplace_back(padded(k));
    // A list for each run of tiles, so that their order does not depend on the threads. Room for
    // all is made here: nothing may throw among the threads.
    const std::int64_t run = 16 * kTile, runs = (n + run - 1) / run;
    std::vector<std::vector<Move>> moves(static_cast<std::size_t>(runs));
    for (std::vector<Move>& some : moves) some.reserve(static_cast<std::size_t>(run));
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t r = 0; r < runs; ++r) {
            const std::int64_t end = std::min(n, (r + 1) * run);
            for (std::int64_t first = r * run; first < end; first += kTile) {
                round.assign(first, std::min(end, first + kTile), label, upper, lower,
                             tiles[static_cast<std::size_t>(omp_get_thread_num())],
                             moves[static_cast<std::size_t>(r)]);
            }
        }
#pragma omp for schedule(dynamic, 1)
        for (int c = 0; c < k; ++c) round.settle(moves, c, sum, count);
    }
    std::int64_t changed = 0;
    for (const std::vector<Move>& some : moves) changed += static_cast<std::int64_t>(some.size());
    return changed;
}

template std::int64_t kmeans_round(const float*, std::int64_t, std::int64_t, int, const float*,
                                   const float*, int, std::int32_t*, float*, float*, double*,
                                   std::int64_t*);
template std::int64_t kmeans_round(const double*, std::int64_t, std::int64_t, int, const double*,
                                   const double*, int, std::int32_t*, double*, double*, double*,
                                   std::int64_t*);

}  // namespace lead_fast
