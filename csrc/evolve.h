// Closed-form evolution of the logits and its cross-entropy (LEAD, Eqs. 6 and 7).
//
//   E_i = (1 - k) onehot(y_i) + k p_i,   k = exp(-rate[y_i] * t)
#pragma once

#include "types.h"

namespace lead_fast {

// evolved (n, classes) float64.
void evolve_logits(const FeatureMatrix& initial, const std::int32_t* labels, const double* rates,
                   double t, int threads, double* evolved);

// score[j] = mean_i log E_i[y_i] at times t[j]; E is read as a distribution. p_label (n) holds
// p_i[y_i] where initial is null.
void evolved_score_distribution(const FeatureMatrix* initial, const double* p_label, std::int64_t n,
                                const std::int32_t* labels, const double* rates, int classes,
                                const double* t, int times, int threads, double* score);

// The same with E read as logits: mean_i log_softmax(E_i)[y_i].
void evolved_score_logits(const FeatureMatrix& initial, const std::int32_t* labels,
                          const double* rates, const double* t, int times, int threads,
                          double* score);

// F = Y + V exp(-values * t) V^T (F0 - Y) for m samples with the eigenvectors V (m, m, in columns)
// of their kernel; evolved (m, classes).
void evolve_spectral(const double* values, const double* vectors, std::int64_t m,
                     const double* initial, const std::int32_t* targets, int classes, double t,
                     double* evolved);

}  // namespace lead_fast
