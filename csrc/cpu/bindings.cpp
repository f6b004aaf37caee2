// Python bindings: check dtype, rank, shape and contiguity, release the GIL, call.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "../build_info.h"
#include "../eigh.h"
#include "../evolve.h"
#include "../head.h"
#include "../ntk.h"
#include "../svm.h"
#include "bindings_metrics.h"
#include "bindings_svm_rows.h"
#include "bindings_upload.h"
#include "blas.h"
#include "checks.h"
#include "dispatch.h"
#include "tridiagonal.h"

using namespace lead_fast;

namespace {

const std::int64_t* row_numbers(const py::object& rows, const FeatureMatrix& x,
                                const char* operation, std::int64_t* count) {
    if (rows.is_none()) {
        *count = x.n;
        return nullptr;
    }
    const Array a = rows.cast<Array>();
    const std::int64_t* data = checked<std::int64_t>(a, {a.size()}, operation, "rows");
    for (py::ssize_t i = 0; i < a.size(); ++i) {
        require(data[i] >= 0 && data[i] < x.n, operation, "a row number is out of range");
    }
    *count = a.size();
    return data;
}

// True when Python wants the calculation stopped (Ctrl-C); the error is then set.
bool signals_pending(void*) {
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

struct Head {
    std::vector<std::int64_t> widths;
    std::vector<const float*> weights, biases;

    Head(const std::vector<Array>& w, const std::vector<Array>& b, std::int64_t d,
         const char* operation) {
        require(!w.empty() && w.size() == b.size(), operation,
                "a head needs as many biases as weights");
        widths.push_back(d);
        for (std::size_t l = 0; l < w.size(); ++l) {
            require(w[l].ndim() == 2, operation, "weights must have 2 dimensions");
            const std::int64_t out = w[l].shape(1);
            weights.push_back(checked<float>(w[l], {widths.back(), out}, operation, "weights"));
            biases.push_back(checked<float>(b[l], {out}, operation, "biases"));
            widths.push_back(out);
        }
    }
    HeadView view() const {
        return HeadView{static_cast<int>(weights.size()), widths.data(), weights.data(),
                        biases.data()};
    }
};

py::dict statistics(const Array& x, const std::string& dtype, const py::object& rows, int threads) {
    const char* op = "column_statistics";
    const FeatureMatrix m = features(x, dtype, op);
    std::int64_t n = 0;
    const std::int64_t* r = row_numbers(rows, m, op, &n);
    require(n > 0 && m.d > 0, op, "no features");
    ColumnStatistics s;
    {
        py::gil_scoped_release release;
        s = column_statistics(m, r, n, threads);
    }
    py::dict out;
    out["mean"] = Dense<double>(static_cast<py::ssize_t>(s.mean.size()), s.mean.data());
    out["variance"] = Dense<double>(static_cast<py::ssize_t>(s.variance.size()), s.variance.data());
    out["non_finite"] = s.non_finite;
    out["first_non_finite"] = s.first_non_finite;
    return out;
}

py::dict fit(const Array& x, const std::string& dtype, const py::object& rows, const Array& labels,
             int classes, const Array& centre, const Array& inverse_scale, int form, int hinge,
             double cost, double tol, int max_passes, std::uint64_t seed, int threads,
             bool want_log_probability) {
    const char* op = "svm_fit";
    const FeatureMatrix m = features(x, dtype, op);
    std::int64_t n = 0;
    const std::int64_t* r = row_numbers(rows, m, op, &n);
    const std::int32_t* y = class_numbers(labels, n, classes, op);
    const ColumnMap map{checked<double>(centre, {m.d}, op, "centre"),
                        checked<double>(inverse_scale, {m.d}, op, "inverse_scale")};
    require(n > 0 && m.d > 0 && classes > 0, op, "no features");
    require(form >= 0 && form <= 2 && (hinge == 1 || hinge == 2), op, "unknown form or hinge");
    SvmOptions options;
    options.form = static_cast<SvmForm>(form);
    options.hinge = hinge;
    options.cost = cost;
    options.tol = tol;
    options.max_passes = max_passes;
    options.seed = seed;
    options.threads = threads;
    options.interrupt.requested = signals_pending;
    Dense<double> weights({static_cast<py::ssize_t>(classes), static_cast<py::ssize_t>(m.d)});
    Dense<double> bias(classes), log_probability(want_log_probability ? n : 0);
    double* w = weights.mutable_data();
    double* b = bias.mutable_data();
    double* p = want_log_probability ? log_probability.mutable_data() : nullptr;
    SvmReport report;
    try {
        py::gil_scoped_release release;
        report = svm_fit(m, r, n, y, classes, map, options, w, b, p);
    } catch (const Interrupted&) {
        throw py::error_already_set();
    }
    py::dict out;
    out["weights"] = weights;
    out["bias"] = bias;
    out["log_probability"] = log_probability;
    out["primal"] = report.primal;
    out["dual"] = report.dual;
    out["gap"] = report.gap;
    out["passes"] = report.passes;
    out["newton_steps"] = report.newton_steps;
    out["sweeps"] = report.sweeps;
    out["converged"] = report.converged;
    return out;
}

Dense<double> label_log_probability(const Array& x, const std::string& dtype,
                                    const py::object& rows, const Array& labels, int classes,
                                    const Array& centre, const Array& inverse_scale,
                                    const Array& weights, const Array& bias, int threads) {
    const char* op = "svm_label_log_probability";
    const FeatureMatrix m = features(x, dtype, op);
    std::int64_t n = 0;
    const std::int64_t* r = row_numbers(rows, m, op, &n);
    const std::int32_t* y = class_numbers(labels, n, classes, op);
    const ColumnMap map{checked<double>(centre, {m.d}, op, "centre"),
                        checked<double>(inverse_scale, {m.d}, op, "inverse_scale")};
    const double* w = checked<double>(weights, {classes, m.d}, op, "weights");
    const double* b = checked<double>(bias, {classes}, op, "bias");
    Dense<double> out(n);
    double* p = out.mutable_data();
    py::gil_scoped_release release;
    svm_label_log_probability(m, r, n, y, classes, map, w, b, threads, p);
    return out;
}

Dense<float> draw_weights(std::uint64_t seed, std::uint32_t layer, std::int64_t fan_in,
                          std::int64_t fan_out, float scale, int threads) {
    require(fan_in > 0 && fan_out > 0, "head_weights",
            "a layer needs at least one input and output");
    Dense<float> out({fan_in, fan_out});
    float* w = out.mutable_data();
    py::gil_scoped_release release;
    head_weights(seed, layer, fan_in * fan_out, scale, threads, w);
    return out;
}

Dense<std::uint64_t> keys(std::uint64_t seed, std::uint32_t class_number, std::uint32_t stream,
                          std::int64_t count) {
    Dense<std::uint64_t> out(count);
    sample_keys(seed, class_number, stream, count, out.mutable_data());
    return out;
}

Dense<double> diagonal(const Array& x, const std::string& dtype, const Array& rows,
                       const std::vector<Array>& weights, const std::vector<Array>& biases,
                       int threads) {
    const char* op = "ntk_diagonal";
    const FeatureMatrix m = features(x, dtype, op);
    std::int64_t n = 0;
    const std::int64_t* r = row_numbers(rows, m, op, &n);
    const Head head(weights, biases, m.d, op);
    Dense<double> out(n);
    double* values = out.mutable_data();
    py::gil_scoped_release release;
    ntk_diagonal(m, r, n, head.view(), threads, values);
    return out;
}

std::vector<Dense<double>> class_kernels(const Array& x, const std::string& dtype,
                                         const Array& rows,
                                         const std::vector<std::int64_t>& class_begin,
                                         const std::vector<Array>& weights,
                                         const std::vector<Array>& biases, int threads) {
    const char* op = "ntk_kernels";
    const FeatureMatrix m = features(x, dtype, op);
    std::int64_t n = 0;
    const std::int64_t* r = row_numbers(rows, m, op, &n);
    const Head head(weights, biases, m.d, op);
    require(!class_begin.empty() && class_begin.front() == 0 && class_begin.back() == n, op,
            "class_begin does not cover the rows");
    std::vector<Dense<double>> out;
    std::vector<double*> pointers;
    for (std::size_t c = 0; c + 1 < class_begin.size(); ++c) {
        const py::ssize_t size = class_begin[c + 1] - class_begin[c];
        require(size >= 0, op, "class_begin must ascend");
        out.emplace_back(std::vector<py::ssize_t>{size, size});
        pointers.push_back(out.back().mutable_data());
    }
    {
        py::gil_scoped_release release;
        ntk_kernels(m, r, class_begin.data(), static_cast<int>(out.size()), head.view(), threads,
                    pointers.data());
    }
    return out;
}

py::tuple eigh(const std::vector<Array>& matrices, bool want_vectors, int threads) {
    const char* op = "eigh_batched";
    std::vector<const double*> in;
    std::vector<std::int64_t> sizes;
    std::vector<Dense<double>> values, vectors;
    std::vector<double*> value_data, vector_data;
    for (const Array& a : matrices) {
        require(a.ndim() == 2, op, "a matrix must have 2 dimensions");
        const py::ssize_t m = a.shape(0);
        in.push_back(checked<double>(a, {m, m}, op, "a matrix"));
        sizes.push_back(m);
        values.emplace_back(m);
        value_data.push_back(values.back().mutable_data());
        vectors.emplace_back(std::vector<py::ssize_t>{want_vectors ? m : 0, want_vectors ? m : 0});
        vector_data.push_back(vectors.back().mutable_data());
    }
    std::int64_t failed;
    {
        py::gil_scoped_release release;
        failed =
            eigh_batched(in.data(), sizes.data(), static_cast<std::int64_t>(in.size()), threads,
                         value_data.data(), want_vectors ? vector_data.data() : nullptr);
    }
    return py::make_tuple(failed, values, vectors);
}

Dense<double> by_team(const Array& matrix, int team) {
    const char* op = "team_eigenvalues";
    require(matrix.ndim() == 2 && team >= 1 && team <= 64, op, "one matrix and 1 to 64 threads");
    const std::int64_t n = matrix.shape(0);
    const double* a = checked<double>(matrix, {n, n}, op, "matrix");
    Dense<double> out(n);
    double* values = out.mutable_data();
    py::gil_scoped_release release;
    team_eigenvalues(a, n, team, values);
    return out;
}

Dense<double> evolved(const Array& initial, const std::string& dtype, const Array& labels,
                      const Array& rates, double t, int threads) {
    const char* op = "evolve_logits";
    const FeatureMatrix p = features(initial, dtype, op);
    const std::int32_t* y = class_numbers(labels, p.n, static_cast<int>(p.d), op);
    const double* rate = checked<double>(rates, {p.d}, op, "rates");
    Dense<double> out({p.n, p.d});
    double* e = out.mutable_data();
    py::gil_scoped_release release;
    evolve_logits(p, y, rate, t, threads, e);
    return out;
}

Dense<double> score_distribution(const Array& initial, const std::string& dtype,
                                 const Array& labels, const Array& rates, const Array& t,
                                 int threads) {
    const char* op = "evolved_score_distribution";
    const FeatureMatrix p = features(initial, dtype, op);
    const int classes = static_cast<int>(p.d);
    const std::int32_t* y = class_numbers(labels, p.n, classes, op);
    const double* rate = checked<double>(rates, {p.d}, op, "rates");
    const double* time = checked<double>(t, {t.size()}, op, "times");
    const int times = static_cast<int>(t.size());
    Dense<double> out(times);
    double* score = out.mutable_data();
    py::gil_scoped_release release;
    evolved_score_distribution(&p, nullptr, p.n, y, rate, classes, time, times, threads, score);
    return out;
}

Dense<double> score_label(const Array& p_label, const Array& labels, const Array& rates,
                          const Array& t, int threads) {
    const char* op = "evolved_score_distribution";
    const std::int64_t n = p_label.size();
    const int classes = static_cast<int>(rates.size());
    const double* p = checked<double>(p_label, {n}, op, "p_label");
    const std::int32_t* y = class_numbers(labels, n, classes, op);
    const double* rate = checked<double>(rates, {classes}, op, "rates");
    const double* time = checked<double>(t, {t.size()}, op, "times");
    const int times = static_cast<int>(t.size());
    Dense<double> out(times);
    double* score = out.mutable_data();
    py::gil_scoped_release release;
    evolved_score_distribution(nullptr, p, n, y, rate, classes, time, times, threads, score);
    return out;
}

Dense<double> score_logits(const Array& initial, const std::string& dtype, const Array& labels,
                           const Array& rates, const Array& t, int threads) {
    const char* op = "evolved_score_logits";
    const FeatureMatrix p = features(initial, dtype, op);
    const std::int32_t* y = class_numbers(labels, p.n, static_cast<int>(p.d), op);
    const double* rate = checked<double>(rates, {p.d}, op, "rates");
    const double* time = checked<double>(t, {t.size()}, op, "times");
    const int times = static_cast<int>(t.size());
    Dense<double> out(times);
    double* score = out.mutable_data();
    py::gil_scoped_release release;
    evolved_score_logits(p, y, rate, time, times, threads, score);
    return out;
}

Dense<double> spectral(const Array& values, const Array& vectors, const Array& initial,
                       const Array& targets, double t) {
    const char* op = "evolve_spectral";
    require(initial.ndim() == 2, op, "initial must have 2 dimensions");
    const std::int64_t m = initial.shape(0), classes = initial.shape(1);
    const double* lambda = checked<double>(values, {m}, op, "values");
    const double* v = checked<double>(vectors, {m, m}, op, "vectors");
    const double* f = checked<double>(initial, {m, classes}, op, "initial");
    const std::int32_t* y = class_numbers(targets, m, static_cast<int>(classes), op);
    Dense<double> out({m, classes});
    double* e = out.mutable_data();
    py::gil_scoped_release release;
    evolve_spectral(lambda, v, m, f, y, static_cast<int>(classes), t, e);
    return out;
}

// A routine of scipy.linalg.cython_blas or cython_lapack, with 32-bit integers.
template <class Function>
void take(const py::module_& module, const char* name, Function& out) {
    const py::object capsule = module.attr("__pyx_capi__")[name];
    const char* signature = PyCapsule_GetName(capsule.ptr());
    if (signature == nullptr || std::string(signature).find("int *") == std::string::npos) {
        throw py::import_error(std::string("lead_fast: SciPy's ") + name +
                               " does not take 32-bit integers (signature: " +
                               (signature != nullptr ? signature : "none") + ")");
    }
    out = reinterpret_cast<Function>(PyCapsule_GetPointer(capsule.ptr(), signature));
}

void take_blas() {
    const py::module_ level3 = py::module_::import("scipy.linalg.cython_blas");
    const py::module_ lapack = py::module_::import("scipy.linalg.cython_lapack");
    take(level3, "sgemm", blas().sgemm);
    take(level3, "dgemm", blas().dgemm);
    take(level3, "ssyrk", blas().ssyrk);
    take(level3, "dsyrk", blas().dsyrk);
    take(lapack, "spotrf", blas().spotrf);
    take(lapack, "dpotrf", blas().dpotrf);
    take(lapack, "dtrtri", blas().dtrtri);
    take(lapack, "dsyevd", blas().dsyevd);
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "The C++ core of lead_fast; use it through the package.";
    const char* isa = std::getenv("LEAD_FAST_ISA");
    try {
        choose_kernels(isa != nullptr ? isa : "");
    } catch (const std::invalid_argument& error) {
        throw py::import_error(error.what());
    }
    take_blas();

    m.def("build_info", [] {
        const BuildInfo info = build_info();
        py::dict out;
        out["version"] = info.version;
        out["compiler"] = info.compiler;
        out["flags"] = info.flags;
        out["build_type"] = info.build_type;
        out["instruction_sets_compiled"] = info.instruction_sets_compiled;
        out["instruction_set"] = info.instruction_set;
        out["processor_features"] = info.processor_features;
        out["openmp_version"] = info.openmp_version;
        out["openmp_threads"] = info.openmp_threads;
        out["cuda"] = info.cuda;
        out["cuda_reason"] = info.cuda_reason;
        out["cuda_version"] = info.cuda_version;
        out["cuda_architectures"] = info.cuda_architectures;
        return out;
    });
    m.def("max_threads", &max_threads);
    m.def("column_statistics", &statistics);
    bind_svm_rows(m);
    bind_upload(m);
    m.def("svm_fit", &fit);
    m.def("svm_label_log_probability", &label_log_probability);
    m.def("head_weights", &draw_weights);
    m.def("sample_keys", &keys);
    m.def("ntk_diagonal", &diagonal);
    m.def("ntk_kernels", &class_kernels);
    m.def("eigh_batched", &eigh);
    m.def("team_eigenvalues", &by_team);
    m.def("evolve_logits", &evolved);
    m.def("evolved_score_distribution", &score_distribution);
    m.def("evolved_score_label", &score_label);
    m.def("evolved_score_logits", &score_logits);
    m.def("evolve_spectral", &spectral);
    bind_metrics(m);
}
