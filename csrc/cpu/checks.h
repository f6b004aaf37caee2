// Checks that every binding makes: a condition, and an array's dtype, contiguity and shape.
#pragma once

#include "../require.h"
#include "../types.h"

namespace lead_fast {

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

// dtype: one of the names of lead_fast.features.Features; bfloat16 comes as uint16.
inline FeatureMatrix features(const Array& a, const std::string& dtype, const char* operation) {
    const DType code = dtype == "float32"    ? DType::float32
                       : dtype == "float16"  ? DType::float16
                       : dtype == "bfloat16" ? DType::bfloat16
                                             : DType::float64;
    const char expected = code == DType::bfloat16 ? 'u' : 'f';
    require(a.ndim() == 2, operation,
            "features must have 2 dimensions, not shape " + shape_text(a));
    require(
        a.dtype().kind() == expected && a.itemsize() == static_cast<py::ssize_t>(item_size(code)),
        operation, "features are not " + dtype);
    require(a.shape(1) <= 1 || a.strides(1) == a.itemsize(), operation,
            "each row of the features must be contiguous");
    return FeatureMatrix{a.data(), code, a.shape(0), a.shape(1), a.strides(0)};
}

inline const std::int32_t* class_numbers(const Array& labels, std::int64_t n, int classes,
                                         const char* operation) {
    const std::int32_t* data = checked<std::int32_t>(labels, {n}, operation, "labels");
    for (std::int64_t i = 0; i < n; ++i) {
        require(data[i] >= 0 && data[i] < classes, operation, "a label is not a class number");
    }
    return data;
}

}  // namespace lead_fast
