// What the SVM's augmented Lagrangian does to one sample: its multipliers, its part of the
// objectives, its curvature. Formulas and names are those of lead_fast/svm_arrays/losses.py; a GPU
// runs them with a thread per sample, the processor in the tests.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"
#include "svm.h"

namespace lead_fast {

struct RowProblem {
    SvmForm form;
    bool squared;  // the squared hinge
    float cost;    // C
    float cap;     // upper bound of a multiplier by itself; infinite where there is none
};

// By the number of the form and the power of the hinge. The sum of a sample's multipliers is what
// cs bounds, and nothing is bounded with the squared hinge.
inline RowProblem row_problem(int form, int hinge, float cost) {
    const auto kind = static_cast<SvmForm>(form);
    const bool bounded = hinge == 1 && kind != SvmForm::crammer_singer;
    return RowProblem{kind, hinge == 2, cost, bounded ? cost : INFINITY};
}

// What a sample adds to the objectives, and its curvature apart from the mask of free classes.
struct RowReport {
    double loss;       // sum or maximum of the hinges, not times C
    double linear;     // sum of the multipliers
    double quadratic;  // of the squared hinge: sum of squares, or square of the sum
    float weight;      // of the coupling of cs, else 0
    bool curved;       // some class is free
};

LEAD_FAST_HOST_DEVICE inline float row_clip(float x, float high) {
    return x < 0.0f ? 0.0f : x > high ? high : x;
}

// Margin of class k; the label's own is -1 for ww and cs.
LEAD_FAST_HOST_DEVICE inline float row_margin(const RowProblem& p, const float* f, float own,
                                              int label, int k) {
    if (p.form == SvmForm::one_vs_rest) return (k == label ? -f[k] : f[k]) + 1.0f;
    return k == label ? -1.0f : (f[k] - own) + 1.0f;
}

// The same of a direction df: the derivative of the margin along it.
LEAD_FAST_HOST_DEVICE inline float row_difference(const RowProblem& p, const float* df, float own,
                                                  int label, int k) {
    if (p.form == SvmForm::one_vs_rest) return k == label ? -df[k] : df[k];
    return k == label ? 0.0f : df[k] - own;
}

// The threshold t >= 0 of cs for v_k = value(k): sum max(v - t, 0) = C, or t = rho / (2 C) times
// that sum, or 0 where that is not reached. Newton's method on a convex piecewise linear function
// from the left of its zero, which ends after finitely many steps, usually two or three.
template <class Value>
LEAD_FAST_HOST_DEVICE float row_threshold(const RowProblem& p, int classes, float rho,
                                          Value value) {
    float t = 0.0f;
    const float slope = rho / (2.0f * p.cost);
    for (int round = 0; round <= classes; ++round) {
        double total = 0.0;
        int count = 0;
        for (int k = 0; k < classes; ++k) {
            const float v = value(k);
            if (v > t) {
                total += v;
                ++count;
            }
        }
        if (count == 0) break;
        const float next = static_cast<float>(
            p.squared ? slope * total / (1.0 + static_cast<double>(slope) * count)
                      : (total - p.cost) / count);
        if (!(next > t)) break;
        t = next;
    }
    return t;
}

// Moves the multipliers a of a sample by a step of rho. next, coefficients and mask (classes).
LEAD_FAST_HOST_DEVICE inline RowReport advance_row(const RowProblem& p, int classes, int label,
                                                   const float* f, const float* a, float rho,
                                                   float* next, float* coefficients,
                                                   std::uint8_t* mask) {
    RowReport out{0.0, 0.0, 0.0, 0.0f, false};
    const float own = f[label];
    const auto margin = [&](int k) { return row_margin(p, f, own, label, k); };
    const auto moved = [&](int k) { return a[k] + rho * margin(k); };
    const bool coupled = p.form == SvmForm::crammer_singer;
    const float threshold = coupled ? row_threshold(p, classes, rho, moved) : 0.0f;
    int count = 0;
    double sum = 0.0;
    for (int k = 0; k < classes; ++k) {
        const float m = margin(k);
        const float hinge = m > 0.0f ? m : 0.0f;
        const double loss = p.squared ? static_cast<double>(hinge) * hinge : hinge;
        if (coupled) {
            out.loss = loss > out.loss ? loss : out.loss;
        } else {
            out.loss += loss;
        }
        const float x = row_clip((a[k] + rho * m) - threshold, p.cap);
        const bool free = x > 0.0f && x < p.cap;
        next[k] = x;
        coefficients[k] = k == label && p.form == SvmForm::one_vs_rest ? x : -x;
        mask[k] = free ? 1 : 0;
        count += free ? 1 : 0;
        sum += x;
        if (!coupled) out.quadratic += static_cast<double>(x) * x;
    }
    out.linear = sum;
    if (p.form != SvmForm::one_vs_rest) coefficients[label] = static_cast<float>(sum);
    out.curved = count > 0;
    if (coupled) {
        out.quadratic = sum * sum;
        const float slope = rho / (2.0f * p.cost);
        if (p.squared) {
            out.weight = slope / (1.0f + slope * count);
        } else if (threshold > 0.0f) {
            out.weight = 1.0f / (count > 1 ? count : 1);
            // One class alone at the bound on the sum has nowhere to go.
            if (count == 1) {
                out.curved = false;
                for (int k = 0; k < classes; ++k) mask[k] = 0;
            }
        }
    }
    return out;
}

// Applies the curvature to decision values df + shift of a direction; g may be df.
LEAD_FAST_HOST_DEVICE inline void curve_row(const RowProblem& p, int classes, int label,
                                            const float* df, const float* shift,
                                            const std::uint8_t* mask, float weight, float rho,
                                            float* g) {
    if (p.form == SvmForm::one_vs_rest) {
        for (int k = 0; k < classes; ++k) g[k] = mask[k] ? -rho * (df[k] + shift[k]) : 0.0f;
        return;
    }
    const float own = df[label] + shift[label];
    float together = 0.0f;
    if (p.form == SvmForm::crammer_singer) {
        for (int k = 0; k < classes; ++k) {
            if (mask[k]) together += (df[k] + shift[k]) - own;
        }
        together *= weight;
    }
    float total = 0.0f;
    for (int k = 0; k < classes; ++k) {
        const float moved = mask[k] ? rho * (((df[k] + shift[k]) - own) - together) : 0.0f;
        total += moved;
        g[k] = -moved;
    }
    g[label] = total;
}

// d/dt of the smoothed loss of ww or cs at f + t df.
LEAD_FAST_HOST_DEVICE inline double slope_row(const RowProblem& p, int classes, int label,
                                              const float* f, const float* a, const float* df,
                                              float t, float rho) {
    const float own = f[label], own_df = df[label];
    const auto moved = [&](int k) {
        const float m = row_margin(p, f, own, label, k);
        return a[k] + rho * (m + t * row_difference(p, df, own_df, label, k));
    };
    const float threshold =
        p.form == SvmForm::crammer_singer ? row_threshold(p, classes, rho, moved) : 0.0f;
    double sum = 0.0;
    for (int k = 0; k < classes; ++k) {
        const float x = row_clip(moved(k) - threshold, p.cap);
        sum += static_cast<double>(x) * row_difference(p, df, own_df, label, k);
    }
    return sum;
}

// The same of one class of ovr.
LEAD_FAST_HOST_DEVICE inline double slope_cell(const RowProblem& p, bool own, float f, float a,
                                               float df, float t, float rho) {
    const float m = (own ? -f : f) + 1.0f, step = own ? -df : df;
    return static_cast<double>(row_clip(a + rho * (m + t * step), p.cap)) * step;
}

}  // namespace lead_fast
