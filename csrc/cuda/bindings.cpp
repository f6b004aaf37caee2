// Python bindings: check what the caller says of its arrays, release the GIL, call. Every operation
// ends with its stream at rest, unless said otherwise.

#include "../upload_bindings.h"
#include "bindings_metrics.h"
#include "checks.h"
#include "eigh.h"
#include "evolve.h"
#include "head.h"
#include "ntk.h"
#include "runtime.h"
#include "svm.h"
#include "svm_narrow.h"
#include "upload.h"

using namespace lead_fast;

namespace {

template <class T>
const T* host(const Array& a, std::int64_t count, const char* operation, const char* name) {
    require(py::isinstance<Dense<T>>(a) && a.size() == count, operation,
            std::string(name) + " must be C-contiguous, of its dtype, with " +
                std::to_string(count) + " numbers");
    return static_cast<const T*>(a.data());
}

py::dict build_info() {
    py::dict out;
    out["cuda_version"] = LEAD_FAST_CUDA_VERSION;
    out["cuda_architectures"] = LEAD_FAST_CUDA_ARCHITECTURES;
    int major = 0, minor = 0, patch = 0;
    cusolverGetProperty(MAJOR_VERSION, &major);
    cusolverGetProperty(MINOR_VERSION, &minor);
    cusolverGetProperty(PATCH_LEVEL, &patch);
    out["cusolver"] =
        std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
    cublasGetProperty(MAJOR_VERSION, &major);
    cublasGetProperty(MINOR_VERSION, &minor);
    cublasGetProperty(PATCH_LEVEL, &patch);
    out["cublas"] =
        std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
    return out;
}

py::dict device_info(int device) {
    const cuda::Call call(device, 0);
    cudaDeviceProp properties;
    LEAD_FAST_CHECK(cudaGetDeviceProperties(&properties, device));
    int driver = 0;
    LEAD_FAST_CHECK(cudaDriverGetVersion(&driver));
    py::dict out;
    out["name"] = std::string(properties.name);
    out["compute_capability"] =
        std::to_string(properties.major) + "." + std::to_string(properties.minor);
    out["processors"] = properties.multiProcessorCount;
    out["memory_bytes"] = properties.totalGlobalMem;
    out["l2_bytes"] = properties.l2CacheSize;
    out["driver_cuda"] = std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
    out["own_eigh_limit"] = cuda::own_limit(call.facts());
    return out;
}

// Does not wait for the stream.
void head_weights(const py::object& weights, std::uint64_t seed, std::uint32_t layer, float scale,
                  int device, std::uintptr_t stream) {
    const Memory m = memory_of(weights);
    require(m.shape.size() == 2, "head_weights", "weights must have 2 dimensions");
    float* w =
        checked<float>(weights, "float32", {m.shape[0], m.shape[1]}, "head_weights", "weights");
    py::gil_scoped_release release;
    const cuda::Call call(device, stream);
    cuda::head_weights(call, seed, layer, m.shape[0] * m.shape[1], scale, w);
}

py::tuple ntk(const py::object& x, const Array& rows, const std::vector<std::int64_t>& class_begin,
              const std::vector<py::object>& weights, const std::vector<py::object>& biases,
              bool allow_tf32, const py::object& phi, int device, std::uintptr_t stream) {
    const char* op = "ntk";
    const FeatureMatrix m = features(x, op);
    const std::int64_t n = rows.size();
    const std::int64_t* r = host<std::int64_t>(rows, n, op, "rows");
    for (std::int64_t i = 0; i < n; ++i) {
        require(r[i] >= 0 && r[i] < m.n, op, "a row number is out of range");
    }
    require(!class_begin.empty() && class_begin.front() == 0 && class_begin.back() == n, op,
            "class_begin does not cover the rows");
    std::int64_t cells = 0;
    for (std::size_t c = 0; c + 1 < class_begin.size(); ++c) {
        const std::int64_t size = class_begin[c + 1] - class_begin[c];
        require(size > 0, op, "a class has no rows");
        cells += size * size;
    }
    require(!weights.empty() && weights.size() == biases.size(), op,
            "a head needs as many biases as weights");
    std::vector<std::int64_t> widths = {m.d};
    std::vector<const float*> w, b;
    for (std::size_t l = 0; l < weights.size(); ++l) {
        const Memory shape = memory_of(weights[l]);
        require(shape.shape.size() == 2, op, "weights must have 2 dimensions");
        const std::int64_t out = shape.shape[1];
        w.push_back(
            checked<const float>(weights[l], "float32", {widths.back(), out}, op, "weights"));
        b.push_back(checked<const float>(biases[l], "float32", {out}, op, "biases"));
        widths.push_back(out);
    }
    double* kernels = phi.is_none() ? nullptr : checked<double>(phi, "float64", {cells}, op, "phi");
    Dense<double> rates(static_cast<py::ssize_t>(class_begin.size()) - 1);
    double* out = rates.mutable_data();
    bool finite = false;
    {
        py::gil_scoped_release release;
        const cuda::Call call(device, stream);
        const cuda::DeviceHead head{static_cast<int>(w.size()), widths.data(), w.data(), b.data()};
        finite = cuda::ntk(call, m, r, class_begin.data(), static_cast<int>(class_begin.size()) - 1,
                           head, allow_tf32, out, kernels);
    }
    return py::make_tuple(rates, finite);
}

Dense<int> eigh(const Array& addresses, const std::string& dtype, const Array& sizes, bool own,
                const py::object& values, const py::object& vectors, int device,
                std::uintptr_t stream) {
    const char* op = "eigh_batched";
    const std::int64_t count = addresses.size();
    const auto* pointers = host<std::uint64_t>(addresses, count, op, "addresses");
    const std::int64_t* n = host<std::int64_t>(sizes, count, op, "sizes");
    require(dtype == "float32" || dtype == "float64", op, "matrices must be float32 or float64");
    std::int64_t numbers = 0, cells = 0;
    std::vector<const void*> matrices;
    for (std::int64_t i = 0; i < count; ++i) {
        require(n[i] > 0 && n[i] < 32768, op, "a matrix must have from 1 to 32767 rows");
        require(i == 0 || n[i] >= n[i - 1], op, "sizes must ascend");
        numbers += n[i];
        cells += n[i] * n[i];
        matrices.push_back(reinterpret_cast<const void*>(pointers[i]));
    }
    double* w = checked<double>(values, "float64", {numbers}, op, "values");
    double* v =
        vectors.is_none() ? nullptr : checked<double>(vectors, "float64", {cells}, op, "vectors");
    Dense<int> flags(count);
    int* out = flags.mutable_data();
    py::gil_scoped_release release;
    const cuda::Call call(device, stream);
    cuda::eigh_batched(call, matrices.data(), dtype_of(dtype, op), n, count, own, w, v, out);
    return flags;
}

py::tuple found(const cuda::Findings& f) {
    return py::make_tuple(f.non_finite, f.first_non_finite, f.outside, f.first_outside);
}

py::tuple evolved(const py::object& initial, const py::object& labels, const Array& rates, double t,
                  const py::object& out, int device, std::uintptr_t stream) {
    const char* op = "evolve_logits";
    const FeatureMatrix p = features(initial, op);
    const auto* y = checked<const std::int32_t>(labels, "int32", {p.n}, op, "labels");
    const double* rate = host<double>(rates, p.d, op, "rates");
    double* e = checked<double>(out, "float64", {p.n, p.d}, op, "evolved");
    cuda::Findings f;
    {
        py::gil_scoped_release release;
        const cuda::Call call(device, stream);
        f = cuda::evolve_logits(call, p, y, rate, t, e);
    }
    return found(f);
}

py::tuple score(bool logits, bool only_label, const py::object& initial, const py::object& labels,
                const Array& rates, const Array& t, int device, std::uintptr_t stream) {
    const char* op = logits ? "evolved_score_logits" : "evolved_score_distribution";
    const FeatureMatrix p = features(initial, op);
    require(p.n > 0, op, "no rows");
    require(p.d <= 0x7fffffff && rates.size() <= 0x7fffffff, op, "too many classes");
    require(!only_label || p.d == 1, op, "the label's numbers must be one column");
    const auto* y = checked<const std::int32_t>(labels, "int32", {p.n}, op, "labels");
    const std::int64_t classes = only_label ? rates.size() : p.d;
    const double* rate = host<double>(rates, classes, op, "rates");
    const double* time = host<double>(t, t.size(), op, "times");
    const int times = static_cast<int>(t.size());
    Dense<double> out(times);
    double* s = out.mutable_data();
    cuda::Findings f;
    {
        py::gil_scoped_release release;
        const cuda::Call call(device, stream);
        f = logits ? cuda::evolved_score_logits(call, p, y, rate, time, times, s)
                   : cuda::evolved_score_distribution(call, p, only_label, y, rate,
                                                      static_cast<int>(classes), time, times, s);
    }
    return py::make_tuple(out, found(f));
}

// Class numbers on the device, and which problem it is.
cuda::SvmRows svm_rows(int form, int hinge, float cost, const py::object& labels, int classes,
                       const char* op) {
    const Memory m = memory_of(labels);
    require(m.shape.size() == 1 && classes > 0, op, "labels must have 1 dimension");
    const auto* y = checked<const std::int32_t>(labels, "int32", {m.shape[0]}, op, "labels");
    return cuda::SvmRows{row_problem(form, hinge, cost), m.shape[0], classes, y};
}

// (x, convert, centre, scale).
cuda::SvmMatrix svm_matrix(const py::tuple& given, const char* op) {
    cuda::SvmMatrix m{};
    m.x = features(given[0], op);
    m.convert = given[1].cast<bool>();
    const std::int64_t d = m.x.d;
    require(m.convert || m.x.n == 0 ||
                (m.x.dtype == DType::float32 && m.x.row_bytes == d * std::int64_t{4}),
            op, "rows that are not converted must be float32 and C-contiguous");
    const auto optional = [&](const py::object& o, const char* name) {
        return o.is_none() ? nullptr : checked<const double>(o, "float64", {d}, op, name);
    };
    m.centre = optional(given[2], "centre");
    m.scale = optional(given[3], "scale");
    require(!m.convert || (m.centre != nullptr && m.scale != nullptr), op, "no map to convert by");
    return m;
}

// groups: 0 for no pairs. Returns the totals (3), half squares (3), samples with curvature, pairs
// (groups, classes) or None, fans (classes, classes) or None, which cs has beside pairs.
py::tuple svm_look(int form, int hinge, float cost, const py::object& labels, int classes,
                   const py::tuple& matrix, const py::object& f, const py::object& a, float rho,
                   const py::object& v, const py::object& next, const py::object& mask,
                   const py::object& weight, const py::object& curved, const py::object& gradient,
                   int groups, int device, std::uintptr_t stream) {
    const char* op = "svm_look";
    const cuda::SvmRows rows = svm_rows(form, hinge, cost, labels, classes, op);
    const cuda::SvmMatrix m = svm_matrix(matrix, op);
    const std::int64_t n = rows.n, length = m.x.d + 1;
    require(m.x.n == n, op, "features and labels of different numbers of samples");
    require(groups == 0 || groups == 1 || groups == classes, op, "groups must be 0, 1 or classes");
    const auto* decision = checked<const float>(f, "float32", {n, classes}, op, "f");
    const auto* from = checked<const float>(a, "float32", {n, classes}, op, "a");
    const auto* at = checked<const double>(v, "float64", {classes, length}, op, "v");
    auto* to = checked<float>(next, "float32", {n, classes}, op, "next");
    auto* free = checked<std::uint8_t>(mask, "uint8", {n, classes}, op, "mask");
    auto* w = checked<float>(weight, "float32", {n}, op, "weight");
    auto* names = checked<std::int64_t>(curved, "int64", {n}, op, "curved");
    auto* left = checked<float>(gradient, "float32", {classes, length}, op, "gradient");
    const bool fan = groups > 0 && rows.problem.form == SvmForm::crammer_singer;
    const Dense<std::int64_t> pairs({groups, classes});
    const Dense<double> fans({fan ? classes : 0, classes});
    auto* p = groups > 0 ? const_cast<std::int64_t*>(pairs.data()) : nullptr;
    auto* q = fan ? const_cast<double*>(fans.data()) : nullptr;
    cuda::SvmLook found;
    {
        py::gil_scoped_release release;
        const cuda::Call call(device, stream);
        found = cuda::svm_look(call, rows, m, decision, from, rho, at, to, free, w, names, left,
                               groups, p, q);
    }
    const auto given = [](bool there, const py::object& o) {
        return there ? o : py::object(py::none());
    };
    return py::make_tuple(
        py::make_tuple(found.totals.loss, found.totals.linear, found.totals.quadratic),
        py::make_tuple(found.size, found.dual_size, found.inner), found.curved,
        given(groups > 0, pairs), given(fan, fans));
}

// out (n, K) = x wide^T, or out (K, d) = g^T x if `columns`; false where no kernel suits, and
// nothing is done. Does not wait for the stream.
bool narrow_product(bool columns, const py::object& x, const py::object& factor,
                    const py::object& out, int device, std::uintptr_t stream) {
    const char* op = "narrow_product";
    const FeatureMatrix m = features(x, op);
    const Memory f = memory_of(factor);
    require(f.shape.size() == 2, op, "the factor must have 2 dimensions");
    const std::int64_t classes = f.shape[columns ? 1 : 0];
    const auto* small = columns ? checked<const float>(factor, "float32", {m.n, classes}, op, "g")
                                : checked<const float>(factor, "float32", {classes, m.d}, op, "w");
    auto* to = columns ? checked<float>(out, "float32", {classes, m.d}, op, "out")
                       : checked<float>(out, "float32", {m.n, classes}, op, "out");
    const bool aligned = reinterpret_cast<std::uintptr_t>(small) % 16 == 0;
    if (!cuda::narrow_suits(m, classes) || !(columns || aligned)) return false;
    py::gil_scoped_release release;
    const cuda::Call call(device, stream);
    const auto product = columns ? cuda::narrow_columns : cuda::narrow_rows;
    product(call, m, small, static_cast<int>(classes), to);
    return true;
}

// out of float32 or float64. Does not wait for the stream.
void gather_mapped(const py::object& x, const py::object& rows, const py::object& centre,
                   const py::object& scale, const py::object& out, int device,
                   std::uintptr_t stream) {
    const char* op = "gather_mapped";
    const FeatureMatrix m = features(x, op);
    const Memory of_out = memory_of(out);
    const std::int64_t n = of_out.shape.at(0);
    const auto* r =
        rows.is_none() ? nullptr : checked<const std::int64_t>(rows, "int64", {n}, op, "rows");
    require(r != nullptr || n <= m.n, op, "more rows than there are");
    const auto* c = checked<const double>(centre, "float64", {m.d}, op, "centre");
    const auto* s = checked<const double>(scale, "float64", {m.d}, op, "scale");
    const bool wide = of_out.dtype == "float64";
    auto* to = wide ? nullptr : checked<float>(out, "float32", {n, m.d}, op, "out");
    auto* wide_to = wide ? checked<double>(out, "float64", {n, m.d}, op, "out") : nullptr;
    py::gil_scoped_release release;
    const cuda::Call call(device, stream);
    if (wide) {
        cuda::gather_mapped(call, m, r, n, c, s, wide_to);
    } else {
        cuda::gather_mapped(call, m, r, n, c, s, to);
    }
}

// Does not wait for the stream.
void column_moments(const py::object& x, const py::object& mean, const py::object& variance,
                    int device, std::uintptr_t stream) {
    const char* op = "column_moments";
    const FeatureMatrix m = features(x, op);
    require(m.n > 0, op, "no rows");
    auto* first = checked<double>(mean, "float64", {m.d}, op, "mean");
    auto* second = checked<double>(variance, "float64", {m.d}, op, "variance");
    py::gil_scoped_release release;
    const cuda::Call call(device, stream);
    cuda::column_moments(call, m, first, second);
}

// matrix: all rows; system: (matrix of the rows that are curved, their numbers or None, mask,
// weight, rho); precondition: None or (basis, inside, turn, mixed), of which only basis is
// on the device; search: (ratio, most, check_every). Returns the steps of the conjugate gradients.
// Does not wait for the move.
int svm_newton(int form, int hinge, float cost, const py::object& labels, int classes,
               const py::tuple& matrix, const py::tuple& system, const py::object& precondition,
               const py::tuple& search, const py::object& gradient, const py::object& a,
               const py::object& v, const py::object& f, const py::object& direction,
               const py::object& values, int device, std::uintptr_t stream) {
    const char* op = "svm_newton";
    const cuda::SvmRows rows = svm_rows(form, hinge, cost, labels, classes, op);
    const cuda::SvmMatrix all = svm_matrix(matrix, op);
    const std::int64_t n = rows.n, length = all.x.d + 1;
    require(n > 0 && all.x.n == n, op, "features and labels of different numbers of samples");
    cuda::SvmSystem s{};
    s.matrix = svm_matrix(system[0].cast<py::tuple>(), op);
    require(s.matrix.x.d == all.x.d, op, "curved rows of another width");
    const py::object given = system[1];
    s.rows = given.is_none()
                 ? nullptr
                 : checked<const std::int64_t>(given, "int64", {s.matrix.x.n}, op, "rows");
    require(s.rows != nullptr || s.matrix.x.n == n, op, "rows that nothing names");
    s.mask = checked<const std::uint8_t>(system[2], "uint8", {n, classes}, op, "mask");
    s.weight = checked<const float>(system[3], "float32", {n}, op, "weight");
    s.rho = system[4].cast<float>();
    cuda::SvmPreconditioner p{};
    if (!precondition.is_none()) {
        const py::tuple parts = precondition.cast<py::tuple>();
        const std::int64_t rank = memory_of(parts[0]).shape.at(1);
        p.rank = static_cast<int>(rank);
        p.basis = checked<const float>(parts[0], "float32", {length, rank}, op, "basis");
        const std::int64_t square = std::int64_t{classes} * classes;
        const py::object turn = parts[2];
        p.inside = host<float>(parts[1].cast<Array>(), classes * rank, op, "inside");
        p.turn = turn.is_none() ? nullptr : host<float>(turn.cast<Array>(), square, op, "turn");
        p.mixed = host<float>(parts[3].cast<Array>(), square, op, "mixed");
    }
    const cuda::SvmSearch limits{search[0].cast<float>(), search[1].cast<int>(),
                                 search[2].cast<int>()};
    require(limits.most >= 0 && limits.check_every > 0, op, "no steps");
    const auto* from = checked<const float>(gradient, "float32", {classes, length}, op, "gradient");
    const auto* multipliers = checked<const float>(a, "float32", {n, classes}, op, "a");
    auto* at = checked<double>(v, "float64", {classes, length}, op, "v");
    auto* decision = checked<float>(f, "float32", {n, classes}, op, "f");
    auto* to = checked<float>(direction, "float32", {classes, length}, op, "direction");
    auto* along = checked<float>(values, "float32", {n, classes}, op, "values");
    int taken = 0;
    {
        py::gil_scoped_release release;
        const cuda::Call call(device, stream);
        taken = cuda::svm_newton(call, rows, all, s, p, limits, from, multipliers, at, decision, to,
                                 along);
    }
    return taken;
}

void translate(std::exception_ptr pointer) {
    try {
        if (pointer) std::rethrow_exception(pointer);
    } catch (const cuda::Error& error) {
        if (error.out_of_memory) {
            PyErr_SetString(PyExc_MemoryError, error.what());
            return;
        }
        const py::object kind = py::module_::import("lead_fast.errors").attr("DeviceError");
        PyErr_SetString(kind.ptr(), error.what());
    }
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.doc() = "The CUDA core of lead_fast; use it through the package.";
    py::register_local_exception_translator(&translate);
    m.def("build_info", &build_info);
    m.def("device_count", &cuda::device_count);
    m.def("current_device", &cuda::current_device);
    m.def("device_info", &device_info);
    m.def("forked_after_use", &cuda::forked_after_use);
    m.def("release", &cuda::release, py::call_guard<py::gil_scoped_release>());
    m.def("usage", [] {
        const cuda::Usage u = cuda::usage();
        py::dict out;
        out["handles_made"] = u.handles_made;
        out["handles_idle"] = u.handles_idle;
        out["reserved"] = u.reserved;
        out["used"] = u.used;
        return out;
    });
    m.def("head_weights", &head_weights);
    m.def("ntk", &ntk);
    m.def("eigh_batched", &eigh);
    m.def("evolve_logits", &evolved);
    m.def("evolved_score", &score);
    m.def("svm_look", &svm_look);
    m.def("svm_newton", &svm_newton);
    m.def("narrow_product", &narrow_product);
    m.def("gather_mapped", &gather_mapped);
    m.def("column_moments", &column_moments);
    cuda::bind_metrics(m);
    bind_uploader<cuda::Uploader>(m, "Uploader");
}
