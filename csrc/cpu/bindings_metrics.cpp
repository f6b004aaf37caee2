#include "bindings_metrics.h"

#include <pybind11/stl.h>

#include <vector>

#include "../class_scatter.h"
#include "../kmeans.h"
#include "../mixture.h"
#include "../pairs.h"
#include "../softmax.h"
#include "checks.h"
#include "simd.h"

namespace lead_fast {
namespace {

// code (n) int32; weight (codes, codes) or (codes, codes, shared); bits (n, words) or None.
PairWeights pair_weights(const Array& code, const Array& weight, const py::object& bits,
                         std::int64_t n, const char* op) {
    PairWeights w{};
    w.code = checked<std::int32_t>(code, {n}, op, "code");
    require(weight.ndim() >= 2, op, "weight has shape " + shape_text(weight));
    w.codes = static_cast<int>(weight.shape(0));
    w.shared = 1;
    if (bits.is_none()) {
        w.weight = checked<double>(weight, {w.codes, w.codes}, op, "weight");
    } else {
        const Array b = bits.cast<Array>();
        require(b.ndim() == 2 && weight.ndim() == 3, op, "bits come with three-way weights");
        w.words = static_cast<int>(b.shape(1));
        w.shared = static_cast<int>(weight.shape(2));
        w.bits = checked<std::uint64_t>(b, {n, w.words}, op, "bits");
        w.weight = checked<double>(weight, {w.codes, w.codes, w.shared}, op, "weight");
        for (std::int64_t i = 0; i < n * w.words; i += w.words) {
            int labels = 0;
            for (int j = 0; j < w.words; ++j) labels += __builtin_popcountll(w.bits[i + j]);
            require(labels < w.shared, op, "weight has too few entries for the labels");
        }
    }
    for (std::int64_t i = 0; i < n; ++i) {
        require(w.code[i] >= 0 && w.code[i] < w.codes, op, "a code is out of range");
    }
    return w;
}

using Divisions = std::vector<std::pair<double, double>>;  // (low, scale)

PairFilter pair_filter(const Divisions& divisions, const std::vector<std::int64_t>& index,
                       std::int64_t bins, const char* op) {
    require(divisions.size() == index.size(), op, "as many filters as indices are needed");
    PairFilter filter;
    for (const auto& d : divisions) filter.division.push_back({d.first, d.second, bins});
    filter.index = index;
    return filter;
}

template <class T>
PairBlock<T> pair_block(const Array& similarity, std::int64_t first, std::int64_t n,
                        const char* op) {
    require(similarity.ndim() == 2 && similarity.shape(1) == n, op,
            "similarity has shape " + shape_text(similarity));
    PairBlock<T> block{};
    block.rows = similarity.shape(0);
    block.similarity = checked<T>(similarity, {block.rows, n}, op, "similarity");
    block.ld = n;
    block.first = first;
    require(first >= 0 && first + block.rows <= n, op, "the rows are out of range");
    return block;
}

// Calls body with the block in its own number type.
template <class Body>
void dispatch(const Array& similarity, std::int64_t first, std::int64_t n, const char* op,
              Body body) {
    if (py::isinstance<Dense<double>>(similarity)) {
        const auto block = pair_block<double>(similarity, first, n, op);
        py::gil_scoped_release release;
        body(block);
    } else {
        const auto block = pair_block<float>(similarity, first, n, op);
        py::gil_scoped_release release;
        body(block);
    }
}

// similarity (rows, n): rows first .. first + rows of the square, columns of which only those
// before the row are read.
void histogram(const Array& similarity, std::int64_t first, const Array& code, const Array& weight,
               const py::object& bits, const Divisions& divisions,
               const std::vector<std::int64_t>& index, double low, double scale, Array count,
               Array sum) {
    const char* op = "pair_histogram";
    require(count.ndim() == 2, op, "count has shape " + shape_text(count));
    const std::int64_t threads = count.shape(0), bins = count.shape(1);
    require(threads > 0 && bins > 0 && bins <= (1 << 24), op, "no bins, or too many");
    auto* counts = checked_out<std::uint32_t>(count, {threads, bins}, op, "count");
    auto* sums = checked_out<double>(sum, {threads, bins}, op, "sum");
    const PairWeights w = pair_weights(code, weight, bits, code.size(), op);
    const PairFilter filter = pair_filter(divisions, index, bins, op);
    dispatch(similarity, first, code.size(), op, [&](const auto& block) {
        pair_histogram(block, w, filter, Division{low, scale, bins}, static_cast<int>(threads),
                       counts, sums);
    });
}

void collect(const Array& similarity, std::int64_t first, const Array& code, const Array& weight,
             const py::object& bits, const Divisions& divisions,
             const std::vector<std::int64_t>& index, double low, double scale, Array cursor,
             Array end, Array distance, Array weights, int threads) {
    const char* op = "pair_collect";
    const std::int64_t bins = cursor.size(), room = distance.size();
    auto* at = checked_out<std::int64_t>(cursor, {bins}, op, "cursor");
    const auto* stop = checked<std::int64_t>(end, {bins}, op, "end");
    auto* t = checked_out<double>(distance, {room}, op, "distance");
    auto* out = checked_out<double>(weights, {room}, op, "weights");
    const PairWeights w = pair_weights(code, weight, bits, code.size(), op);
    const PairFilter filter = pair_filter(divisions, index, bins, op);
    for (std::int64_t b = 0; b < bins; ++b) {
        require(stop[b] < 0 || (at[b] >= 0 && stop[b] <= room), op, "a cursor is out of range");
    }
    dispatch(similarity, first, code.size(), op, [&](const auto& block) {
        pair_collect(block, w, filter, Division{low, scale, bins}, threads, at, stop, t, out);
    });
}

py::tuple ranks(const Array& begin, const Array& before, const Array& distance, const Array& weight,
                int threads) {
    const char* op = "pair_ranks";
    const std::int64_t bins = before.size(), pairs = distance.size();
    const auto* from = checked<std::int64_t>(begin, {bins + 1}, op, "begin");
    const auto* lower = checked<std::int64_t>(before, {bins}, op, "before");
    const auto* t = checked<double>(distance, {pairs}, op, "distance");
    const auto* w = checked<double>(weight, {pairs}, op, "weight");
    require(from[0] == 0 && from[bins] == pairs, op, "begin does not cover the pairs");
    for (std::int64_t b = 0; b < bins; ++b) {
        require(from[b] <= from[b + 1], op, "begin must ascend");
    }
    double rank_weight, ties;
    {
        py::gil_scoped_release release;
        pair_ranks(bins, from, lower, threads, t, w, &rank_weight, &ties);
    }
    return py::make_tuple(rank_weight, ties);
}

Dense<std::int64_t> types(const Array& code, const Array& weight, const py::object& bits,
                          int threads) {
    const char* op = "pair_types";
    const PairWeights w = pair_weights(code, weight, bits, code.size(), op);
    Dense<std::int64_t> out({w.codes, w.codes, w.shared});
    std::int64_t* counts = out.mutable_data();
    const std::int64_t n = code.size();
    py::gil_scoped_release release;
    pair_types(w, n, threads, counts);
    return out;
}

Dense<double> one_hot(int k) {
    require(k > 1, "one_hot_products", "at least two classes are needed");
    Dense<double> out({k, k});
    double* products = out.mutable_data();
    py::gil_scoped_release release;
    one_hot_products(k, products);
    return out;
}

py::tuple softmax(const Array& x, const std::string& dtype, const Array& labels,
                  const Array& centre, const Array& inverse_scale, const Array& weights,
                  const Array& bias, bool exact, bool want_curvature, int threads) {
    const char* op = "softmax_pass";
    const FeatureMatrix m = features(x, dtype, op);
    require(bias.ndim() == 1 && m.n > 0 && m.d > 0, op, "no features, or bias is not a vector");
    const int classes = static_cast<int>(bias.size());
    const std::int32_t* y = class_numbers(labels, m.n, classes, op);
    const ColumnMap map{checked<double>(centre, {m.d}, op, "centre"),
                        checked<double>(inverse_scale, {m.d}, op, "inverse_scale")};
    const double* w = checked<double>(weights, {classes, m.d}, op, "weights");
    const double* b = checked<double>(bias, {classes}, op, "bias");
    Dense<double> gradient({static_cast<py::ssize_t>(classes), static_cast<py::ssize_t>(m.d)});
    Dense<double> bias_gradient(classes);
    double* g = gradient.mutable_data();
    double* gb = bias_gradient.mutable_data();
    SoftmaxPass out;
    {
        py::gil_scoped_release release;
        out = softmax_pass(m, map, y, classes, w, b, exact, want_curvature, threads, g, gb);
    }
    return py::make_tuple(out.loss, gradient, bias_gradient, out.curvature);
}

template <class T>
py::tuple e_step_of(const Array& z, int d, const Array& mean, const Array& factor,
                    const Array& constant, const Array& likely, const Array& order, double depth,
                    int threads) {
    const char* op = "mixture_e_step";
    require(z.ndim() == 2 && mean.ndim() == 2, op, "z has shape " + shape_text(z));
    const std::int64_t n = z.shape(0), ld = z.shape(1), m = mean.shape(0);
    require(n > 0 && m > 0 && d > 0 && ld == padded(d), op, "z is not padded");
    const T* rows = checked<T>(z, {n, ld}, op, "z");
    const T* centre = checked<T>(mean, {m, ld}, op, "mean");
    const T* matrix = checked<T>(factor, {m, d, ld}, op, "factor");
    const double* log_constant = checked<double>(constant, {m}, op, "constant");
    const std::int32_t* guess = class_numbers(likely, n, static_cast<int>(m), op);
    const std::int64_t* sequence = checked<std::int64_t>(order, {n}, op, "order");
    for (std::int64_t i = 0; i < n; ++i) {
        require(sequence[i] >= 0 && sequence[i] < n, op, "a row number is out of range");
    }
    Dense<T> posterior({static_cast<py::ssize_t>(m), static_cast<py::ssize_t>(n)});
    Dense<double> log_likelihood(n);
    T* p = posterior.mutable_data();
    double* l = log_likelihood.mutable_data();
    {
        py::gil_scoped_release release;
        mixture_e_step(rows, n, d, ld, static_cast<int>(m), centre, matrix, log_constant, guess,
                       sequence, depth, threads, p, l);
    }
    return py::make_tuple(posterior, log_likelihood);
}

py::tuple e_step(const Array& z, int d, const Array& mean, const Array& factor,
                 const Array& constant, const Array& likely, const Array& order, double depth,
                 int threads) {
    const bool exact = py::isinstance<Dense<double>>(z);
    return (exact ? e_step_of<double> : e_step_of<float>)(z, d, mean, factor, constant, likely,
                                                          order, depth, threads);
}

// Sets means (m, ld) and factors (m, d, ld), which are the caller's as they are large. Returns
// masses and half the log-determinants, or None where a covariance is not positive definite.
template <class T>
py::object m_step_of(const Array& z, int d, const Array& posterior, double ridge, double least,
                     Array mean, Array factor, int threads) {
    const char* op = "mixture_parameters";
    require(z.ndim() == 2 && posterior.ndim() == 2, op, "z has shape " + shape_text(z));
    const std::int64_t n = z.shape(0), ld = z.shape(1), m = posterior.shape(0);
    require(n > 0 && m > 0 && d > 0 && ld == padded(d), op, "z is not padded");
    const T* rows = checked<T>(z, {n, ld}, op, "z");
    const T* p = checked<T>(posterior, {m, n}, op, "posterior");
    T* centre = checked_out<T>(mean, {m, ld}, op, "mean");
    T* matrix = checked_out<T>(factor, {m, d, ld}, op, "factor");
    Dense<double> mass(m), half_log(m);
    double *sums = mass.mutable_data(), *logs = half_log.mutable_data();
    bool fine;
    {
        py::gil_scoped_release release;
        fine = mixture_parameters(rows, n, d, ld, static_cast<int>(m), p, ridge, least, threads,
                                  centre, matrix, sums, logs);
    }
    if (!fine) return py::none();
    return py::make_tuple(mass, half_log);
}

py::object m_step(const Array& z, int d, const Array& posterior, double ridge, double least,
                  const Array& mean, const Array& factor, int threads) {
    const bool exact = py::isinstance<Dense<double>>(z);
    return (exact ? m_step_of<double> : m_step_of<float>)(z, d, posterior, ridge, least, mean,
                                                          factor, threads);
}

template <class T>
std::int64_t lloyd_of(const Array& z, const Array& centre, const Array& moved, Array label,
                      Array upper, Array lower, Array sum, Array count, int threads) {
    const char* op = "kmeans_round";
    require(z.ndim() == 2 && centre.ndim() == 2, op, "z has shape " + shape_text(z));
    const std::int64_t n = z.shape(0), ld = z.shape(1), k = centre.shape(0);
    require(n > 0 && k > 0 && k < (1 << 30) && ld > 0 && ld == padded(ld), op, "z is not padded");
    const T* rows = checked<T>(z, {n, ld}, op, "z");
    const T* at = checked<T>(centre, {k, ld}, op, "centre");
    const T* by = checked<T>(moved, {k}, op, "moved");
    auto* own = checked_out<std::int32_t>(label, {n}, op, "label");
    T* above = checked_out<T>(upper, {n}, op, "upper");
    T* below = checked_out<T>(lower, {n}, op, "lower");
    auto* total = checked_out<double>(sum, {k, ld}, op, "sum");
    auto* size = checked_out<std::int64_t>(count, {k}, op, "count");
    for (std::int64_t i = 0; i < n; ++i) {
        require(own[i] >= -1 && own[i] < k, op, "a label is no centre's number");
    }
    require(threads > 0, op, "no threads");
    py::gil_scoped_release release;
    return kmeans_round(rows, n, ld, static_cast<int>(k), at, by, threads, own, above, below, total,
                        size);
}

// z (n, ld), centre (k, ld), moved (k); label (n) int32, upper, lower (n), sum (k, ld) float64 and
// count (k) int64 are brought up to date. Returns how many labels changed.
std::int64_t lloyd(const Array& z, const Array& centre, const Array& moved, const Array& label,
                   const Array& upper, const Array& lower, const Array& sum, const Array& count,
                   int threads) {
    const bool exact = py::isinstance<Dense<double>>(z);
    return (exact ? lloyd_of<double> : lloyd_of<float>)(z, centre, moved, label, upper, lower, sum,
                                                        count, threads);
}

// order (n) int64: rows by class; ends (classes) int64; spread (classes, d) or None; total (d, d)
// or None. Returns log-determinants and pivots.
py::tuple log_determinants(const Array& x, const std::string& dtype, const Array& order,
                           const Array& ends, const Array& centre, const py::object& spread,
                           const Array& shift, bool exact, const py::object& total, int threads) {
    const char* op = "class_log_determinants";
    const FeatureMatrix m = features(x, dtype, op);
    const std::int64_t classes = ends.size(), rows = order.size();
    const auto* sequence = checked<std::int64_t>(order, {rows}, op, "order");
    const auto* stop = checked<std::int64_t>(ends, {classes}, op, "ends");
    require(classes > 0 && stop[classes - 1] == rows, op, "ends do not cover the rows");
    for (std::int64_t c = 0; c < classes; ++c) {
        require(stop[c] >= (c > 0 ? stop[c - 1] : 0), op, "ends must ascend");
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        require(sequence[i] >= 0 && sequence[i] < m.n, op, "a row number is out of range");
    }
    const double* middle = checked<double>(centre, {classes, m.d}, op, "centre");
    const double* level = checked<double>(shift, {classes}, op, "shift");
    const double* apart = nullptr;
    double* sum = nullptr;
    if (!spread.is_none()) {
        apart = checked<double>(spread.cast<Array>(), {classes, m.d}, op, "spread");
    }
    if (!total.is_none()) {
        Array out = total.cast<Array>();
        sum = checked_out<double>(out, {m.d, m.d}, op, "total");
    }
    Dense<double> found(classes), pivots(classes);
    double *f = found.mutable_data(), *p = pivots.mutable_data();
    {
        py::gil_scoped_release release;
        class_log_determinants(m, sequence, stop, static_cast<int>(classes), middle, apart, level,
                               exact, threads, sum, f, p);
    }
    return py::make_tuple(found, pivots);
}

}  // namespace

void bind_metrics(py::module_& m) {
    m.def("pair_histogram", &histogram);
    m.def("pair_collect", &collect);
    m.def("pair_ranks", &ranks);
    m.def("pair_types", &types);
    m.def("one_hot_products", &one_hot);
    m.def("softmax_pass", &softmax);
    m.def("kmeans_round", &lloyd);
    m.def("mixture_e_step", &e_step);
    m.def("mixture_parameters", &m_step);
    m.def("class_log_determinants", &log_determinants);
}

}  // namespace lead_fast
