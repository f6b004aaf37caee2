// Plain loops in place of cuBLAS and cuSOLVER, with the checks of arguments that those make.

#include <cusolverDn.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

// The ten bits of a fraction that TF32 keeps.
float rounded(double given, bool tf32) {
    float x = static_cast<float>(given);
    if (!tf32 || !std::isfinite(x)) return x;
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    bits = (bits + 0x0fffu + ((bits >> 13) & 1u)) & ~0x1fffu;
    std::memcpy(&x, &bits, 4);
    return x;
}

// Column-major c = alpha op(a) op(b) + beta c, c not read where beta is 0.
template <class T>
bool multiply(cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m, std::int64_t n,
              std::int64_t k, T alpha, const T* a, std::int64_t lda, const T* b, std::int64_t ldb,
              T beta, T* c, std::int64_t ldc, bool tf32) {
    if (m < 0 || n < 0 || k < 0 || lda < std::max<std::int64_t>(1, op_a == CUBLAS_OP_N ? m : k) ||
        ldb < std::max<std::int64_t>(1, op_b == CUBLAS_OP_N ? k : n) ||
        ldc < std::max<std::int64_t>(1, m)) {
        return false;
    }
    std::vector<T> left(static_cast<std::size_t>(m * k)), column(static_cast<std::size_t>(m));
    const auto keep = [&](std::int64_t i, std::int64_t l, T value) {
        left[l * m + i] = sizeof(T) == 8 ? value : static_cast<T>(rounded(value, tf32));
    };
    if (op_a == CUBLAS_OP_N) {
        for (std::int64_t l = 0; l < k; ++l) {
            for (std::int64_t i = 0; i < m; ++i) keep(i, l, a[l * lda + i]);
        }
    } else {
        for (std::int64_t i = 0; i < m; ++i) {
            for (std::int64_t l = 0; l < k; ++l) keep(i, l, a[i * lda + l]);
        }
    }
    for (std::int64_t j = 0; j < n; ++j) {
        std::fill(column.begin(), column.end(), T(0));
        for (std::int64_t l = 0; l < k; ++l) {
            T value = op_b == CUBLAS_OP_N ? b[j * ldb + l] : b[l * ldb + j];
            if (sizeof(T) == 4) value = static_cast<T>(rounded(value, tf32));
            const T* const from = left.data() + l * m;
            for (std::int64_t i = 0; i < m; ++i) column[i] += from[i] * value;
        }
        for (std::int64_t i = 0; i < m; ++i) {
            T& cell = c[j * ldc + i];
            cell = beta == T(0) ? alpha * column[i] : alpha * column[i] + beta * cell;
        }
    }
    return true;
}

// Jacobi's rotations of the symmetric a (n, n), its lower triangle given, column-major; `a` becomes
// the eigenvectors, as columns in the order of the ascending values.
bool eigen(std::int64_t n, double* a, double* values, bool vectors) {
    std::vector<double> s(a, a + n * n), v(static_cast<std::size_t>(n * n), 0.0);
    for (std::int64_t j = 0; j < n; ++j) {
        v[j * n + j] = 1.0;
        for (std::int64_t i = 0; i < j; ++i) s[j * n + i] = s[i * n + j];
    }
    double largest = 0.0;
    for (const double cell : s) largest = std::max(largest, std::fabs(cell));
    bool settled = false;
    for (int sweep = 0; sweep < 40 && !settled; ++sweep) {
        settled = true;
        for (std::int64_t p = 0; p < n; ++p) {
            for (std::int64_t q = p + 1; q < n; ++q) {
                const double off = s[q * n + p], x = s[p * n + p], y = s[q * n + q];
                if (std::fabs(off) <= 1e-17 * largest) continue;
                settled = settled && std::fabs(off) <= 4e-16 * largest;
                const double tau = (y - x) / (2.0 * off);
                const double t = (tau < 0.0 ? -1.0 : 1.0) / (std::fabs(tau) + std::hypot(1.0, tau));
                const double cosine = 1.0 / std::hypot(1.0, t), sine = t * cosine;
                const auto turn = [&](double& one, double& other) {
                    const double old = one;
                    one = cosine * old - sine * other;
                    other = sine * old + cosine * other;
                };
                for (std::int64_t i = 0; i < n; ++i) turn(s[p * n + i], s[q * n + i]);
                for (std::int64_t i = 0; i < n; ++i) turn(s[i * n + p], s[i * n + q]);
                for (std::int64_t i = 0; i < n; ++i) turn(v[p * n + i], v[q * n + i]);
            }
        }
    }
    std::vector<std::int64_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](std::int64_t i, std::int64_t j) { return s[i * n + i] < s[j * n + j]; });
    for (std::int64_t i = 0; i < n; ++i) {
        values[i] = s[order[i] * n + order[i]];
        if (vectors) std::copy_n(v.data() + order[i] * n, n, a + i * n);
    }
    return settled;
}

}  // namespace

