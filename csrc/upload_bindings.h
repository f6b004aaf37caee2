// What Python sees of a class that uploads; the same for GPUs and for the tests' stand-in.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "upload.h"

namespace lead_fast {

namespace py = pybind11;

// No guard object gives the lock back: where the interpreter has ended meanwhile, asking for it
// ends the thread by unwinding its stack, which may not begin in a destructor.
template <class Work>
void without_interpreter(Work work) {
    std::exception_ptr failure;
    PyThreadState* const state = PyEval_SaveThread();
    try {
        work();
    } catch (...) {
        failure = std::current_exception();
    }
    PyEval_RestoreThread(state);
    if (failure) std::rethrow_exception(failure);
}

// upload(file, begin, rows, stride, length, target): `begin` is an offset, or the address of the
// first row where `file` is negative. EOFError where the file is too short, OSError where it cannot
// be read.
template <class Uploader>
py::class_<Uploader> bind_uploader(py::module_& m, const char* name) {
    py::class_<Uploader> bound(m, name);
    bound.def(py::init([](int device, int threads, std::int64_t piece) {
                  if (threads < 1 || piece < 1) {
                      throw std::invalid_argument("upload: no threads, or pieces of nothing");
                  }
                  return new Uploader(device, threads, piece);
              }),
              py::arg("device"), py::arg("threads"), py::arg("piece"));
    bound.def("upload", [](Uploader& self, int file, std::uintptr_t begin, std::int64_t rows,
                           std::int64_t stride, std::int64_t length, std::uintptr_t target) {
        if (rows < 0 || length < 0 || (file < 0 && begin == 0) || target == 0) {
            throw std::invalid_argument("upload: no rows, or no memory");
        }
        const bool in_file = file >= 0;
        const UploadSource source{in_file ? nullptr : reinterpret_cast<const char*>(begin),
                                  file,
                                  in_file ? static_cast<std::int64_t>(begin) : 0,
                                  rows,
                                  stride,
                                  length};
        try {
            without_interpreter([&] { self.upload(source, reinterpret_cast<char*>(target)); });
        } catch (const FileEnded& error) {
            PyErr_SetString(PyExc_EOFError, error.what());
            throw py::error_already_set();
        } catch (const std::system_error& error) {
            errno = error.code().value();
            PyErr_SetFromErrno(PyExc_OSError);
            throw py::error_already_set();
        }
    });
    bound.def("release", [](Uploader& self) { without_interpreter([&] { self.release(); }); });
    m.def("stop_uploads", [](double seconds) {
        const std::chrono::milliseconds most(static_cast<std::int64_t>(1e3 * seconds));
        without_interpreter([most] { Uploader::stop(most); });
    });
    return bound;
}

}  // namespace lead_fast
