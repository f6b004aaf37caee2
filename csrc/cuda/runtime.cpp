#include "runtime.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace lead_fast {
namespace cuda {
namespace {

// Bytes that a pool keeps when nothing uses them: what the kernels of ten classes of 64 need, so
// that calls in a row do not go to the driver.
constexpr std::uint64_t kKept = 128u << 20;
constexpr int kIdleHandles = 4;  // per device and kind

struct PerDevice {
    bool ready = false;
    DeviceFacts facts{};
    cudaMemPool_t pool = nullptr;
    std::vector<cublasHandle_t> blas;
    std::vector<cusolverDnHandle_t> solver;
};

struct Process {
    std::mutex lock;
    bool used = false;
    int handles_made = 0;
    std::vector<PerDevice> devices;
};

// Replaced, not cleaned up, in a forked child: the handles in it are the parent's.
Process* process = new Process;
bool lost = false;

void after_fork() {
    lost = lost || process->used;
    process = new Process;
}

// Registered when the module is loaded; calls nothing of CUDA.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork);

bool synchronous() {
    static const bool on = [] {
        const char* value = std::getenv("LEAD_FAST_CUDA_SYNC");
        return value != nullptr && value[0] != '\0' && std::string(value) != "0";
    }();
    return on;
}

std::string place(const char* call, const char* file, int line) {
    const std::string path(file);
    const std::size_t slash = path.rfind('/');
    return std::string(call) + " (" + path.substr(slash == std::string::npos ? 0 : slash + 1) +
           ":" + std::to_string(line) + ")";
}

void refuse_if_lost() {
    if (lost) {
        throw Error("CUDA was used before this process was forked; start it with 'spawn'", false);
    }
}

void count_devices(int* count) {
    const cudaError_t status = cudaGetDeviceCount(count);
    if (status == cudaErrorInsufficientDriver) {
        cudaGetLastError();
        throw Error("no NVIDIA driver, or one too old for CUDA " LEAD_FAST_CUDA_VERSION, false);
    }
    if (status == cudaErrorNoDevice) {
        cudaGetLastError();
        throw Error("no CUDA GPU", false);
    }
    LEAD_FAST_CHECK(status);
}

PerDevice& prepare(int device) {
    Process& p = *process;  // the caller holds the lock
    if (p.devices.empty()) {
        int count = 0;
        count_devices(&count);
        p.used = true;
        p.devices.resize(static_cast<std::size_t>(count));
    }
    if (device < 0 || device >= static_cast<int>(p.devices.size())) {
        throw Error("no CUDA device number " + std::to_string(device) + "; there are " +
                        std::to_string(p.devices.size()),
                    false);
    }
    PerDevice& d = p.devices[static_cast<std::size_t>(device)];
    if (d.ready) return d;
    const auto ask = [device](cudaDeviceAttr attribute) {
        int value = 0;
        LEAD_FAST_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
        return value;
    };
    d.facts.processors = ask(cudaDevAttrMultiProcessorCount);
    d.facts.block_memory = static_cast<std::size_t>(ask(cudaDevAttrMaxSharedMemoryPerBlockOptin));
    d.facts.major = ask(cudaDevAttrComputeCapabilityMajor);
    d.facts.minor = ask(cudaDevAttrComputeCapabilityMinor);
    if (d.facts.major < 8) {
        throw Error("CUDA device " + std::to_string(device) + " has compute capability " +
                        std::to_string(d.facts.major) + "." + std::to_string(d.facts.minor) +
                        "; 8.0 or newer is needed",
                    false);
    }
    if (d.pool == nullptr) {
        cudaMemPoolProps properties{};
        properties.allocType = cudaMemAllocationTypePinned;
        properties.location.type = cudaMemLocationTypeDevice;
        properties.location.id = device;
        LEAD_FAST_CHECK(cudaMemPoolCreate(&d.pool, &properties));
        std::uint64_t kept = kKept;
        LEAD_FAST_CHECK(cudaMemPoolSetAttribute(d.pool, cudaMemPoolAttrReleaseThreshold, &kept));
    }
    d.ready = true;
    return d;
}

// Takes an idle handle of `list`, or makes one.
template <class Handle, class Make>
Handle borrow(int device, std::vector<Handle> PerDevice::* list, Make make) {
    {
        const std::lock_guard<std::mutex> hold(process->lock);
        std::vector<Handle>& idle = prepare(device).*list;
        if (!idle.empty()) {
            const Handle handle = idle.back();
            idle.pop_back();
            return handle;
        }
        ++process->handles_made;
    }
    return make();
}

template <class Handle, class Destroy>
void give_back(int device, std::vector<Handle> PerDevice::* list, Handle handle, Destroy destroy) {
    {
        const std::lock_guard<std::mutex> hold(process->lock);
        std::vector<Handle>& idle = process->devices[static_cast<std::size_t>(device)].*list;
        if (idle.size() < kIdleHandles) {
            idle.push_back(handle);
            return;
        }
    }
    destroy(handle);
}

// 32 MiB is what cuBLAS asks for on Hopper and newer, 4 MiB before.
std::size_t blas_workspace(const DeviceFacts& facts) {
    return static_cast<std::size_t>(facts.major >= 9 ? 32 : 4) << 20;
}

}  // namespace

void fail(cudaError_t status, const char* call, const char* file, int line) {
    cudaGetLastError();  // so that the next launch does not report this one
    std::string text = std::string("CUDA: ") + cudaGetErrorString(status);
    if (status == cudaErrorInitializationError) {
        text +=
            "; if another library used CUDA before this process was forked, start it with "
            "'spawn'";
    } else if (status == cudaErrorNoKernelImageForDevice ||
               status == cudaErrorUnsupportedPtxVersion) {
        text += "; built for " LEAD_FAST_CUDA_ARCHITECTURES;
    }
    throw Error(text + ", in " + place(call, file, line), status == cudaErrorMemoryAllocation);
}

void fail(cublasStatus_t status, const char* call, const char* file, int line) {
    throw Error(
        std::string("cuBLAS: ") + cublasGetStatusString(status) + ", in " + place(call, file, line),
        status == CUBLAS_STATUS_ALLOC_FAILED);
}

void fail(cusolverStatus_t status, const char* call, const char* file, int line) {
    throw Error("cuSOLVER: status " + std::to_string(static_cast<int>(status)) + ", in " +
                    place(call, file, line),
                status == CUSOLVER_STATUS_ALLOC_FAILED);
}

void check_launch(cudaStream_t stream, const char* kernel, const char* file, int line) {
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) fail(status, kernel, file, line);
    if (synchronous()) {
        const cudaError_t ran = cudaStreamSynchronize(stream);
        if (ran != cudaSuccess) fail(ran, kernel, file, line);
    }
}

