// The multi-class SVM: statistics of the columns, the outer loop, and the certificate.

#include "../svm.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "svm_state.h"

namespace lead_fast {
namespace {

// The gap that float32 multipliers and weights reach without effort.
constexpr double kFinestSingle = 2e-5;
// Sweeps in which certificates may fail to improve before float64 takes over from float32.
constexpr int kPatience = 100;

double hinge_loss(const double* f, int classes, int label, const SvmOptions& o) {
    double total = 0.0, worst = 0.0;
    for (int k = 0; k < classes; ++k) {
        double margin;
        if (o.form == SvmForm::one_vs_rest) {
            margin = k == label ? 1.0 - f[k] : 1.0 + f[k];
        } else {
            if (k == label) continue;
            margin = 1.0 - (f[label] - f[k]);
        }
        margin = std::max(0.0, margin);
        total += o.hinge == 2 ? margin * margin : margin;
        worst = std::max(worst, margin);
    }
    if (o.form == SvmForm::crammer_singer) return o.hinge == 2 ? worst * worst : worst;
    return total;
}

double label_log_softmax(const double* f, int classes, int label) {
    const double top = *std::max_element(f, f + classes);
    double total = 0.0;
    for (int k = 0; k < classes; ++k) total += std::exp(f[k] - top);
    return f[label] - top - std::log(total);
}

// A sample's multipliers, moved by a rounding error or two onto what the dual problem allows, and
// what follows from them in float64.
struct Multipliers {
    explicit Multipliers(int classes) : coefficient(classes) {}

    // False if all are zero.
    template <class T>
    bool read(const T* alpha, int classes, int label, const SvmOptions& o) {
        double total = 0.0, square = 0.0;
        const bool boxed = o.hinge == 1 && o.form != SvmForm::crammer_singer;
        for (int k = 0; k < classes; ++k) {
            double a = static_cast<double>(alpha[k]);
            if (boxed) a = std::min(a, o.cost);
            coefficient[k] = a;
            total += a;
            square += a * a;
        }
        if (total == 0.0) return false;
        if (o.hinge == 1 && !boxed && total > o.cost) {
            for (double& a : coefficient) a *= o.cost / total;
            total = o.cost;
        }
        dual = total;
        if (o.hinge == 2) {
            dual -= (o.form == SvmForm::crammer_singer ? total * total : square) / (4.0 * o.cost);
        }
        const double own = o.form == SvmForm::one_vs_rest ? coefficient[label] : total;
        for (double& a : coefficient) a = -a;
        coefficient[label] = own;
        return true;
    }

    std::vector<double> coefficient;  // (classes) with which the sample enters W
    double dual = 0.0;                // sum alpha, less the conjugate of a squared loss
};

// Primal and dual objective in float64 over all samples and the features as they were given.
template <class T>
class Certificate {
  public:
    explicit Certificate(SvmState<T>& state)
        : s_(state),
          weights_(static_cast<std::size_t>(state.classes) * state.ldw),
          loss_(state.rows.size()) {}

    // The dual at the multipliers; the primal at the averaged weights, whose decision values give
    // log_probability. Afterwards the state's own weights are those of its multipliers.
    void run(SvmReport& report, std::vector<double>& bias, std::vector<double>& log_probability) {
        report.dual = dual(bias);
        double primal = 0.0;
        for (std::size_t j = 0; j < weights_.size(); ++j) {
            const double w = static_cast<double>(s_.average[j]);
            weights_[j] = w;
            primal += 0.5 * w * w;
        }
        for (int k = 0; k < s_.classes; ++k) {
            bias[k] = static_cast<double>(s_.average_bias[k]);
            primal += 0.5 * bias[k] * bias[k];
        }
        for_each_decision(s_.rows, s_.classes, weights_.data(), s_.ldw, bias.data(),
                          s_.options.threads, [&](std::int64_t first, int count, const double* f) {
                              for (int m = 0; m < count; ++m, f += s_.stride) {
                                  const std::int64_t i = first + m;
                                  const int label = s_.labels[i];
                                  loss_[i] = hinge_loss(f, s_.classes, label, s_.options);
                                  log_probability[i] = label_log_softmax(f, s_.classes, label);
                              }
                          });
        const double loss = std::accumulate(loss_.begin(), loss_.end(), 0.0);
        report.primal = primal + s_.options.cost * loss;
        // Both are exact but for float64 rounding, which may leave a gap of -1e-16 at the optimum;
        // where they overflow (a huge cost) nothing is certified.
        const double gap = (report.primal - report.dual) / report.primal;
        report.gap = std::isnan(gap) ? INFINITY : std::max(0.0, gap);
    }

