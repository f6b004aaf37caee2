// The inner loops that this process uses.
#pragma once

#include <string>
#include <vector>

#include "simd.h"

namespace lead_fast {

// choose_kernels must have been called once.
const Kernels& kernels();

// Those of one number type.
template <class T>
const SvmKernels<T>& kernels_of();
template <>
inline const SvmKernels<float>& kernels_of<float>() {
    return kernels().f32;
}
template <>
inline const SvmKernels<double>& kernels_of<double>() {
    return kernels().f64;
}

// The named set, or for an empty name the best that the processor has. Throws
// std::invalid_argument.
void choose_kernels(const std::string& name);

// Best first.
const std::vector<const Kernels*>& compiled_kernels();

}  // namespace lead_fast
