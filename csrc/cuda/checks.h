// Checks that every binding makes of what Python says of its arrays.
//
// An array on a device comes as the tuple (address, dtype name, shape, bytes between rows) that
// lead_fast/device.py makes; nothing here keeps it alive beyond the call.
#pragma once

#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "../require.h"
#include "../types.h"

namespace lead_fast {

// What Python says of an array on a device.
struct Memory {
    std::uintptr_t address;
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::int64_t row_bytes;
};

inline Memory memory_of(const py::object& object) {
    const py::tuple given = object.cast<py::tuple>();
    return Memory{given[0].cast<std::uintptr_t>(), given[1].cast<std::string>(),
                  given[2].cast<std::vector<std::int64_t>>(), given[3].cast<std::int64_t>()};
}

inline DType dtype_of(const std::string& name, const char* operation) {
    if (name == "float32") return DType::float32;
    if (name == "float16") return DType::float16;
    if (name == "bfloat16") return DType::bfloat16;
    require(name == "float64", operation, "unknown dtype " + name);
    return DType::float64;
}

inline FeatureMatrix features(const py::object& object, const char* operation) {
    const Memory m = memory_of(object);
    require(m.shape.size() == 2, operation, "features must have 2 dimensions");
    require(m.address != 0 || m.shape[0] * m.shape[1] == 0, operation, "features have no address");
    return FeatureMatrix{reinterpret_cast<const void*>(m.address), dtype_of(m.dtype, operation),
                         m.shape[0], m.shape[1], m.row_bytes};
}

template <class T>
T* checked(const py::object& object, const char* dtype, std::initializer_list<std::int64_t> shape,
           const char* operation, const char* name) {
    const Memory m = memory_of(object);
    require(m.dtype == dtype, operation, std::string(name) + " must be " + dtype);
    require(m.shape == std::vector<std::int64_t>(shape), operation,
            std::string(name) + " has another shape than expected");
    if (shape.size() == 2 && m.shape[0] > 0) {
        require(m.row_bytes == m.shape[1] * static_cast<std::int64_t>(sizeof(T)), operation,
                std::string(name) + " must be C-contiguous");
    }
    return reinterpret_cast<T*>(m.address);
}

}  // namespace lead_fast