bool forked_after_use() { return lost; }

int device_count() {
    refuse_if_lost();
    int count = 0;
    count_devices(&count);
    const std::lock_guard<std::mutex> hold(process->lock);
    process->used = true;  // the driver is initialised, which a child cannot undo
    return count;
}

int current_device() {
    device_count();  // refuses a forked child
    int device = 0;
    LEAD_FAST_CHECK(cudaGetDevice(&device));
    return device;
}

Call::Call(int device, std::uintptr_t stream)
    : device_(device), previous_(-1), stream_(reinterpret_cast<cudaStream_t>(stream)) {
    refuse_if_lost();
    {
        const std::lock_guard<std::mutex> hold(process->lock);
        facts_ = &prepare(device).facts;
    }
    LEAD_FAST_CHECK(cudaGetDevice(&previous_));
    if (previous_ != device) LEAD_FAST_CHECK(cudaSetDevice(device));
}

Call::~Call() {
    if (previous_ >= 0 && previous_ != device_) cudaSetDevice(previous_);
}

void Call::synchronize() const { LEAD_FAST_CHECK(cudaStreamSynchronize(stream_)); }

Scratch::Scratch(const Call& call, std::size_t bytes)
    : data_(nullptr), bytes_(bytes), stream_(call.stream()) {
    if (bytes == 0) return;
    cudaMemPool_t pool;
    {
        const std::lock_guard<std::mutex> hold(process->lock);
        pool = prepare(call.device()).pool;
    }
    LEAD_FAST_CHECK(cudaMallocFromPoolAsync(&data_, bytes, pool, stream_));
}

Scratch::~Scratch() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
}

void Scratch::zero() const {
    if (data_ != nullptr) LEAD_FAST_CHECK(cudaMemsetAsync(data_, 0, bytes_, stream_));
}

Blas::Blas(const Call& call)
    : device_(call.device()), workspace_(call, blas_workspace(call.facts())) {
    handle_ = borrow(device_, &PerDevice::blas, [] {
        cublasHandle_t handle;
        LEAD_FAST_CHECK(cublasCreate(&handle));
        return handle;
    });
    try {
        LEAD_FAST_CHECK(cublasSetStream(handle_, call.stream()));
        LEAD_FAST_CHECK(cublasSetWorkspace(handle_, workspace_.data(), workspace_.bytes()));
        LEAD_FAST_CHECK(cublasSetPointerMode(handle_, CUBLAS_POINTER_MODE_HOST));
        LEAD_FAST_CHECK(cublasSetMathMode(handle_, CUBLAS_DEFAULT_MATH));
    } catch (...) {
        cublasDestroy(handle_);
        throw;
    }
}

