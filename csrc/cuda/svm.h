// What the SVM of lead_fast/svm_arrays asks of a GPU beside matrix products: see the files of the
// same stem.
#pragma once

#include "../svm_rows.h"
#include "../types.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// Class numbers (n), on the device, and the problem that they belong to.
struct SvmRows {
    RowProblem problem;
    std::int64_t n;
    int classes;
    const std::int32_t* labels;

    // Whether the classes are one problem, and so share their step lengths.
    bool coupled() const { return problem.form != SvmForm::one_vs_rest; }
};

struct SvmTotals {
    double loss, linear, quadratic;
};

// The rows that products are taken with, mapped by centre and scale: with `convert` by blocks, in
// float32; else x is float32 and the map is applied to the small factor. Null centre and scale: x
// is mapped already.
struct SvmMatrix {
    FeatureMatrix x;
    bool convert;
    const double* centre;  // (d) or null
    const double* scale;   // (d) or null
};

struct SvmLook {
    SvmTotals totals;
    double size, dual_size, inner;  // half the squared lengths of v, of g^T Z, of their difference
    std::int64_t curved;            // samples with curvature
};

// Moves all multipliers, next and mask as advance_row has them, and finds what decides on the next
// step: the gradient v - g^T Z (classes, d + 1), v (classes, d + 1); the samples that have
// curvature, rows (n). On the host, where they are not null: pairs (groups, classes), the samples
// of each class (or of all, if groups is 1) for which a class is free; and of cs fans (classes,
// classes), the sum of weight u u^T with u = -1 at the free classes, and their number at the
// label.
SvmLook svm_look(const Call& call, const SvmRows& rows, const SvmMatrix& matrix, const float* f,
                 const float* a, float rho, const double* v, float* next, std::uint8_t* mask,
                 float* weight, std::int64_t* curved, float* gradient, int groups,
                 std::int64_t* pairs, double* fans);

// sums[k] = sum_i g[i, k] in float64 (plus what is there, if `add`); g (n, stride), of which the
// first `classes` columns. sums are on the device.
void column_sums(const Call& call, const float* g, std::int64_t n, int classes, std::int64_t stride,
                 bool add, double* sums);

// out (n, d) = (x[rows[i]] - centre) * scale, in the arithmetic of out; rows may be null.
void gather_mapped(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
                   std::int64_t n, const double* centre, const double* scale, float* out);
void gather_mapped(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
                   std::int64_t n, const double* centre, const double* scale, double* out);

// Mean and biased variance of the columns, (d) each on the device, NaN where one is not finite.
void column_moments(const Call& call, const FeatureMatrix& x, double* mean, double* variance);

// The inverse of I + L (x) S as lead_fast/svm_arrays/precondition.py has it, made of
//   s = mixed r + turn (inside * (turn^T r basis)) basis^T.
struct SvmPreconditioner {
    int rank;             // 0: none
    const float* basis;   // (d + 1, rank), on the device; the others on the host
    const float* inside;  // (classes, rank)
    const float* turn;    // (classes, classes), or null for I
    const float* mixed;   // (classes, classes)
};

// The curvature of a Newton step's system, of the rows of a matrix.
struct SvmSystem {
    SvmMatrix matrix;
    const std::int64_t* rows;  // (matrix.x.n) which of all samples they are, or null for all
    const std::uint8_t* mask;  // the free classes of all samples (n, classes)
    const float* weight;       // the coupling of all samples (n), which counts for cs
    float rho;
};

struct SvmSearch {
    float ratio;  // of the residual at the start
    int most;     // steps; 0 if nothing is curved
    int check_every;
};

// direction (classes, d + 1) = about -(I - d/dv g^T Z)^-1 gradient. Its products are in TF32, which
// changes how well the direction is chosen and nothing of what is certified.
int svm_direction(const Call& call, const SvmRows& rows, const SvmSystem& system,
                  const SvmPreconditioner& precondition, const SvmSearch& search,
                  const float* gradient, float* direction);

// A step of Newton's method: a direction p (classes, d + 1), fp (n, classes) = Z p^T, lengths t at
// which the objective's slope along p has fallen enough, v (classes, d + 1) += t p and f (n,
// classes) += t fp. a are the multipliers that svm_look has moved; `matrix` has all rows.
int svm_newton(const Call& call, const SvmRows& rows, const SvmMatrix& matrix,
               const SvmSystem& system, const SvmPreconditioner& precondition,
               const SvmSearch& search, const float* gradient, const float* a, double* v, float* f,
               float* p, float* fp);

}  // namespace cuda
}  // namespace lead_fast
