// What GPUs do to samples (../svm_rows.h), run here for the tests: all samples in a loop. And the
// search along a direction, which array code on the processor takes, too.

#include "bindings_svm_rows.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "../line_search.h"
#include "../svm_rows.h"

namespace py = pybind11;
using namespace lead_fast;

namespace {

template <class T>
using Dense = py::array_t<T, py::array::c_style>;

void require(bool condition) {
    if (!condition) throw std::invalid_argument("svm_rows: arrays of different shapes");
}

py::tuple advance(int form, int hinge, float cost, const Dense<std::int32_t>& labels,
                  const Dense<float>& f, const Dense<float>& a, float rho) {
    const RowProblem problem = row_problem(form, hinge, cost);
    const py::ssize_t n = f.shape(0), k = f.shape(1);
    require(labels.size() == n && a.size() == n * k);
    Dense<float> next({n, k}), coefficients({n, k}), weight(n);
    Dense<std::uint8_t> mask({n, k}), curved(n);
    double loss = 0.0, linear = 0.0, quadratic = 0.0;
    for (py::ssize_t i = 0; i < n; ++i) {
        const py::ssize_t at = i * k;
        const RowReport found = advance_row(
            problem, static_cast<int>(k), labels.data()[i], f.data() + at, a.data() + at, rho,
            next.mutable_data() + at, coefficients.mutable_data() + at, mask.mutable_data() + at);
        weight.mutable_data()[i] = found.weight;
        curved.mutable_data()[i] = found.curved ? 1 : 0;
        loss += found.loss;
        linear += found.linear;
        quadratic += found.quadratic;
    }
    return py::make_tuple(next, coefficients, mask, weight, curved,
                          py::make_tuple(loss, linear, quadratic));
}

Dense<float> curve(int form, int hinge, float cost, const Dense<std::int32_t>& labels,
                   const Dense<float>& df, const Dense<float>& shift,
                   const Dense<std::uint8_t>& mask, const Dense<float>& weight, float rho) {
    const RowProblem problem = row_problem(form, hinge, cost);
    const py::ssize_t n = df.shape(0), k = df.shape(1);
    require(labels.size() == n && shift.size() == k && mask.size() == n * k && weight.size() == n);
    Dense<float> g({n, k});
    std::copy(df.data(), df.data() + n * k, g.mutable_data());
    for (py::ssize_t i = 0; i < n; ++i) {
        float* const own = g.mutable_data() + i * k;
        curve_row(problem, static_cast<int>(k), labels.data()[i], own, shift.data(),
                  mask.data() + i * k, weight.data()[i], rho, own);
    }
    return g;
}

Dense<double> slope(int form, int hinge, float cost, const Dense<std::int32_t>& labels,
                    const Dense<float>& f, const Dense<float>& a, const Dense<float>& df,
                    const Dense<float>& t, float rho) {
    const RowProblem problem = row_problem(form, hinge, cost);
    const bool separate = problem.form == SvmForm::one_vs_rest;
    const py::ssize_t n = f.shape(0), k = f.shape(1), count = separate ? k : 1;
    require(labels.size() == n && a.size() == n * k && df.size() == n * k && t.size() == count);
    Dense<double> sums(count);
    std::fill(sums.mutable_data(), sums.mutable_data() + count, 0.0);
    for (py::ssize_t i = 0; i < n; ++i) {
        const py::ssize_t at = i * k;
        const std::int32_t y = labels.data()[i];
        if (!separate) {
            *sums.mutable_data() += slope_row(problem, static_cast<int>(k), y, f.data() + at,
                                              a.data() + at, df.data() + at, t.data()[0], rho);
            continue;
        }
        for (py::ssize_t c = 0; c < k; ++c) {
            sums.mutable_data()[c] +=
                slope_cell(problem, y == c, f.data()[at + c], a.data()[at + c], df.data()[at + c],
                           t.data()[c], rho);
        }
    }
    return sums;
}

Dense<double> search(const py::function& slope, const Dense<double>& start, int tries,
                     double enough) {
    const auto at = [&](const std::vector<double>& t) {
        const auto found = slope(Dense<double>(static_cast<py::ssize_t>(t.size()), t.data()))
                               .cast<Dense<double>>();
        require(found.size() == start.size());
        return std::vector<double>(found.data(), found.data() + found.size());
    };
    const std::vector<double> given(start.data(), start.data() + start.size());
    const std::vector<double> t =
        line_search(given, at(std::vector<double>(given.size(), 1.0)), tries, enough, at);
    return Dense<double>(static_cast<py::ssize_t>(t.size()), t.data());
}

}  // namespace

void bind_svm_rows(py::module_& m) {
    m.def("svm_rows_advance", &advance);
    m.def("svm_rows_curve", &curve);
    m.def("svm_rows_slope", &slope);
    m.def("line_search", &search);
}
