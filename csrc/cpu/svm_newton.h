// What the files of Newton's method share: svm_newton.cpp, svm_newton_loss.cpp,
// svm_newton_step.cpp.
#pragma once

#include <omp.h>

#include <array>
#include <numeric>

#include "svm_precondition.h"
#include "svm_state.h"

namespace lead_fast {

inline double dot(const AlignedBuffer<float>& a, const AlignedBuffer<float>& b) {
    double sum = 0.0;
    const float *x = a.data(), *y = b.data();
    const std::int64_t n = static_cast<std::int64_t>(a.size());
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < n; ++j) {
        sum += static_cast<double>(x[j]) * static_cast<double>(y[j]);
    }
    return sum;
}

// y += factor * x
inline void add(double factor, const AlignedBuffer<float>& x, AlignedBuffer<float>& y) {
    const float f = static_cast<float>(factor);
    for (std::size_t j = 0; j < x.size(); ++j) y[j] += f * x[j];
}

// The pairs of one sample with curvature, in a list of classes.
struct ActiveSample {
    std::int64_t row;  // in the working set
    int first, count;  // places in the list of classes, the own class first
};

class Newton {
  public:
    Newton(SvmState<float>& state, SvmReport& report);

    // The relative gap over the working set, at most `target` unless a limit was met. `again`: a
    // certificate was worse than the last one.
    double run(double target, bool again);

    bool exhausted() const {
        return newton_steps_ >= kMostNewtonSteps || report_.passes >= s_.options.max_passes;
    }

  private:
    static constexpr int kParts = RowSums::kParts;
    static constexpr int kMostNewtonSteps = 60;
    using Parts = std::array<double, kParts>;
    static double total(const Parts& parts) {
        return std::accumulate(parts.begin(), parts.end(), 0.0);
    }

    // The rows that are awake, those with a free multiplier first.
    void take_rows();
    // Nothing may throw among threads: these lists grow there.
    void reserve();
    // Until the gap over the working set is at most `within`, or a limit.
    void solve(double within);
    // Over-relaxation: the next proximal step starts beyond where the last one led.
    void go_beyond();
    void keep_multipliers();
    // Who is awake at v and the multipliers.
    void look();
    // The state's weights are v.
    void keep_weights();
    void passed(double pairs) {
        report_.passes += pairs / static_cast<double>(s_.rows.size()) / s_.classes;
    }

    // Two arrays (stride) of each thread.
    float* scratch(int which) {
        return scratch_.data() + (2 * omp_get_thread_num() + which) * s_.stride;
    }
    float* alpha(std::int64_t r) { return s_.alpha.data() + rows_[r] * s_.stride; }
    int label(std::int64_t r) const { return s_.labels[rows_[r]]; }

    // Margins (stride) at decision values f + t fp; -1 where there is none.
    void margins(std::int64_t r, float t, float* m) const {
        const float *f = f_.data() + r * s_.stride, *fp = fp_.data() + r * s_.stride;
        const int y = label(r), stride = s_.stride;
        if (t == 0.0f) {
            for (int k = 0; k < stride; ++k) m[k] = f[k];
        } else {
            for (int k = 0; k < stride; ++k) m[k] = f[k] + t * fp[k];
        }
        const float shift = 1.0f - m[y];
        for (int k = 0; k < stride; ++k) m[k] += shift;
        m[y] = -1.0f;
        std::fill(m + s_.classes, m + stride, -1.0f);
    }

    // Multipliers a' (stride) of a sample with margins m; 0 where there is no variable.
    void moved(std::int64_t r, const float* m, float* a) {
        const float *before = alpha(r), rho = rho_, cost = cost_;
        for (int k = 0; k < s_.stride; ++k) {
            const float x = before[k] + rho * m[k];
            const float positive = x > 0.0f ? x : 0.0f;
            a[k] = positive < cost ? positive : cost;
        }
    }

    // The multipliers at v, what they change in the weights, the gradient, both parts of the gap,
    // and the pairs that have curvature.
    void evaluate();
    // Of multipliers, or changes of them, in the weights.
    void add_coefficients(int y, const float* a, RowSums::Sink& sink) const;
    // Takes the pairs of a sample strictly between their bounds.
    void find_active(int part, std::int64_t r, const float* a);

    void step();
    // The lists of all parts as one, samples of the same pair of classes together: the weights of
    // two classes stay in the first-level cache, those of all do not.
    void join_active();
    // Sum of the curvature over the rows, (classes, classes).
    std::vector<double> between_classes() const;
    // hd = d + (curvature of the loss) d
    void curve();
    // Decision values (rows, stride) of weights (classes, ld).
    void decisions(const AlignedBuffer<float>& weights, bool coarse, AlignedBuffer<float>& out);
    // Derivative along p of the inner problem at v + t p.
    double slope(double t, double gp, double pp);
    // A step at which the slope has all but gone: the full one, or by secants inside a bracket.
    double search();

    SvmState<float>& s_;
    SvmReport& report_;
    const float cost_;
    ActiveRows rows_;
    const std::int64_t ld_;
    const std::size_t cells_;
    // (classes, ld): the weights, those of the multipliers, and the vectors of conjugate gradients.
    AlignedBuffer<float> v_, of_dual_, gradient_, p_, r_, z_, d_, hd_;
    AlignedBuffer<float> scratch_;
    // (rows, stride): decision values of v and of p (or changes of multipliers), and multipliers at
    // v; those of the last proximal step are in the state.
    AlignedBuffer<float> f_, fp_, now_;
    RowSums sums_;
    Directions directions_;
    std::array<std::vector<ActiveSample>, kParts> active_;
    std::array<std::vector<int>, kParts> classes_;
    std::array<std::vector<std::int64_t>, kParts> changed_;
    std::vector<ActiveSample> samples_;  // the same of all parts
    std::vector<int> pairs_;
    float rho_;
    double inner_ = 0.0, shares_ = 0.0, dual_ = 0.0;
    double sum_ = 0.0;  // of the multipliers of the working set
    int newton_steps_ = 0;
};

}  // namespace lead_fast
