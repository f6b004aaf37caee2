// Plain types that every operation shares. Nothing here knows of Python.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lead_fast {

enum class DType : int { float32 = 0, float16 = 1, bfloat16 = 2, float64 = 3 };

constexpr std::size_t item_size(DType dtype) {
    return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
}

// A matrix of features as the caller holds it: n rows of d contiguous values, rows row_bytes apart
// (negative for a reversed view). Never copied as a whole.
struct FeatureMatrix {
    const void* data;
    DType dtype;
    std::int64_t n;
    std::int64_t d;
    std::int64_t row_bytes;

    const void* row(std::int64_t i) const { return static_cast<const char*>(data) + i * row_bytes; }
};

// Asked between passes by the long loops; true stops them with Interrupted.
struct Interrupt {
    bool (*requested)(void* context) = nullptr;
    void* context = nullptr;
    bool operator()() const { return requested != nullptr && requested(context); }
};

struct Interrupted {};

}  // namespace lead_fast
