// What the bindings of both backends begin their checks with.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

namespace lead_fast {

namespace py = pybind11;
using Array = py::array;
template <class T>
using Dense = py::array_t<T, py::array::c_style>;

inline void require(bool condition, const char* operation, const std::string& what) {
    if (!condition) throw std::invalid_argument(std::string(operation) + ": " + what);
}

}  // namespace lead_fast
