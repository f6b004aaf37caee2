// Checks that every binding makes: a condition, and an array's dtype, contiguity and shape.
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

inline std::string shape_text(const Array& a) {
    std::string text = "(";
    for (py::ssize_t i = 0; i < a.ndim(); ++i) text += (i ? ", " : "") + std::to_string(a.shape(i));
    return text + ")";
}

template <class T>
const T* checked(const Array& a, std::initializer_list<std::int64_t> shape, const char* operation,
                 const char* name) {
    require(py::isinstance<Dense<T>>(a), operation,
            std::string(name) + " must be C-contiguous of dtype " +
                std::string(py::str(py::dtype::of<T>())) + ", not " +
                std::string(py::str(a.dtype())));
    bool fits = a.ndim() == static_cast<py::ssize_t>(shape.size());
    std::size_t i = 0;
    for (std::int64_t size : shape) fits = fits && a.shape(i++) == size;
    require(fits, operation, std::string(name) + " has shape " + shape_text(a));
    return static_cast<const T*>(a.data());
}

// The same for an array that is written to.
template <class T>
T* checked_out(Array& a, std::initializer_list<std::int64_t> shape, const char* operation,
               const char* name) {
    checked<T>(a, shape, operation, name);
    require(a.writeable(), operation, std::string(name) + " is read-only");
    return static_cast<T*>(a.mutable_data());
}

}  // namespace lead_fast
