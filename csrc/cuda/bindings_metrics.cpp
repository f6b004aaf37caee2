#include "bindings_metrics.h"

#include "checks.h"
#include "kmeans.h"
#include "softmax.h"

namespace lead_fast {
namespace cuda {
namespace {

// Samples (n, d) float32 or float64, C-contiguous.
FeatureMatrix samples(const py::object& object, const char* op) {
    const FeatureMatrix m = features(object, op);
    require(m.dtype == DType::float32 || m.dtype == DType::float64, op,
            "samples must be float32 or float64");
    require(m.n > 0 && m.d > 0, op, "no samples");
    require(m.row_bytes == m.d * static_cast<std::int64_t>(item_size(m.dtype)), op,
            "samples must be C-contiguous");
    return m;
}

// Does not wait for the stream.
void softmax(const py::object& x, const py::object& labels, const py::object& weight,
             const py::object& weights, const py::object& bias, const py::object& gradient,
             const py::object& sums, int device, std::uintptr_t stream) {
    const char* op = "softmax_pass";
    SoftmaxSamples s{};
    s.x = samples(x, op);
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

// Calls body(T{}) with the type of the samples.
template <class Body>
void with_type_of(const FeatureMatrix& z, Body body) {
    z.dtype == DType::float64 ? body(double{}) : body(float{});
}

template <class T>
const char* name_of() {
    return sizeof(T) == 8 ? "float64" : "float32";
}

// Does not wait for the stream.
void first_centres(const py::object& z, const py::object& norms, std::int64_t first,
                   const py::object& draws, const py::object& chosen, int device,
                   std::uintptr_t stream) {
    const char* op = "kmeans_first";
    const FeatureMatrix m = samples(z, op);
    const std::int64_t count = memory_of(chosen).shape.at(0);
    require(count > 0 && first >= 0 && first < m.n, op, "no such first sample");
    auto* out = checked<std::int64_t>(chosen, "int64", {count}, op, "chosen");
    const auto* d = checked<const double>(draws, "float64", {count - 1, kTrials}, op, "draws");
    with_type_of(m, [&](auto type) {
        using T = decltype(type);
        const auto* sizes = checked<const T>(norms, name_of<T>(), {m.n}, op, "norms");
        py::gil_scoped_release release;
        const Call call(device, stream);
        kmeans_first(call, static_cast<const T*>(m.data), sizes, m.n, m.d, count, first, d, out);
    });
}

Dense<double> rounds(const py::object& z, const py::object& centres, const py::object& labels,
                     int device, std::uintptr_t stream) {
    const char* op = "kmeans_rounds";
    const FeatureMatrix m = samples(z, op);
    const Memory of_centres = memory_of(centres);
    require(of_centres.shape.size() == 3 && of_centres.shape[0] > 1 && of_centres.shape[1] > 0, op,
            "centres must have 3 dimensions, one more than rounds first");
    const std::int64_t count = of_centres.shape[1];
    const int times = static_cast<int>(of_centres.shape[0] - 1);
    auto* y = checked<std::int64_t>(labels, "int64", {m.n}, op, "labels");
    Dense<double> ends({times, 2});
    double* to = ends.mutable_data();
    with_type_of(m, [&](auto type) {
        using T = decltype(type);
        auto* c = checked<T>(centres, name_of<T>(), {times + 1, count, m.d}, op, "centres");
        py::gil_scoped_release release;
        const Call call(device, stream);
        kmeans_rounds(call, static_cast<const T*>(m.data), m.n, m.d, count, times, c, y, to);
    });
    return ends;
}

}  // namespace

void bind_metrics(py::module_& m) {
    m.def("softmax_pass", &softmax);
    m.def("kmeans_first", &first_centres);
    m.def("kmeans_rounds", &rounds);
}

}  // namespace cuda
}  // namespace lead_fast
