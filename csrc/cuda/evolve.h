// Closed-form evolution and its cross-entropy on a device: csrc/evolve.h says what they are. Labels
// and outputs are on the device, rates, times and scores on the host; all of them synchronise.
#pragma once

#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// What was found in the input on the way.
struct Findings {
    std::int64_t non_finite = 0;  // rows with a NaN or an infinity among what was read
    std::int64_t first_non_finite = -1;
    std::int64_t outside = 0;  // distribution: rows whose label's number is no probability
    std::int64_t first_outside = -1;
};

// evolved (n, classes) float64.
Findings evolve_logits(const Call& call, const FeatureMatrix& initial, const std::int32_t* labels,
                       const double* rates, double t, double* evolved);

// score[j] = mean_i log E_i[y_i]; reads p_i[y_i] alone. If only_label, initial is (n, 1) and holds
// just that; rates has `classes` numbers.
Findings evolved_score_distribution(const Call& call, const FeatureMatrix& initial, bool only_label,
                                    const std::int32_t* labels, const double* rates, int classes,
                                    const double* t, int times, double* score);

// score[j] = mean_i log_softmax(E_i)[y_i]; eight times in one pass over the data.
Findings evolved_score_logits(const Call& call, const FeatureMatrix& initial,
                              const std::int32_t* labels, const double* rates, const double* t,
                              int times, double* score);

}  // namespace cuda
}  // namespace lead_fast
