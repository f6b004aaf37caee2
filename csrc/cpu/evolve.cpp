// Closed-form evolution and its cross-entropy.
//
// Rows are cut into a fixed number of parts whose sums are added in order: the score does not
// depend on the number of threads.

#include "../evolve.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../half.h"
#include "blas.h"
#include "dispatch.h"

namespace lead_fast {
namespace {

constexpr int kParts = 64;

// Waking a thread costs as much as some ten thousand logarithms or exponentials.
int useful_threads(int threads, std::int64_t transcendentals) {
    return static_cast<int>(std::clamp<std::int64_t>(transcendentals / 20000, 1, threads));
}

double element(const FeatureMatrix& x, std::int64_t i, std::int64_t j) {
    const void* row = x.row(i);
    switch (x.dtype) {
        case DType::float64: return static_cast<const double*>(row)[j];
        case DType::float32: return static_cast<double>(static_cast<const float*>(row)[j]);
        case DType::float16:
            return static_cast<double>(from_half_bits(static_cast<const std::uint16_t*>(row)[j]));
        case DType::bfloat16: break;
    }
    return static_cast<double>(from_bfloat_bits(static_cast<const std::uint16_t*>(row)[j]));
}

// Row i as float64 into `wide` (x.d); `narrow` (x.d) is scratch.
void read_row(const FeatureMatrix& x, std::int64_t i, float* narrow, double* wide) {
    if (x.dtype == DType::float64) {
        std::copy_n(static_cast<const double*>(x.row(i)), x.d, wide);
    } else {
        kernels().widen_row(x.dtype, x.row(i), x.d, narrow);
        std::copy_n(narrow, x.d, wide);
    }
}

// Runs body(first, last, sums, me) on every part of n rows; score[j] = sum of all sums[j] / n.
template <class Body>
void mean_over_rows(std::int64_t n, int times, int threads, double* score, Body body) {
    std::vector<double> sums(static_cast<std::size_t>(kParts) * times, 0.0);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int part = 0; part < kParts; ++part) {
        body(n * part / kParts, n * (part + 1) / kParts, sums.data() + part * times,
             omp_get_thread_num());
    }
    for (int j = 0; j < times; ++j) {
        double total = 0.0;
        for (int part = 0; part < kParts; ++part) total += sums[part * times + j];
        score[j] = total / static_cast<double>(n);
    }
}

// keep[c * times + j] = exp(-rates[c] * t[j]) and 1 minus it, which keeps its digits near 0.
struct Decay {
    Decay(const double* rates, std::int64_t classes, const double* t, int times)
        : keep(classes * times), gain(classes * times) {
        for (std::int64_t c = 0; c < classes; ++c) {
            for (int j = 0; j < times; ++j) {
                const double x =
                    rates[c] == 0.0 ? 0.0 : rates[c] * t[j];  // a rate of 0 never moves
                keep[c * times + j] = std::exp(-x);
                gain[c * times + j] = -std::expm1(-x);
            }
        }
    }
    std::vector<double> keep, gain;
};

}  // namespace

void evolve_logits(const FeatureMatrix& initial, const std::int32_t* labels, const double* rates,
                   double t, int threads, double* evolved) {
    const Decay decay(rates, initial.d, &t, 1);
    std::vector<std::vector<float>> narrow(threads, std::vector<float>(initial.d));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::int64_t i = 0; i < initial.n; ++i) {
        double* out = evolved + i * initial.d;
        read_row(initial, i, narrow[omp_get_thread_num()].data(), out);
        const std::int32_t y = labels[i];
        for (std::int64_t k = 0; k < initial.d; ++k) out[k] *= decay.keep[y];
        out[y] += decay.gain[y];
    }
}

void evolved_score_distribution(const FeatureMatrix* initial, const double* p_label, std::int64_t n,
                                const std::int32_t* labels, const double* rates, int classes,
                                const double* t, int times, int threads, double* score) {
    const Decay decay(rates, classes, t, times);
    threads = useful_threads(threads, n * times);
    mean_over_rows(
        n, times, threads, score, [&](std::int64_t first, std::int64_t last, double* sum, int) {
            for (std::int64_t i = first; i < last; ++i) {
                const std::int32_t y = labels[i];
                const double p = initial != nullptr ? element(*initial, i, y) : p_label[i];
                for (int j = 0; j < times; ++j) {
                    const double keep = decay.keep[y * times + j];
                    // Two forms of one number: E = gain + keep p, and 1 - E = keep (1 - p). Each
                    // keeps its digits where the other loses them.
                    const double e = decay.gain[y * times + j] + keep * p;
                    sum[j] += e < 0.5 ? std::log(e) : std::log1p(-keep * (1.0 - p));
                }
            }
        });
}

void evolved_score_logits(const FeatureMatrix& initial, const std::int32_t* labels,
                          const double* rates, const double* t, int times, int threads,
                          double* score) {
    const Decay decay(rates, initial.d, t, times);
    threads = useful_threads(threads, initial.n * initial.d * times);
    std::vector<std::vector<float>> narrow(threads, std::vector<float>(initial.d));
    std::vector<std::vector<double>> wide(threads, std::vector<double>(initial.d));
    mean_over_rows(initial.n, times, threads, score,
                   [&](std::int64_t first, std::int64_t last, double* sum, int me) {
                       double* p = wide[me].data();
                       for (std::int64_t i = first; i < last; ++i) {
                           read_row(initial, i, narrow[me].data(), p);
                           const std::int32_t y = labels[i];
                           const double own = p[y];
                           p[y] = -INFINITY;  // the label's term is added by itself
                           const double top = *std::max_element(p, p + initial.d);
                           for (int j = 0; j < times; ++j) {
                               const double keep = decay.keep[y * times + j];
                               const double e = decay.gain[y * times + j] + keep * own;
                               // keep may be 0 and top -inf (one class): 0 * inf is no number.
                               const double others = initial.d > 1 ? keep * top : -INFINITY;
                               const double shift = std::max(e, others);
                               const double total =
                                   initial.d > 1 ? kernels().sum_exp(p, initial.d, keep, shift)
                                                 : 0.0;
                               sum[j] += e - shift - std::log(total + std::exp(e - shift));
                           }
                       }
                   });
}

void evolve_spectral(const double* values, const double* vectors, std::int64_t m,
                     const double* initial, const std::int32_t* targets, int classes, double t,
                     double* evolved) {
    const int rows = static_cast<int>(m);
    const std::size_t cells = static_cast<std::size_t>(m) * classes;
    std::vector<double> residual(initial, initial + cells), projected(cells);
    for (std::int64_t i = 0; i < m; ++i) residual[i * classes + targets[i]] -= 1.0;
    matmul(vectors, residual.data(), true, rows, classes, rows, projected.data());
    for (std::int64_t i = 0; i < m; ++i) {
        const double keep = values[i] == 0.0 ? 1.0 : std::exp(-values[i] * t);
        for (int k = 0; k < classes; ++k) projected[i * classes + k] *= keep;
    }
    matmul(vectors, projected.data(), false, rows, classes, rows, evolved);
    for (std::int64_t i = 0; i < m; ++i) evolved[i * classes + targets[i]] += 1.0;
}

}  // namespace lead_fast
