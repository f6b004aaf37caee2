// Bindings of what only the metrics beside LEAD use.
#pragma once

#include <pybind11/pybind11.h>

namespace lead_fast {

void bind_metrics(pybind11::module_& m);

}  // namespace lead_fast
