// Bindings of what only the metrics beside LEAD use.
#pragma once

#include <pybind11/pybind11.h>

namespace lead_fast {
namespace cuda {

void bind_metrics(pybind11::module_& m);

}  // namespace cuda
}  // namespace lead_fast