  private:
    double dual(std::vector<double>& bias) {
        const int classes = s_.classes, chunks = s_.rows.chunks();
        std::vector<std::int64_t> support;
        Multipliers m(classes);
        std::fill(bias.begin(), bias.end(), 0.0);
        s_.dual_terms = 0.0;
        for (std::int64_t i = 0; i < s_.rows.size(); ++i) {
            if (!m.read(s_.alpha.data() + i * s_.stride, classes, s_.labels[i], s_.options))
                continue;
            support.push_back(i);
            s_.dual_terms += m.dual;
            for (int k = 0; k < classes; ++k) bias[k] += m.coefficient[k];
        }
        std::vector<double> squares(chunks, 0.0);
        const int team = std::max(1, std::min(s_.options.threads, chunks));
        std::vector<Rebuild> work;  // allocated here: nothing may throw among the threads
        for (int t = 0; t < team; ++t) work.emplace_back(classes);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
        for (int chunk = 0; chunk < chunks; ++chunk) {
            squares[chunk] = rebuild(support, chunk, work[omp_get_thread_num()]);
        }
        for (int k = 0; k < classes; ++k) s_.bias[k] = static_cast<T>(bias[k]);
        const double square = std::accumulate(squares.begin(), squares.end(), 0.0) +
                              std::inner_product(bias.begin(), bias.end(), bias.begin(), 0.0);
        return s_.dual_terms - 0.5 * square;
    }

    static constexpr int kRows = 32;

    struct Rebuild {
        explicit Rebuild(int classes)
            : tile(static_cast<std::size_t>(kRows) * kChunk),
              coefficients(static_cast<std::size_t>(kRows) * classes),
              multipliers(classes) {}
        AlignedBuffer<double> tile, coefficients;
        Multipliers multipliers;
    };

    // One chunk of W from the support vectors; returns its squared norm.
    double rebuild(const std::vector<std::int64_t>& support, int chunk, Rebuild& work) {
        const int classes = s_.classes;
        double* w = weights_.data() + s_.rows.begin(chunk);
        const int width = s_.rows.padded_width(chunk);
        for (int k = 0; k < classes; ++k) std::fill_n(w + k * s_.ldw, width, 0.0);
        const double* line[kRows];
        for (std::size_t first = 0; first < support.size(); first += kRows) {
            const int count =
                static_cast<int>(std::min<std::size_t>(kRows, support.size() - first));
            for (int r = 0; r < count; ++r) {
                const std::int64_t i = support[first + r];
                if (first + kRows + r < support.size()) {
                    s_.rows.prefetch(support[first + kRows + r], chunk);
                }
                double* z = work.tile.data() + r * kChunk;
                s_.rows.read(i, chunk, z);
                line[r] = z;
                work.multipliers.read(s_.alpha.data() + i * s_.stride, classes, s_.labels[i],
                                      s_.options);
                std::copy(work.multipliers.coefficient.begin(), work.multipliers.coefficient.end(),
                          work.coefficients.data() + r * classes);
            }
            kernels().f64.update(w, s_.ldw, classes, line, count, work.coefficients.data(), classes,
                                 width);
        }
        double square = 0.0;
        for (int k = 0; k < classes; ++k) {
            for (int j = 0; j < width; ++j) {
                const double exact = w[k * s_.ldw + j];
                square += exact * exact;
                s_.weights[k * s_.ldw + s_.rows.begin(chunk) + j] = static_cast<T>(exact);
            }
        }
        return square;
    }

