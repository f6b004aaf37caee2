#include "bindings_metrics.h"

#include "checks.h"
#include "softmax.h"

namespace lead_fast {
namespace cuda {
namespace {

// Does not wait for the stream.
void softmax(const py::object& x, const py::object& labels, const py::object& weight,
             const py::object& weights, const py::object& bias, const py::object& gradient,
             const py::object& sums, int device, std::uintptr_t stream) {
    const char* op = "softmax_pass";
    SoftmaxSamples s{};
    s.x = features(x, op);
    require(s.x.dtype == DType::float32 || s.x.dtype == DType::float64, op,
            "features must be float32 or float64");
    const Memory of_bias = memory_of(bias);
    require(of_bias.shape.size() == 1 && of_bias.shape[0] > 0 && of_bias.shape[0] <= 0x7fffffff, op,
            "the bias must have 1 dimension");
    const std::int64_t classes = of_bias.shape[0];
    s.classes = static_cast<int>(classes);
    s.labels = checked<const std::int64_t>(labels, "int64", {s.x.n}, op, "labels");
    s.weight = checked<const double>(weight, "float64", {s.x.n}, op, "weight");
    const auto* w = checked<const double>(weights, "float64", {classes, s.x.d}, op, "weights");
    const auto* b = checked<const double>(bias, "float64", {classes}, op, "bias");
    auto* out = checked<double>(gradient, "float64", {classes, s.x.d}, op, "gradient");
    auto* of_all = checked<double>(sums, "float64", {2 + classes}, op, "sums");
    py::gil_scoped_release release;
    const Call call(device, stream);
    softmax_pass(call, s, w, b, out, of_all);
}

}  // namespace

void bind_metrics(py::module_& m) { m.def("softmax_pass", &softmax); }

}  // namespace cuda
}  // namespace lead_fast
