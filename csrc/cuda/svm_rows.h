// What is done to each sample by itself; formulas are in ../svm_rows.h, whose name this has.
#pragma once

#include "svm.h"

namespace lead_fast {
namespace cuda {

// Moves multipliers; outputs as advance_row has them, curved (n) 0 or 1. totals (3) on the device:
// sums of losses, of multipliers, and the quadratic ones.
void advance_rows(const Call& call, const SvmRows& rows, const float* f, const float* a, float rho,
                  float* next, float* coefficients, std::uint8_t* mask, float* weight,
                  std::uint8_t* curved, double* totals);

// values = curvature of values + shift, in place; values (count, stride) of the samples from
// `first` on of those that `names` lists, or of all. shift (classes).
void curve_rows(const Call& call, const SvmRows& rows, std::int64_t first, std::int64_t count,
                std::int64_t stride, const std::int64_t* names, const float* shift,
                const std::uint8_t* mask, const float* weight, float rho, float* values);

// Slopes along df at the steps t, both on the device: one number, or of ovr one of each class.
void slope_rows(const Call& call, const SvmRows& rows, const float* f, const float* a,
                const float* df, const float* t, float rho, double* slopes);

}  // namespace cuda
}  // namespace lead_fast
