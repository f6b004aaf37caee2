#pragma once

#include <pybind11/pybind11.h>

// Adds HostUploader and stop_uploads to the module.
void bind_upload(pybind11::module_& m);