    SvmState<T>& s_;
    AlignedBuffer<double> weights_;  // (classes, ldw)
    std::vector<double> loss_;
};

}  // namespace

template <class T>
SvmState<T>::SvmState(const MappedRows& mapped, const std::int32_t* class_numbers, int n_classes,
                      const SvmOptions& chosen)
    : rows(mapped),
      labels(class_numbers),
      options(chosen),
      classes(n_classes),
      stride(static_cast<int>(padded(classes))),
      ldw(padded(rows.columns())),
      weights(static_cast<std::size_t>(classes) * ldw, T(0)),
      average(weights.size(), T(0)),
      bias(classes, T(0)),
      average_bias(classes, T(0)),
      alpha(static_cast<std::size_t>(rows.size()) * stride, T(0)),
      square(rows.size()),
      gap(rows.size(), 0.0f),
      frozen(static_cast<std::size_t>(rows.size()) * stride, -1),
      awake(rows.size(), free_pairs(classes, options.form)),
      due(rows.size(), 0),
      sequence(rows.size()),
      violation(stride, static_cast<T>(INFINITY)) {
    for (std::int64_t i = 0; i < rows.size(); ++i) {
        std::fill_n(frozen.data() + i * stride, classes, std::int8_t{0});
    }
    std::iota(sequence.begin(), sequence.end(), std::int64_t{0});
    shuffle(sequence.data(), rows.size(), mix(options.seed));
}

template <class T>
SvmState<T>::SvmState(const SvmState<float>& from)
    : SvmState(from.rows, from.labels, from.classes, from.options) {
    std::copy_n(from.alpha.data(), from.alpha.size(), alpha.data());  // strides are the same
    std::copy_n(from.weights.data(), from.weights.size(), weights.data());
    std::copy_n(from.average.data(), from.average.size(), average.data());
    std::copy(from.bias.begin(), from.bias.end(), bias.begin());
    std::copy(from.average_bias.begin(), from.average_bias.end(), average_bias.begin());
    dual_terms = from.dual_terms;
}

namespace {

struct Solution {
    std::vector<double> bias, log_probability;
    SvmReport report;
};

// Sweeps and certifies until the gap is at most `tol`, the passes are used up, or, in float32,
// certificates stop improving.
template <class T>
void improve(SvmState<T>& state, double tol, Solution& solution) {
    Certificate<T> certificate(state);
    SvmReport& report = solution.report;
    // Of the certified gap to the estimate, as last seen; at first, what suffices on most data
    // (with the plain hinge it is 0.61 to 0.89, mostly 0.7 to 0.85).
    double ratio = state.options.hinge == 1 ? kGapOfAverage : 3.0;
    double best = INFINITY;
    int best_sweep = report.sweeps;
    bool stuck = false;
    do {
        const double estimate = sweep(state, tol / ratio, report);
        certificate.run(report, solution.bias, solution.log_probability);
        ratio = std::clamp(1.05 * report.gap / estimate, 0.5, 10.0);
        if (report.gap < 0.7 * best) {
            best = report.gap;
            best_sweep = report.sweeps;
        }
        stuck = sizeof(T) == sizeof(float) && report.sweeps - best_sweep >= kPatience;
    } while (report.gap > tol && report.passes < state.options.max_passes && !stuck);
}

template <class T>
void write_weights(const SvmState<T>& state, double* weights) {
    const std::int64_t d = state.rows.columns();
    for (int k = 0; k < state.classes; ++k) {
        const T* w = state.average.data() + k * state.ldw;
        for (std::int64_t j = 0; j < d; ++j) weights[k * d + j] = static_cast<double>(w[j]);
    }
}

}  // namespace

SvmReport svm_fit(const FeatureMatrix& x, const std::int64_t* rows, std::int64_t n_rows,
                  const std::int32_t* labels, int classes, const ColumnMap& map,
                  const SvmOptions& options, double* weights, double* bias,
                  double* label_log_probability) {
    const MappedRows mapped(x, rows, n_rows, map);
    Solution solution{std::vector<double>(classes), std::vector<double>(n_rows), {}};
    SvmReport& report = solution.report;
    auto single = std::make_unique<SvmState<float>>(mapped, labels, classes, options);
    improve(*single, std::max(options.tol, kFinestSingle), solution);
    if (report.gap > options.tol && report.passes < options.max_passes) {
        SvmState<double> exact(*single);
        single.reset();
        improve(exact, options.tol, solution);
        write_weights(exact, weights);
    } else {
        write_weights(*single, weights);
    }
    report.converged = report.gap <= options.tol;
    std::copy(solution.bias.begin(), solution.bias.end(), bias);
    if (label_log_probability != nullptr) {
        std::copy(solution.log_probability.begin(), solution.log_probability.end(),
                  label_log_probability);
    }
    return report;
}

void svm_label_log_probability(const FeatureMatrix& x, const std::int64_t* rows,
                               std::int64_t n_rows, const std::int32_t* labels, int classes,
                               const ColumnMap& map, const double* weights, const double* bias,
                               int threads, double* label_log_probability) {
    const MappedRows mapped(x, rows, n_rows, map);
    const std::int64_t ldw = padded(x.d);
    AlignedBuffer<double> w(static_cast<std::size_t>(classes) * ldw, 0.0);
    for (int k = 0; k < classes; ++k) std::copy_n(weights + k * x.d, x.d, w.data() + k * ldw);
    for_each_decision(mapped, classes, w.data(), ldw, bias, threads,
                      [&](std::int64_t first, int count, const double* f) {
                          for (int m = 0; m < count; ++m, f += padded(classes)) {
                              label_log_probability[first + m] =
                                  label_log_softmax(f, classes, labels[first + m]);
                          }
                      });
}

ColumnStatistics column_statistics(const FeatureMatrix& x, const std::int64_t* rows,
                                   std::int64_t n_rows, int threads) {
    constexpr int kParts = 16;  // fixed, so that sums do not depend on the number of threads
    const std::int64_t d = x.d;
    const auto row = [&](std::int64_t i) { return x.row(rows != nullptr ? rows[i] : i); };
    // Shifting by a row of the data keeps the variance exact for features far from zero.
    std::vector<double> shift(d, 0.0), zero(d, 0.0), unused(d, 0.0);
    kernels().moments(x.dtype, row(0), d, zero.data(), shift.data(), unused.data());
    for (double& v : shift) v = std::isfinite(v) ? v : 0.0;
    std::vector<double> sums(static_cast<std::size_t>(kParts) * d, 0.0), squares(sums);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int part = 0; part < kParts; ++part) {
        const std::int64_t last = n_rows * (part + 1) / kParts;
        for (std::int64_t i = n_rows * part / kParts; i < last; ++i) {
            kernels().moments(x.dtype, row(i), d, shift.data(), sums.data() + part * d,
                              squares.data() + part * d);
        }
    }
    ColumnStatistics out;
    out.mean.assign(d, 0.0);
    out.variance.assign(d, 0.0);
    bool finite = true;
    for (std::int64_t j = 0; j < d; ++j) {
        double sum = 0.0, square = 0.0;
        for (int part = 0; part < kParts; ++part) {
            sum += sums[part * d + j];
            square += squares[part * d + j];
        }
        const double mean = sum / static_cast<double>(n_rows);
        out.mean[j] = shift[j] + mean;
        out.variance[j] = std::max(0.0, square / static_cast<double>(n_rows) - mean * mean);
        finite = finite && std::isfinite(square);
    }
    if (finite) return out;
    std::vector<double> value(d);
    for (std::int64_t i = 0; i < n_rows; ++i) {
        std::fill(value.begin(), value.end(), 0.0);
        kernels().moments(x.dtype, row(i), d, zero.data(), value.data(), unused.data());
        if (std::all_of(value.begin(), value.end(), [](double v) { return std::isfinite(v); }))
            continue;
        if (out.non_finite++ == 0) out.first_non_finite = i;
    }
    return out;
}

}  // namespace lead_fast
