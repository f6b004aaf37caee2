// The multi-class linear SVM: objective, dual block coordinate descent, certified duality gap.
//
//   minimise over W (K, D), b (K):  1/2 |W|^2 + 1/2 |b|^2 + C * sum_i loss_i,   f = W z + b,
//   z = (x - centre) * inverse_scale  per column
//
// Every function takes raw pointers; rows may be null (all rows of x) or name n_rows of them.
#pragma once

#include <vector>

#include "types.h"

namespace lead_fast {

enum class SvmForm : int { weston_watkins = 0, one_vs_rest = 1, crammer_singer = 2 };

struct SvmOptions {
    SvmForm form = SvmForm::weston_watkins;
    int hinge = 1;  // the power of the hinge, 1 or 2
    double cost = 1.0;
    double tol = 1e-3;  // on the relative duality gap
    int max_passes = 1000;
    std::uint64_t seed = 0;
    int threads = 1;
    Interrupt interrupt;
};

struct SvmReport {
    double primal = 0.0;
    double dual = 0.0;
    double gap = 0.0;     // (primal - dual) / primal
    double passes = 0.0;  // pairs of sample and class visited / all pairs
    int sweeps = 0;       // rounds over what was not frozen or at rest
    int newton_steps = 0;
    bool converged = false;
};

// The affine map into the space in which the SVM is solved.
struct ColumnMap {
    const double* centre;         // (d)
    const double* inverse_scale;  // (d)
};

struct ColumnStatistics {
    std::vector<double> mean;      // (d)
    std::vector<double> variance;  // (d), biased
    std::int64_t non_finite = 0;   // rows with a NaN or an infinity
    std::int64_t first_non_finite = -1;
};

// Mean and variance of every column, two float64 sums shifted by the first row; one pass.
ColumnStatistics column_statistics(const FeatureMatrix& x, const std::int64_t* rows,
                                   std::int64_t n_rows, int threads);

// Trains on the given rows. labels (n_rows) are class numbers in [0, classes).
// weights (classes, d) and bias (classes) are in the mapped space.
// label_log_probability (n_rows), if not null: log soft-max(f)[label] at the returned weights.
SvmReport svm_fit(const FeatureMatrix& x, const std::int64_t* rows, std::int64_t n_rows,
                  const std::int32_t* labels, int classes, const ColumnMap& map,
                  const SvmOptions& options, double* weights, double* bias,
                  double* label_log_probability);

// log soft-max(W z + b)[label] of the given rows.
void svm_label_log_probability(const FeatureMatrix& x, const std::int64_t* rows,
                               std::int64_t n_rows, const std::int32_t* labels, int classes,
                               const ColumnMap& map, const double* weights, const double* bias,
                               int threads, double* label_log_probability);

}  // namespace lead_fast