struct cublasContext {
    void* workspace = nullptr;
};
struct cusolverDnContext {};
struct cusolverDnParams {};

const char* cublasGetStatusString(cublasStatus_t) { return "refused"; }
cublasStatus_t cublasGetProperty(libraryPropertyType type, int* value) {
    *value = type == MAJOR_VERSION ? 13 : 0;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasCreate(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, std::size_t) {
    handle->workspace = workspace;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode(cublasHandle_t, cublasPointerMode_t) {
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                            int m, int n, int k, const void* alpha, const void* a,
                            cudaDataType type_a, int lda, const void* b, cudaDataType type_b,
                            int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    const bool wide = compute == CUBLAS_COMPUTE_64F;
    const cudaDataType type = wide ? CUDA_R_64F : CUDA_R_32F;
    if (type_a != type || type_b != type || type_c != type) return CUBLAS_STATUS_INVALID_VALUE;
    *static_cast<volatile char*>(handle->workspace) = 0;  // it must be there still
    const auto of = [&](auto zero, bool tf32) {
        using T = decltype(zero);
        return multiply(op_a, op_b, m, n, k, *static_cast<const T*>(alpha),
                        static_cast<const T*>(a), lda, static_cast<const T*>(b), ldb,
                        *static_cast<const T*>(beta), static_cast<T*>(c), ldc, tf32);
    };
    const bool done = wide ? of(0.0, false) : of(0.0f, compute == CUBLAS_COMPUTE_32F_FAST_TF32);
    return done ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a,
                                         cublasOperation_t op_b, int m, int n, int k,
                                         const double* alpha, const double* a, int lda,
                                         long long stride_a, const double* b, int ldb,
                                         long long stride_b, const double* beta, double* c, int ldc,
                                         long long stride_c, int batch) {
    *static_cast<volatile char*>(handle->workspace) = 0;
    for (int i = 0; i < batch; ++i) {
        if (!multiply(op_a, op_b, m, n, k, *alpha, a + i * stride_a, lda, b + i * stride_b, ldb,
                      *beta, c + i * stride_c, ldc, false)) {
            return CUBLAS_STATUS_INVALID_VALUE;
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

cusolverStatus_t cusolverGetProperty(libraryPropertyType type, int* value) {
    *value = type == MAJOR_VERSION ? 12 : 0;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
    *handle = new cusolverDnContext;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t, cudaStream_t) {
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
    *params = new cusolverDnParams;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
    delete params;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t, cusolverDnParams_t,
                                                   cusolverEigMode_t, cublasFillMode_t,
                                                   std::int64_t n, cudaDataType, const void*,
                                                   std::int64_t, cudaDataType, const void*,
                                                   cudaDataType, std::size_t* device,
                                                   std::size_t* host, std::int64_t) {
    *device = static_cast<std::size_t>(8 * n);
    *host = 16;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t, cusolverDnParams_t,
                                        cusolverEigMode_t mode, cublasFillMode_t, std::int64_t n,
                                        cudaDataType type_a, void* a, std::int64_t lda,
                                        cudaDataType type_w, void* w, cudaDataType, void* device,
                                        std::size_t device_bytes, void* host,
                                        std::size_t host_bytes, int* info, std::int64_t batch) {
    if (type_a != CUDA_R_64F || type_w != CUDA_R_64F || lda != n || n < 1 ||
        device_bytes < static_cast<std::size_t>(8 * n) || host_bytes < 16) {
        return CUSOLVER_STATUS_INVALID_VALUE;
    }
    std::memset(device, 1, static_cast<std::size_t>(8 * n));
    std::memset(host, 1, 16);
    for (std::int64_t i = 0; i < batch; ++i) {
        info[i] = eigen(n, static_cast<double*>(a) + i * n * n, static_cast<double*>(w) + i * n,
                        mode == CUSOLVER_EIG_MODE_VECTOR)
                      ? 0
                      : 1;
    }
    return CUSOLVER_STATUS_SUCCESS;
}
