// Expectation step of a Gaussian mixture: a tile of samples against one component after the other,
// a growing number of columns at a time, with the samples that are still near enough.

#include "../mixture.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "aligned.h"
#include "dispatch.h"

namespace lead_fast {
namespace {

constexpr int kTile = 64;     // samples
constexpr int kFirst = 32;    // columns after which samples are sorted out first
constexpr int kOutputs = 16;  // rows of the factor per product: those below the diagonal are zero

template <class T>
struct Scratch {
    Scratch(std::int64_t ld, int m)
        : rows(static_cast<std::size_t>(kTile) * ld),
          product(static_cast<std::size_t>(kTile) * kOutputs),
          log_joint(static_cast<std::size_t>(kTile) * m) {}
    AlignedBuffer<T> rows, product;
    std::vector<double> log_joint;  // (kTile, m)
    int who[kTile];
    double distance[kTile];
};

template <class T>
struct Mixture {
    const T* z;
    int d;
    std::int64_t ld;
    int m;
    const T* mean;
    const T* factor;
    const double* constant;
    double depth;

    const T* matrix(int k) const { return factor + static_cast<std::int64_t>(k) * d * ld; }

    // Whether the last rows of the factor tell most: those of a component with fewer samples than
    // dimensions, which has next to no extent in the directions that are left for them.
    bool flat(int k) const {
        const T* last = matrix(k) + (d - 1) * ld + (d - 1);
        return d > kFirst && *last > T(8) * matrix(k)[0];
    }

    // Adds rows first .. last of the factor to the distances of the first `count` samples in
    // s.who; s.rows holds their differences to the mean.
    void add(int k, int first, int last, int count, Scratch<T>& s) const {
        for (; first < last; first += kOutputs) {
            const int outputs = std::min(kOutputs, last - first);
            const std::int64_t columns = std::min<std::int64_t>(padded(first + outputs), ld);
            kernels_of<T>().dots(s.rows.data(), ld, count, matrix(k) + first * ld, ld, outputs,
                                 static_cast<int>(columns), s.product.data(), kOutputs);
            for (int i = 0; i < count; ++i) {
                T square = T(0);
                const T* y = s.product.data() + i * kOutputs;
                for (int j = 0; j < outputs; ++j) square += y[j] * y[j];
                s.distance[i] += static_cast<double>(square);
            }
        }
    }

    void differences(int k, const std::int64_t* place, std::int64_t width, int count,
                     Scratch<T>& s) const {
        const T* centre = mean + k * ld;
        for (int i = 0; i < count; ++i) {
            const T* source = z + place[s.who[i]] * ld;
            T* row = s.rows.data() + i * ld;
            for (std::int64_t j = 0; j < width; ++j) row[j] = source[j] - centre[j];
        }
    }

    // Keeps in s.who the samples that may still be within depth of their best; returns how many.
    int keep(int k, int count, const double* best, Scratch<T>& s) const {
        int kept = 0;
        for (int i = 0; i < count; ++i) {
            const int sample = s.who[i];
            if (!(constant[k] - 0.5 * s.distance[i] >= best[sample] - depth)) continue;
            s.who[kept] = sample;
            s.distance[kept++] = s.distance[i];
        }
        return kept;
    }

    // Log-joint density of component k for the samples s.who of a tile, whose rows are in `place`,
    // as long as it is not certainly more than depth below best[sample]; -inf otherwise.
    void component(int k, const std::int64_t* place, int count, double* best, Scratch<T>& s) const {
        for (int i = 0; i < count; ++i) s.distance[i] = 0.0;
        int end = d;
        if (flat(k)) {
            end = d - kOutputs;
            differences(k, place, ld, count, s);
            add(k, end, d, count, s);
            count = keep(k, count, best, s);
        }
        for (int have = 0, want; have < end && count > 0; have = want) {
            want = have == 0 ? std::min(kFirst, end) : std::min(2 * have, end);
            differences(k, place, std::min<std::int64_t>(padded(want), ld), count, s);
            add(k, have, want, count, s);
            count = keep(k, count, best, s);
        }
        for (int i = 0; i < count; ++i) {
            const double joint = constant[k] - 0.5 * s.distance[i];
            s.log_joint[static_cast<std::size_t>(s.who[i]) * m + k] = joint;
            best[s.who[i]] = std::max(best[s.who[i]], joint);
        }
    }
};

}  // namespace

template <class T>
void mixture_e_step(const T* z, std::int64_t n, int d, std::int64_t ld, int m, const T* mean,
                    const T* factor, const double* constant, const std::int32_t* likely,
                    const std::int64_t* order, double depth, int threads, T* posterior,
                    double* log_likelihood) {
    const Mixture<T> mixture{z, d, ld, m, mean, factor, constant, depth};
    const double nothing = -std::numeric_limits<double>::infinity();
    const std::int64_t tiles = (n + kTile - 1) / kTile;
    std::vector<Scratch<T>> scratch;
    for (int t = 0; t < threads; ++t) scratch.emplace_back(ld, m);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
        Scratch<T>& s = scratch[omp_get_thread_num()];
        const std::int64_t* place = order + tile * kTile;
        const int size = static_cast<int>(std::min<std::int64_t>(kTile, n - tile * kTile));
        double best[kTile];
        std::fill(best, best + size, nothing);
        std::fill(s.log_joint.begin(), s.log_joint.end(), nothing);
        for (int first = 0, next; first < size; first = next) {  // runs of one likely component
            const std::int32_t k = likely[place[first]];
            int count = 0;
            for (next = first; next < size && likely[place[next]] == k; ++next) {
                s.who[count++] = next;
            }
            mixture.component(k, place, count, best, s);
        }
        for (int k = 0; k < m; ++k) {
            int count = 0;
            for (int i = 0; i < size; ++i) {
                if (likely[place[i]] != k) s.who[count++] = i;
            }
            mixture.component(k, place, count, best, s);
        }
        for (int i = 0; i < size; ++i) {
            const double* joint = s.log_joint.data() + static_cast<std::size_t>(i) * m;
            double total = 0.0;
            for (int k = 0; k < m; ++k) {
                if (joint[k] > nothing) total += std::exp(joint[k] - best[i]);
            }
            const double likelihood = best[i] + std::log(total);
            const std::int64_t row = place[i];
            log_likelihood[row] = likelihood;
            for (int k = 0; k < m; ++k) {
                posterior[k * n + row] =
                    joint[k] > nothing ? static_cast<T>(std::exp(joint[k] - likelihood)) : T(0);
            }
        }
    }
}

template void mixture_e_step(const float*, std::int64_t, int, std::int64_t, int, const float*,
                             const float*, const double*, const std::int32_t*, const std::int64_t*,
                             double, int, float*, double*);
template void mixture_e_step(const double*, std::int64_t, int, std::int64_t, int, const double*,
                             const double*, const double*, const std::int32_t*, const std::int64_t*,
                             double, int, double*, double*);

}  // namespace lead_fast
