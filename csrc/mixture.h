// Expectation and maximisation step of a Gaussian mixture with full covariances.
#pragma once

#include <cstdint>

namespace lead_fast {

// Posteriors and log-likelihoods of n samples z (n, ld) under m components.
//
// Component k has mean (m, ld), factor (m, d, ld) lower triangular with zeros elsewhere and in the
// padding, so that |factor_k (z - mean_k)|^2 is the squared Mahalanobis distance, and constant[k],
// the logarithm of its weight and normaliser. ld is a multiple of 16; z and mean are padded with 0.
// likely[i] is a component that may well be the nearest of sample i; order (n) lists the samples so
// that those with the same one are together. A component whose posterior is certainly below
// exp(-depth) is left out as soon as that is known: distances grow column by column.
//
// posterior (m, n), 0 where left out; log_likelihood (n). Distances in the type of z, everything
// after them in float64.
template <class T>
void mixture_e_step(const T* z, std::int64_t n, int d, std::int64_t ld, int m, const T* mean,
                    const T* factor, const double* constant, const std::int32_t* likely,
                    const std::int64_t* order, double depth, int threads, T* posterior,
                    double* log_likelihood);

// Means, factors and masses of m components from the posteriors (m, n) of samples z (n, ld).
//
// mass[k] is the sum of the posteriors of k plus `least`; the covariance has that divisor and
// `ridge` added to its diagonal; mean and factor are those of mixture_e_step, half_log[k] half the
// logarithm of the covariance's determinant. False if one is not positive definite. Sums in
// float64.
template <class T>
bool mixture_parameters(const T* z, std::int64_t n, int d, std::int64_t ld, int m,
                        const T* posterior, double ridge, double least, int threads, T* mean,
                        T* factor, double* mass, double* half_log);

}  // namespace lead_fast
