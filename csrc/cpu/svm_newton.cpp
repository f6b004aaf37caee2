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

#include <omp.h>

#include <array>
#include <numeric>
#include <tuple>

#include "svm_precondition.h"
#include "svm_state.h"

namespace lead_fast {
namespace {

constexpr int kParts = RowSums::kParts;
constexpr double kFirstStep = 1.0;   // rho, in units of the cost
constexpr double kStepGrowth = 1.5;  // of rho from one proximal step to the next
constexpr double kBeyond = 1.5;      // how far the next proximal step starts along the last one
constexpr double kResidual = 0.3;    // to which conjugate gradients reduce the residual
constexpr double kBalance = 1.0;     // of the two parts of the gap, for an inner problem to end
// Of the wanted gap: with so little left for the multipliers, the inner problem alone is to do.
constexpr double kEnough = 0.75;
constexpr int kMostGradientSteps = 60;
constexpr int kMostNewtonSteps = 60;
constexpr double kLineSearch = 0.1;  // of the slope at 0 that may be left
constexpr double kWithinSet = 0.85;  // of the wanted gap, what the working set alone may have
// Decision values are moved on by products with coarse rows, and are taken anew once, when the gap
// is so many times the wanted one.
constexpr double kRefreshBelow = 5.0;

using Parts = std::array<double, kParts>;

double total(const Parts& parts) { return std::accumulate(parts.begin(), parts.end(), 0.0); }

double dot(const AlignedBuffer<float>& a, const AlignedBuffer<float>& b) {
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
void add(double factor, const AlignedBuffer<float>& x, AlignedBuffer<float>& y) {
    const float f = static_cast<float>(factor);
    for (std::size_t j = 0; j < x.size(); ++j) y[j] += f * x[j];
}

// The pairs of one sample with curvature, in a list of classes.
struct ActiveSample {
    std::int64_t row;  // in the working set
    int first, count;  // places in the list of classes, the own class first
};

// Bytes of the arrays and lists of so many rows.
std::int64_t row_arrays(const SvmState<float>& s, std::int64_t rows) {
    constexpr std::int64_t kArrays = 3 * sizeof(float), kLists = 80;
    return rows * (s.stride * kArrays + kLists);
}

// Bytes for packed rows beside all that Newton's method needs, which is there instead of blocks.
std::int64_t room_for_rows(const SvmState<float>& s, std::int64_t rows) {
    constexpr std::int64_t kVectors = 8 + kParts;
    const std::int64_t ld = padded(s.rows.columns() + 1);
    const std::int64_t numbers = kVectors * s.classes * ld + directions_size(ld);
    return static_cast<std::int64_t>(memory_left(s)) - row_arrays(s, rows) -
           numbers * static_cast<std::int64_t>(sizeof(float));
}

class Newton {
  public:
    Newton(SvmState<float>& s, SvmReport& report)
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

    // The relative gap over the working set.
    double run(double target, bool again) {
        if (again) look();  // what was outside of the working set is not as good as was thought
        take_rows();
        solve(kWithinSet * target);
        keep_weights();
        if (exhausted()) look();
        const double gap = inner_ + shares_;
        return gap / (dual_ + gap);
    }

    bool exhausted() const {
        return newton_steps_ >= kMostNewtonSteps || report_.passes >= s_.options.max_passes;
    }

  private:
    // The rows that are awake, those with a free multiplier first.
    void take_rows() {
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

    // Nothing may throw among threads: these lists grow there.
    void reserve() {
        const std::size_t rows = static_cast<std::size_t>(rows_.size() / kParts + 1);
        for (int part = 0; part < kParts; ++part) {
            changed_[part].reserve(rows);
            active_[part].reserve(rows);
            classes_[part].reserve(rows * s_.classes);
        }
    }

    // Until the gap over the working set is at most `within`, or a limit.
    void solve(double within) {
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

    // Over-relaxation: the next proximal step starts beyond where the last one led.
    void go_beyond() {
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

    // Two arrays (stride) of each thread.
    float* scratch(int which) {
        return scratch_.data() + (2 * omp_get_thread_num() + which) * s_.stride;
    }
    float* alpha(std::int64_t r) { return s_.alpha.data() + rows_[r] * s_.stride; }
    int label(std::int64_t r) const { return s_.labels[rows_[r]]; }

    // ---- the loss ----------------------------------------------------------------------------

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
    void evaluate() {
        Parts sums{}, shares{};
#pragma omp parallel for schedule(dynamic, 1) num_threads(s_.options.threads)
        for (int part = 0; part < kParts; ++part) {
            std::vector<std::int64_t>& changed = changed_[part];
            changed.clear();
            active_[part].clear();
            classes_[part].clear();
            const std::int64_t last = rows_.size() * (part + 1) / kParts;
            for (std::int64_t r = rows_.size() * part / kParts; r < last; ++r) {
                float *m = scratch(0), *a = scratch(1);
                margins(r, 0.0f, m);
                moved(r, m, a);
                float *now = now_.data() + r * s_.stride, *change = fp_.data() + r * s_.stride;
                float loss = 0.0f, product = 0.0f, sum = 0.0f, most = 0.0f;
#pragma omp simd reduction(+ : loss, product, sum) reduction(max : most)
                for (int k = 0; k < s_.stride; ++k) {
                    const float positive = m[k] > 0.0f ? m[k] : 0.0f;
                    loss += positive;
                    product += m[k] * a[k];
                    sum += a[k];
                    change[k] = a[k] - now[k];
                    const float size = change[k] < 0.0f ? -change[k] : change[k];
                    most = size > most ? size : most;
                    now[k] = a[k];
                }
                shares[part] += static_cast<double>(cost_ * loss - product);
                sums[part] += static_cast<double>(sum);
                find_active(part, r, a);
                if (most > 0.0f) changed.push_back(r);
            }
        }
        std::vector<std::int64_t> changed;
        for (const auto& list : changed_) changed.insert(changed.end(), list.begin(), list.end());
        std::stable_sort(changed.begin(), changed.end(), [&](std::int64_t one, std::int64_t two) {
            return std::pair(!rows_.packed(one, false), label(one)) <
                   std::pair(!rows_.packed(two, false), label(two));
        });
        sums_.run(
            static_cast<std::int64_t>(changed.size()), false,
            [&](std::int64_t item) { return changed[item]; },
            [&](int, std::int64_t item, const ActiveRow&, RowSums::Sink& sink) {
                const std::int64_t r = changed[item];
                add_coefficients(label(r), fp_.data() + r * s_.stride, sink);
            },
            hd_.data());
        for (std::size_t j = 0; j < cells_; ++j) {
            of_dual_[j] += hd_[j];
            gradient_[j] = v_[j] - of_dual_[j];
        }
        inner_ = 0.5 * dot(gradient_, gradient_);
        shares_ = total(shares);
        s_.dual_terms += total(sums) - sum_;
        sum_ = total(sums);
        dual_ = s_.dual_terms - 0.5 * dot(of_dual_, of_dual_);
        passed(static_cast<double>(changed.size()) * s_.classes * 0.5);
    }

    // Of multipliers, or changes of them, in the weights.
    void add_coefficients(int y, const float* a, RowSums::Sink& sink) const {
        float own = 0.0f;
        for (int k = 0; k < s_.classes; ++k) {
            if (a[k] == 0.0f) continue;
            own += a[k];
            sink.add(k, -a[k]);
        }
        if (own != 0.0f) sink.add(y, own);
    }

    // Takes the pairs of a sample strictly between their bounds.
    void find_active(int part, std::int64_t r, const float* a) {
        std::vector<int>& classes = classes_[part];
        const std::size_t first = classes.size();
        classes.push_back(label(r));
        for (int k = 0; k < s_.classes; ++k) {
            if (a[k] > 0.0f && a[k] < cost_) classes.push_back(k);
        }
        const int count = static_cast<int>(classes.size() - first);
        if (count == 1) return classes.pop_back();
        active_[part].push_back({r, static_cast<int>(first), count});
    }

    void keep_multipliers() {
        for (std::int64_t r = 0; r < rows_.size(); ++r) {
            std::copy_n(now_.data() + r * s_.stride, s_.classes, alpha(r));
        }
    }

    // ---- one step of Newton's method ---------------------------------------------------------

    void step() {
        join_active();
        Preconditioner precondition(directions_, between_classes(), s_.classes);
        for (std::size_t j = 0; j < cells_; ++j) {
            r_[j] = -gradient_[j];
            p_[j] = 0.0f;
        }
        precondition.apply(r_.data(), z_.data());
        d_.fill(0.0f);
        add(1.0, z_, d_);
        double rz = dot(r_, z_);
        const double goal = kResidual * kResidual * rz;
        for (int i = 0; i < kMostGradientSteps && rz > 0.0; ++i) {
            curve();
            const double step = rz / dot(d_, hd_);
            add(step, d_, p_);
            add(-step, hd_, r_);
            precondition.apply(r_.data(), z_.data());
            const double before = rz;
            rz = dot(r_, z_);
            passed(static_cast<double>(pairs_.size()));
            if (rz <= goal) break;
            const float keep = static_cast<float>(rz / before);
            for (std::size_t j = 0; j < cells_; ++j) d_[j] = z_[j] + keep * d_[j];
        }
        decisions(p_, true, fp_);
        passed(static_cast<double>(rows_.size()) * s_.classes * 0.5);
        const double t = search();
        add(t, p_, v_);
        const float ahead = static_cast<float>(t);
#pragma omp parallel for schedule(static) num_threads(s_.options.threads)
        for (std::int64_t j = 0; j < static_cast<std::int64_t>(f_.size()); ++j) {
            f_[j] += ahead * fp_[j];
        }
    }

    // The lists of all parts as one, samples of the same pair of classes together: the weights of
    // two classes stay in the first-level cache, those of all do not.
    void join_active() {
        samples_.clear();
        pairs_.clear();
        for (int part = 0; part < kParts; ++part) {
            const int before = static_cast<int>(pairs_.size());
            for (ActiveSample sample : active_[part]) {
                sample.first += before;
                samples_.push_back(sample);
            }
            pairs_.insert(pairs_.end(), classes_[part].begin(), classes_[part].end());
        }
        const auto key = [&](const ActiveSample& sample) {
            const int* list = pairs_.data() + sample.first;
            return std::tuple(!rows_.packed(sample.row, true), list[0],
                              list[std::min(1, sample.count - 1)]);
        };
        std::stable_sort(
            samples_.begin(), samples_.end(),
            [&](const ActiveSample& one, const ActiveSample& two) { return key(one) < key(two); });
    }

    // Sum of the curvature over the rows, (classes, classes).
    std::vector<double> between_classes() const {
        const int n = s_.classes;
        const double rho = static_cast<double>(rho_);
        std::vector<double> out(static_cast<std::size_t>(n) * n, 0.0);
        for (const ActiveSample& sample : samples_) {
            const int* list = pairs_.data() + sample.first;
            for (int i = 1; i < sample.count; ++i) {
                out[list[i] * n + list[i]] += rho;
                out[list[0] * n + list[0]] += rho;
                out[list[0] * n + list[i]] -= rho;
                out[list[i] * n + list[0]] -= rho;
            }
        }
        return out;
    }

    // hd = d + (curvature of the loss) d
    void curve() {
        sums_.run(
            static_cast<std::int64_t>(samples_.size()), true,
            [&](std::int64_t item) { return samples_[item].row; },
            [&](int, std::int64_t item, const ActiveRow& row, RowSums::Sink& sink) {
                const ActiveSample& sample = samples_[item];
                const int* list = pairs_.data() + sample.first;
                float* f = scratch(0);
                dots_list(row, d_.data(), ld_, rows_.bias(), list, sample.count, f);
                float own = 0.0f;
                for (int i = 1; i < sample.count; ++i) {
                    const float c = rho_ * (f[list[i]] - f[list[0]]);
                    sink.add(list[i], c);
                    own -= c;
                }
                sink.add(list[0], own);
            },
            hd_.data());
        add(1.0, d_, hd_);
    }

    // Decision values (rows, stride) of weights (classes, ld).
    void decisions(const AlignedBuffer<float>& weights, bool coarse, AlignedBuffer<float>& out) {
        constexpr int kLines = 4;
        std::vector<AlignedBuffer<float>> tiles;
        for (int t = 0; t < s_.options.threads; ++t) tiles.emplace_back(kLines * ld_, 0.0f);
#pragma omp parallel for schedule(dynamic, 16) num_threads(s_.options.threads)
        for (std::int64_t first = 0; first < rows_.size(); first += kLines) {
            float* tile = tiles[omp_get_thread_num()].data();
            const int count =
                static_cast<int>(std::min<std::int64_t>(kLines, rows_.size() - first));
            ActiveRow row[kLines];
            for (int m = 0; m < count; ++m)
                row[m] = rows_.read(first + m, coarse && !rows_.packed(first + m, false),
                                    tile + m * ld_);
            float* f = out.data() + first * s_.stride;
            const bool alike = row[0].format == row[count - 1].format;
            for (int m = 0; m < count; m += alike ? count : 1) {
                dots_lines(row + m, alike ? count : 1, weights.data(), ld_, rows_.bias(),
                           s_.classes, f + m * s_.stride, s_.stride);
            }
            for (int m = 0; m < count; ++m) {
                std::fill(f + m * s_.stride + s_.classes, f + (m + 1) * s_.stride, 0.0f);
            }
        }
    }

    // Derivative along p of the inner problem at v + t p.
    double slope(double t, double gp, double pp) {
        Parts parts{};
#pragma omp parallel for schedule(static) num_threads(s_.options.threads)
        for (int part = 0; part < kParts; ++part) {
            float *m = scratch(0), *a = scratch(1);
            const std::int64_t last = rows_.size() * (part + 1) / kParts;
            for (std::int64_t r = rows_.size() * part / kParts; r < last; ++r) {
                margins(r, static_cast<float>(t), m);
                moved(r, m, a);
                const float *fp = fp_.data() + r * s_.stride, *now = now_.data() + r * s_.stride;
                // The own class is no variable: a and now are 0 there.
                const float own = fp[label(r)];
                float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                for (int k = 0; k < s_.stride; ++k) sum += (a[k] - now[k]) * (fp[k] - own);
                parts[part] += static_cast<double>(sum);
            }
        }
        return gp + t * pp + total(parts);
    }

    // A step at which the slope has all but gone: the full one, or by secants inside a bracket.
    double search() {
        const double gp = dot(gradient_, p_), pp = dot(p_, p_);
        const double start = slope(0.0, gp, pp);
        double low = 0.0, low_slope = start, high = INFINITY, high_slope = 0.0, t = 1.0;
        for (int tries = 0; tries < 8; ++tries) {
            const double now = slope(t, gp, pp);
            if (std::abs(now) <= kLineSearch * std::abs(start)) break;
            (now > 0.0 ? high : low) = t;
            (now > 0.0 ? high_slope : low_slope) = now;
            if (!std::isfinite(high)) {
                t = 2.0 * t;
                continue;
            }
            const double share = -low_slope / (high_slope - low_slope);
            t = low + (high - low) * std::clamp(share, 0.1, 0.9);
        }
        return t;
    }

    // ---- all rows ----------------------------------------------------------------------------

    // Who is awake at v and the multipliers.
    void look() {
        keep_weights();
        inspect(s_, kFreezeAbove);
        report_.passes += 1.0;
    }

    // The state's weights are v.
    void keep_weights() {
        for (int k = 0; k < s_.classes; ++k) {
            const float* w = v_.data() + k * ld_;
            std::copy_n(w, s_.rows.columns(), s_.weights.data() + k * s_.ldw);
            std::copy_n(w, s_.rows.columns(), s_.average.data() + k * s_.ldw);
            s_.bias[k] = s_.average_bias[k] = w[s_.rows.columns()];
        }
    }

    void passed(double pairs) {
        report_.passes += pairs / static_cast<double>(s_.rows.size()) / s_.classes;
    }

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

}  // namespace

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
