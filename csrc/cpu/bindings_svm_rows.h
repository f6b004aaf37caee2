#pragma once

#include <pybind11/pybind11.h>

// Adds svm_rows_advance, svm_rows_curve and svm_rows_slope to the module.
void bind_svm_rows(pybind11::module_& m);