Blas::~Blas() {
    // The next borrower brings its own stream and workspace.
    give_back(device_, &PerDevice::blas, handle_, [](cublasHandle_t h) { cublasDestroy(h); });
}

namespace {

// Row-major c = a b is column-major c' = b' a'.
template <class T>
void product(cublasHandle_t handle, std::int64_t m, std::int64_t n, std::int64_t k,
             const FactorOf<T>& a, const FactorOf<T>& b, T beta, T* c, std::int64_t across_c,
             cudaDataType type, cublasComputeType_t compute) {
    if (m == 0 || n == 0 || (k == 0 && beta == T(1))) return;
    if (std::max({m, n, k, a.across, b.across, across_c}) > 0x7fffffff) {
        throw Error("a matrix product has a side past 2^31", false);
    }
    const T one = T(1);
    LEAD_FAST_CHECK(cublasGemmEx(
        handle, b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
        static_cast<int>(n), static_cast<int>(m), static_cast<int>(k), &one, b.data, type,
        static_cast<int>(b.across), a.data, type, static_cast<int>(a.across), &beta, c, type,
        static_cast<int>(across_c), compute, CUBLAS_GEMM_DEFAULT));
}

}  // namespace

void Blas::multiply(std::int64_t m, std::int64_t n, std::int64_t k, const Factor& a,
                    const Factor& b, float beta, float* c, std::int64_t across_c,
                    bool allow_tf32) const {
    product(handle_, m, n, k, a, b, beta, c, across_c, CUDA_R_32F,
            allow_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
}

void Blas::multiply(std::int64_t m, std::int64_t n, std::int64_t k, const FactorOf<double>& a,
                    const FactorOf<double>& b, double beta, double* c,
                    std::int64_t across_c) const {
    product(handle_, m, n, k, a, b, beta, c, across_c, CUDA_R_64F, CUBLAS_COMPUTE_64F);
}

Solver::Solver(const Call& call) : device_(call.device()) {
    handle_ = borrow(device_, &PerDevice::solver, [] {
        cusolverDnHandle_t handle;
        LEAD_FAST_CHECK(cusolverDnCreate(&handle));
        return handle;
    });
    try {
        LEAD_FAST_CHECK(cusolverDnSetStream(handle_, call.stream()));
    } catch (...) {
        cusolverDnDestroy(handle_);
        throw;
    }
}

Solver::~Solver() {
    give_back(device_, &PerDevice::solver, handle_,
              [](cusolverDnHandle_t h) { cusolverDnDestroy(h); });
}

void release() {
    if (lost) return;
    std::vector<PerDevice> devices;
    {
        const std::lock_guard<std::mutex> hold(process->lock);
        for (PerDevice& d : process->devices) {
            PerDevice idle;
            idle.blas.swap(d.blas);
            idle.solver.swap(d.solver);
            idle.pool = d.pool;
            devices.push_back(std::move(idle));
        }
    }
    int previous = -1;
    if (!devices.empty()) LEAD_FAST_CHECK(cudaGetDevice(&previous));
    for (std::size_t i = 0; i < devices.size(); ++i) {
        PerDevice& d = devices[i];
        if (d.pool == nullptr) continue;
        LEAD_FAST_CHECK(cudaSetDevice(static_cast<int>(i)));
        for (cublasHandle_t handle : d.blas) cublasDestroy(handle);
        for (cusolverDnHandle_t handle : d.solver) cusolverDnDestroy(handle);
        LEAD_FAST_CHECK(cudaMemPoolTrimTo(d.pool, 0));
    }
    if (previous >= 0) LEAD_FAST_CHECK(cudaSetDevice(previous));
}

Usage usage() {
    Usage found{};
    const std::lock_guard<std::mutex> hold(process->lock);
    found.handles_made = process->handles_made;
    for (PerDevice& d : process->devices) {
        found.handles_idle += static_cast<int>(d.blas.size() + d.solver.size());
        if (d.pool == nullptr) continue;
        std::uint64_t bytes = 0;
        LEAD_FAST_CHECK(cudaMemPoolGetAttribute(d.pool, cudaMemPoolAttrReservedMemCurrent, &bytes));
        found.reserved += bytes;
        LEAD_FAST_CHECK(cudaMemPoolGetAttribute(d.pool, cudaMemPoolAttrUsedMemCurrent, &bytes));
        found.used += bytes;
    }
    return found;
}

}  // namespace cuda
}  // namespace lead_fast
