// The last stretch of Weston-Watkins with the plain hinge: an augmented Lagrangian with a
// semismooth Newton method.
//
// Close to the optimum, coordinate descent has a dual objective ten times nearer to it than its
// primal one: the margins of the free pairs, all of which should be exactly 1, are disturbed by
// every visit of another row. Here the multipliers a move by proximal steps instead,
//
//   a' = argmax_a'  <a', m> - |a' - a|^2 / (2 rho)  over the constraints of the dual,
//   m = margins at v,   v = argmin 1/2 |v|^2 + smoothed loss(m; a, rho),
//
// the inner problem by Newton's method: few steps, each some ten products with the rows that have a
// free pair. Every gradient comes with a duality gap,
//
//   P(v) - D(a') = 1/2 |v - v_a'|^2 + sum_i (C loss_i - <a'_i, m_i>),
//
// whose first part is left by the inner problem, and whose second part the multipliers have yet to
// move. Rows outside the working set stand at bounds that they are taken to keep; the certificate
// says whether they do.

#include "svm_newton.h"

namespace lead_fast {
namespace {

constexpr double kFirstStep = 1.0;   // rho, in units of the cost
constexpr double kStepGrowth = 1.5;  // of rho from one proximal step to the next
constexpr double kBeyond = 1.5;      // how far the next proximal step starts along the last one
constexpr double kBalance = 1.0;     // of the two parts of the gap, for an inner problem to end
// Of the wanted gap: with so little left for the multipliers, the inner problem alone is to do.
constexpr double kEnough = 0.75;
// Of the wanted gap, what the working set alone may have; its estimate, unlike that of coordinate
// descent, is the certified gap.
constexpr double kWithinSet = 0.94 * kGapOfAverage;
// Decision values are moved on by products with coarse rows, and are taken anew once, when the gap
// is so many times the wanted one.
constexpr double kRefreshBelow = 5.0;

// Bytes of the arrays and lists of so many rows.
std::int64_t row_arrays(const SvmState<float>& s, std::int64_t rows) {
    constexpr std::int64_t kArrays = 3 * sizeof(float), kLists = 80;
    return rows * (s.stride * kArrays + kLists);
}

// Bytes for packed rows beside all that Newton's method needs, which is there instead of blocks.
std::int64_t room_for_rows(const SvmState<float>& s, std::int64_t rows) {
    constexpr std::int64_t kVectors = 8 + RowSums::kParts;
    const std::int64_t ld = padded(s.rows.columns() + 1);
    const std::int64_t numbers = kVectors * s.classes * ld + directions_size(ld);
    return static_cast<std::int64_t>(memory_left(s)) - row_arrays(s, rows) -
           numbers * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace

Newton::Newton(SvmState<float>& s, SvmReport& report)
    : s_(s),
      report_(report),
      cost_(static_cast<float>(s.options.cost)),
      rows_(s.rows),
      ld_(rows_.ld()),
      cells_(static_cast<std::size_t>(s.classes) * ld_),
      v_(cells_),
      of_dual_(cells_),
      gradient_(cells_),
      p_(cells_),
      r_(cells_),
      z_(cells_),
      d_(cells_),
      hd_(cells_),
      scratch_(static_cast<std::size_t>(2) * s.options.threads * s.stride),
      sums_(rows_, s.classes, s.options.threads),
      rho_(s.step > 0.0f ? s.step : static_cast<float>(kFirstStep) * cost_) {
    const auto copy = [&](const AlignedBuffer<float>& weights, const std::vector<float>& bias,
                          AlignedBuffer<float>& to) {
        to.fill(0.0f);
        for (int k = 0; k < s.classes; ++k) {
            std::copy_n(weights.data() + k * s.ldw, s.rows.columns(), to.data() + k * ld_);
            to[k * ld_ + s.rows.columns()] = bias[k];
        }
    };
    copy(s.average, s.average_bias, v_);
    copy(s.weights, s.bias, of_dual_);
}

double Newton::run(double target, bool again) {
    if (again) look();  // what was outside of the working set is not as good as was thought
    take_rows();
    solve(kWithinSet * target);
    keep_weights();
    if (exhausted()) look();
    const double gap = inner_ + shares_;
    return gap / (dual_ + gap);
}

void Newton::take_rows() {
    std::vector<std::int64_t> rows, others;
    for (std::int64_t i = 0; i < s_.rows.size(); ++i) {
        if (s_.awake[i] == 0) continue;
        const float* a = s_.alpha.data() + i * s_.stride;
        const bool free =
            std::any_of(a, a + s_.classes, [&](float x) { return x > 0.0f && x < cost_; });
        (free ? rows : others).push_back(i);
    }
    const std::int64_t free = static_cast<std::int64_t>(rows.size());
    rows.insert(rows.end(), others.begin(), others.end());
    const std::int64_t cells = static_cast<std::int64_t>(rows.size()) * s_.stride;
    f_ = {};
    fp_ = {};
    now_ = {};
    f_ = AlignedBuffer<float>(cells);
    fp_ = AlignedBuffer<float>(cells);
    now_ = AlignedBuffer<float>(cells);
    const std::int64_t room = room_for_rows(s_, static_cast<std::int64_t>(rows.size()));
    rows_.take(std::move(rows), room, s_.options.threads);
    reserve();
    sum_ = 0.0;
    for (std::int64_t r = 0; r < rows_.size(); ++r) {
        const float* a = alpha(r);
        std::copy_n(a, s_.stride, now_.data() + r * s_.stride);
        sum_ = std::accumulate(a, a + s_.classes, sum_);
    }
    decisions(v_, false, f_);
    if (directions_.ld == 0) {
        std::vector<std::int64_t> list(free);
        std::iota(list.begin(), list.end(), std::int64_t{0});
        directions_ = leading_directions(rows_, list, s_.square, s_.options.threads);
        directions_.ld = ld_;
    }
}

void Newton::reserve() {
    const std::size_t rows = static_cast<std::size_t>(rows_.size() / kParts + 1);
    for (int part = 0; part < kParts; ++part) {
        changed_[part].reserve(rows);
        active_[part].reserve(rows);
        classes_[part].reserve(rows * s_.classes);
    }
}

void Newton::solve(double within) {
    bool refreshed = false;
    int steps = 0;
    for (;;) {
        evaluate();
        const double gap = inner_ + shares_;
        if (!refreshed && gap <= kRefreshBelow * within * (dual_ + gap)) {
            refreshed = true;
            decisions(v_, false, f_);
            continue;
        }
        if (gap <= within * (dual_ + gap) || exhausted()) break;
        const bool enough = shares_ <= kEnough * within * (dual_ + gap);
        if (steps > 0 && inner_ <= kBalance * shares_ && !enough) {
            go_beyond();
            s_.step = rho_ *= static_cast<float>(kStepGrowth);
            steps = 0;
            evaluate();
        }
        if (s_.options.interrupt()) throw Interrupted{};
        step();
        ++steps;
        ++newton_steps_;
        ++report_.newton_steps;
    }
    keep_multipliers();
}

void Newton::go_beyond() {
    const float beyond = static_cast<float>(kBeyond);
#pragma omp parallel for schedule(static) num_threads(s_.options.threads)
    for (std::int64_t r = 0; r < rows_.size(); ++r) {
        const float* now = now_.data() + r * s_.stride;
        float* a = alpha(r);
        for (int k = 0; k < s_.stride; ++k) {
            const float x = a[k] + beyond * (now[k] - a[k]);
            const float positive = x > 0.0f ? x : 0.0f;
            a[k] = positive < cost_ ? positive : cost_;
        }
    }
}

void Newton::keep_multipliers() {
    for (std::int64_t r = 0; r < rows_.size(); ++r) {
        std::copy_n(now_.data() + r * s_.stride, s_.classes, alpha(r));
    }
}

void Newton::look() {
    keep_weights();
    inspect(s_, kFreezeAbove);
    report_.passes += 1.0;
}

void Newton::keep_weights() {
    for (int k = 0; k < s_.classes; ++k) {
        const float* w = v_.data() + k * ld_;
        std::copy_n(w, s_.rows.columns(), s_.weights.data() + k * s_.ldw);
        std::copy_n(w, s_.rows.columns(), s_.average.data() + k * s_.ldw);
        s_.bias[k] = s_.average_bias[k] = w[s_.rows.columns()];
    }
}

bool finish_fits(const SvmState<float>& s) {
    const auto awake = std::count_if(s.awake.begin(), s.awake.end(), [](int a) { return a > 0; });
    // What does not depend on the number of rows is little where there is much to save.
    return static_cast<double>(row_arrays(s, awake)) <= memory_left(s);
}

double finish(SvmState<float>& s, double target, SvmReport& report) {
    s.working.gram = {};  // the next working set is dealt anew
    s.working.store = {};
    Newton newton(s, report);
    const double gap = newton.run(target, s.finishing == Finish::begun);
    s.finishing = newton.exhausted() ? Finish::failed : Finish::begun;
    return gap;
}

}  // namespace lead_fast
