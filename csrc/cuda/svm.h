// What the SVM of lead_fast/svm_arrays asks of a GPU beside matrix products: see the files of the
// same stem.
#pragma once

#include "../svm_rows.h"
#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// Class numbers (n) and, of the curvature, the free classes (n, classes) and the coupling (n), all
// on the device; weight is read for cs only.
struct SvmRows {
    RowProblem problem;
    std::int64_t n;
    int classes;
    const std::int32_t* labels;
};

struct SvmTotals {
    double loss, linear, quadratic;
};

// Moves all multipliers; outputs as advance_row, curved (n).
SvmTotals svm_advance(const Call& call, const SvmRows& rows, const float* f, const float* a,
                      float rho, float* next, float* coefficients, std::uint8_t* mask,
                      float* weight, std::uint8_t* curved);

// Slopes along df at the steps t: one number, t (1); for ovr one of each class, t (classes).
void svm_slope(const Call& call, const SvmRows& rows, const float* f, const float* a,
               const float* df, const float* t, float rho, double* slopes);

// sums[k] = sum_i g[i, k] in float64; g (n, classes). sums are on the device.
void column_sums(const Call& call, const float* g, std::int64_t n, int classes, double* sums);

// out (n, d) = (x[rows[i]] - centre) * scale; rows may be null.
void gather_mapped(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
                   std::int64_t n, const float* centre, const float* scale, float* out);

// Mean and biased variance of the columns, (d) each on the device, NaN where one is not finite.
void column_moments(const Call& call, const FeatureMatrix& x, double* mean, double* variance);

// The inverse of I + L (x) S as lead_fast/svm_arrays/precondition.py has it, made of
//   s = mixed r + turn (inside * (turn^T r basis)) basis^T.
struct SvmPreconditioner {
    int rank;             // 0: none
    const float* basis;   // (d + 1, rank)
    const float* inside;  // (classes, rank)
    const float* turn;    // (classes, classes), or null for I
    const float* mixed;   // (classes, classes)
};

// The system that a Newton step solves. Rows of x are mapped by centre and scale; with `convert`
// they are so by blocks, in float32, else x is float32 and the map is applied to what is
// multiplied; null centre and scale: rows are mapped already.
struct SvmSystem {
    FeatureMatrix x;
    bool convert;
    const double* centre;      // (d) or null
    const double* scale;       // (d) or null
    const std::int64_t* rows;  // (x.n) which of all samples they are, or null for all
    const std::uint8_t* mask;  // of all samples
    const float* weight;       // of all samples
    float rho;
    bool coupled;  // the classes share their step lengths
};

struct SvmSearch {
    float ratio;  // of the residual at the start
    int most;     // steps
    int check_every;
};

// direction (classes, d + 1) = about -(I - d/dv g^T Z)^-1 gradient; returns the steps taken.
int svm_direction(const Call& call, const SvmRows& rows, const SvmSystem& system,
                  const SvmPreconditioner& precondition, const SvmSearch& search,
                  const float* gradient, float* direction);

}  // namespace cuda
}  // namespace lead_fast
