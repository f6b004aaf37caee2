// Newton's direction of the SVM by preconditioned conjugate gradients, for all classes at once, as
// lead_fast/svm_arrays/newton.py has it. A step is two products with the rows, three with the
// preconditioner, and six kernels; the step lengths stay on the device, and the host looks at the
// residual only now and then.

#include <algorithm>
#include <vector>

#include "load.cuh"
#include "reduce.cuh"
#include "svm.h"
#include "svm_narrow.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 128;
constexpr std::int64_t kBlockBytes = std::int64_t{64} << 20;  // of converted rows at a time

unsigned grid(std::int64_t blocks) { return static_cast<unsigned>(blocks); }

// The sums that step lengths are made of: per class, or over all classes where these are coupled.
__device__ double sum_for(const double* __restrict__ per_class, int classes, int k, bool coupled) {
    if (!coupled) return per_class[k];
    double sum = 0.0;
    for (int c = 0; c < classes; ++c) sum += per_class[c];
    return sum;
}

__device__ float quotient(double a, double b) { return b > 0.0 ? static_cast<float>(a / b) : 0.0f; }

// In all kernels below a block is a class and its threads go along a vector of length d + 1, whose
// last number belongs to the bias.

// r = -gradient, p = 0, rr = |r|^2.
__global__ void start_kernel(std::int64_t length, const float* __restrict__ gradient,
                             float* __restrict__ r, float* __restrict__ p,
                             double* __restrict__ rr) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kThreads) {
        const float value = -gradient[base + j];
        r[base + j] = value;
        p[base + j] = 0.0f;
        sum += static_cast<double>(value) * value;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rr[blockIdx.x] = sum;
}

// rs = <r, s>.
__global__ void dot_kernel(std::int64_t length, const float* __restrict__ r,
                           const float* __restrict__ s, double* __restrict__ rs) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kThreads) {
        sum += static_cast<double>(r[base + j]) * s[base + j];
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rs[blockIdx.x] = sum;
}

// d = s + (rs / before) d, or s where before is null; wide = d scale, and shift the number that
// makes wide x + shift the decision value of a row: d's bias - <wide, centre>.
__global__ void aim_kernel(std::int64_t length, int classes, bool coupled,
                           const float* __restrict__ s, const double* __restrict__ rs,
                           const double* __restrict__ before, const double* __restrict__ centre,
                           const double* __restrict__ scale, float* __restrict__ d,
                           float* __restrict__ wide, float* __restrict__ shift) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t base = blockIdx.x * length, width = length - 1;
    const int k = static_cast<int>(blockIdx.x);
    float beta = 0.0f;
    if (before != nullptr) {
        beta = quotient(sum_for(rs, classes, k, coupled), sum_for(before, classes, k, coupled));
    }
    double centred = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kThreads) {
        float value = s[base + j];
        if (before != nullptr) value += beta * d[base + j];
        d[base + j] = value;
        if (j < width) {
            const double mapped = scale == nullptr ? value : value * scale[j];
            wide[k * width + j] = static_cast<float>(mapped);
            if (centre != nullptr) centred += mapped * centre[j];
        }
    }
    centred = block_sum(centred, slots);
    __syncthreads();  // d's last number was written by another thread
    if (threadIdx.x == 0) {
        shift[k] = static_cast<float>(static_cast<double>(d[base + width]) - centred);
    }
}

// values = curvature of values + shift, in place. Thread i of the rows from `first` on.
__global__ void curve_kernel(RowProblem problem, std::int64_t first, std::int64_t n, int classes,
                             const std::int32_t* __restrict__ labels,
                             const std::int64_t* __restrict__ rows, const float* __restrict__ shift,
                             const std::uint8_t* __restrict__ mask,
                             const float* __restrict__ weight, float rho, float* values) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
    if (i >= n) return;
    const std::int64_t row = rows == nullptr ? first + i : rows[first + i];
    float* const own = values + i * classes;
    curve_row(problem, classes, labels[row], own, shift, mask + row * classes, weight[row], rho,
              own);
}

__global__ void fill_kernel(std::int64_t n, float value, float* __restrict__ out) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < n) out[i] = value;
}

// hd = d - [(product - total centre) scale, total] and dhd = <d, hd>.
__global__ void apply_kernel(std::int64_t length, const float* __restrict__ d,
                             const float* __restrict__ product, const float* __restrict__ total,
                             const double* __restrict__ centre, const double* __restrict__ scale,
                             float* __restrict__ hd, double* __restrict__ dhd) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t k = blockIdx.x, base = k * length, width = length - 1;
    const double bias = total[k];
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kThreads) {
        double moved = bias;
        if (j < width) {
            moved = product[k * width + j];
            if (centre != nullptr) moved -= bias * centre[j];
            if (scale != nullptr) moved *= scale[j];
        }
        const float value = d[base + j] - static_cast<float>(moved);
        hd[base + j] = value;
        sum += static_cast<double>(d[base + j]) * value;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) dhd[k] = sum;
}

// p += alpha d, r -= alpha hd with alpha = rs / dhd, and rr = |r|^2.
__global__ void step_kernel(std::int64_t length, int classes, bool coupled,
                            const double* __restrict__ rs, const double* __restrict__ dhd,
                            const float* __restrict__ d, const float* __restrict__ hd,
                            float* __restrict__ p, float* __restrict__ r, double* __restrict__ rr) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    const int k = static_cast<int>(blockIdx.x);
    const float alpha =
        quotient(sum_for(rs, classes, k, coupled), sum_for(dhd, classes, k, coupled));
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kThreads) {
        p[base + j] += alpha * d[base + j];
        const float left = r[base + j] - alpha * hd[base + j];
        r[base + j] = left;
        sum += static_cast<double>(left) * left;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rr[k] = sum;
}

// out[:, c] = turn (inside[:, c] * (turn^T in[:, c])), or inside * in without turn. Block c;
// shared memory for two columns.
__global__ void inside_kernel(int classes, int rank, const float* __restrict__ inside,
                              const float* __restrict__ turn, const float* __restrict__ in,
                              float* __restrict__ out) {
    extern __shared__ float columns[];
    float* const given = columns;
    float* const turned = columns + classes;
    const int c = static_cast<int>(blockIdx.x);
    if (turn == nullptr) {
        for (int k = threadIdx.x; k < classes; k += blockDim.x) {
            out[k * rank + c] = inside[k * rank + c] * in[k * rank + c];
        }
        return;
    }
    for (int k = threadIdx.x; k < classes; k += blockDim.x) given[k] = in[k * rank + c];
    __syncthreads();
    for (int k = threadIdx.x; k < classes; k += blockDim.x) {
        float sum = 0.0f;
        for (int l = 0; l < classes; ++l) sum += turn[l * classes + k] * given[l];
        turned[k] = sum * inside[k * rank + c];
    }
    __syncthreads();
    for (int k = threadIdx.x; k < classes; k += blockDim.x) {
        float sum = 0.0f;
        for (int l = 0; l < classes; ++l) sum += turn[k * classes + l] * turned[l];
        out[k * rank + c] = sum;
    }
}

// Row-major c (m, n) = a (m, k) b (k, n) + beta c; a is read transposed, from (k, m), or b, from
// (n, k). float32 throughout.
void product(const Blas& blas, const float* a, bool transpose_a, const float* b, bool transpose_b,
             std::int64_t m, std::int64_t n, std::int64_t k, float beta, float* c) {
    if (m == 0 || n == 0 || (k == 0 && beta == 1.0f)) return;
    if (std::max({m, n, k}) > 0x7fffffff) {
        throw Error("svm: a matrix product has a side past 2^31", false);
    }
    const float one = 1.0f;
    LEAD_FAST_CHECK(cublasGemmEx(blas.get(), transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                 transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, static_cast<int>(n),
                                 static_cast<int>(m), static_cast<int>(k), &one, b, CUDA_R_32F,
                                 static_cast<int>(transpose_b ? k : n), a, CUDA_R_32F,
                                 static_cast<int>(transpose_a ? m : k), &beta, c, CUDA_R_32F,
                                 static_cast<int>(n), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

class Newton {
  public:
    Newton(const Call& call, const SvmRows& rows, const SvmSystem& system,
           const SvmPreconditioner& precondition)
        : call_(call),
          rows_(rows),
          system_(system),
          precondition_(precondition),
          blas_(call),
          classes_(rows.classes),
          length_(system.x.d + 1),
          narrow_(!system.convert && narrow_suits(system.x, rows.classes)),
          block_(system.convert ? std::min(system.x.n, std::max<std::int64_t>(
                                                           64, kBlockBytes / (4 * system.x.d)))
                                : system.x.n),
          converted_(call, system.convert ? block_ * system.x.d : 0),
          values_(call, block_ * classes_),
          ones_(call, block_),
          wide_(call, classes_ * system.x.d),
          shift_(call, classes_),
          product_(call, classes_ * system.x.d),
          total_(call, classes_),
          seen_(call, 2 * classes_ * std::max(1, precondition.rank)),
          map_(call, system.convert ? 2 * system.x.d : 0) {
        fill_kernel<<<grid((block_ + kThreads - 1) / kThreads), kThreads, 0, call.stream()>>>(
            block_, 1.0f, ones_.data());
        LEAD_FAST_LAUNCHED(fill_kernel, call.stream());
        if (system.convert) narrow_map();
    }

    // s = M^-1 r.
    void precondition(const float* r, float* s) const {
        const std::int64_t rank = precondition_.rank;
        if (rank == 0) {
            LEAD_FAST_CHECK(
                cudaMemcpyAsync(s, r, static_cast<std::size_t>(classes_ * length_) * sizeof(float),
                                cudaMemcpyDeviceToDevice, call_.stream()));
            return;
        }
        float* const in = seen_.data();
        float* const out = in + classes_ * rank;
        product(blas_, r, false, precondition_.basis, false, classes_, rank, length_, 0.0f, in);
        inside_kernel<<<grid(rank), 128, 2 * sizeof(float) * static_cast<std::size_t>(classes_),
                        call_.stream()>>>(static_cast<int>(classes_), static_cast<int>(rank),
                                          precondition_.inside, precondition_.turn, in, out);
        LEAD_FAST_LAUNCHED(inside_kernel, call_.stream());
        product(blas_, out, false, precondition_.basis, true, classes_, length_, rank, 0.0f, s);
        product(blas_, precondition_.mixed, false, r, false, classes_, length_, classes_, 1.0f, s);
    }

    // product_ = g^T X and total_ = g^T 1 for g = curvature of (X wide^T + shift).
    void curve() const {
        const FeatureMatrix& x = system_.x;
        const cudaStream_t stream = call_.stream();
        for (std::int64_t first = 0; first < x.n; first += block_) {
            const std::int64_t count = std::min(block_, x.n - first);
            const float beta = first == 0 ? 0.0f : 1.0f;
            const float* data = static_cast<const float*>(x.data);
            if (system_.convert) {
                FeatureMatrix part = x;
                part.data = x.row(first);
                gather_mapped(call_, part, nullptr, count, map_.data(), map_.data() + x.d,
                              converted_.data());
                data = converted_.data();
            }
            if (narrow_) {
                narrow_rows(call_, x, wide_.data(), rows_.classes, values_.data());
            } else {
                product(blas_, data, false, wide_.data(), true, count, classes_, x.d, 0.0f,
                        values_.data());
            }
            curve_kernel<<<grid((count + kRowThreads - 1) / kRowThreads), kRowThreads, 0, stream>>>(
                rows_.problem, first, count, static_cast<int>(classes_), rows_.labels, system_.rows,
                shift_.data(), system_.mask, system_.weight, system_.rho, values_.data());
            LEAD_FAST_LAUNCHED(curve_kernel, stream);
            if (narrow_) {
                narrow_columns(call_, x, values_.data(), rows_.classes, product_.data());
            } else {
                product(blas_, values_.data(), true, data, false, classes_, x.d, count, beta,
                        product_.data());
            }
            product(blas_, ones_.data(), false, values_.data(), false, 1, classes_, count, beta,
                    total_.data());
        }
    }

    int solve(const SvmSearch& search, const float* gradient, float* p) const {
        const cudaStream_t stream = call_.stream();
        const std::int64_t cells = classes_ * length_;
        const int classes = static_cast<int>(classes_);
        const bool coupled = system_.coupled;
        const double* const centre = system_.convert ? nullptr : system_.centre;
        const double* const scale = system_.convert ? nullptr : system_.scale;
        const Buffer<float> r(call_, cells), s(call_, cells), d(call_, cells), hd(call_, cells);
        const Buffer<double> rr(call_, classes_), dhd(call_, classes_), dots(call_, 2 * classes_);
        double* rs = dots.data();
        double* before = rs + classes_;
        start_kernel<<<grid(classes_), kThreads, 0, stream>>>(length_, gradient, r.data(), p,
                                                              rr.data());
        LEAD_FAST_LAUNCHED(start_kernel, stream);
        precondition(r.data(), s.data());
        dot_kernel<<<grid(classes_), kThreads, 0, stream>>>(length_, r.data(), s.data(), rs);
        LEAD_FAST_LAUNCHED(dot_kernel, stream);
        const double goal = static_cast<double>(search.ratio) * search.ratio * residual(rr);
        for (int step = 1;; ++step) {
            aim_kernel<<<grid(classes_), kThreads, 0, stream>>>(
                length_, classes, coupled, s.data(), rs, step == 1 ? nullptr : before, centre,
                scale, d.data(), wide_.data(), shift_.data());
            LEAD_FAST_LAUNCHED(aim_kernel, stream);
            curve();
            apply_kernel<<<grid(classes_), kThreads, 0, stream>>>(
                length_, d.data(), product_.data(), total_.data(), centre, scale, hd.data(),
                dhd.data());
            LEAD_FAST_LAUNCHED(apply_kernel, stream);
            step_kernel<<<grid(classes_), kThreads, 0, stream>>>(length_, classes, coupled, rs,
                                                                 dhd.data(), d.data(), hd.data(), p,
                                                                 r.data(), rr.data());
            LEAD_FAST_LAUNCHED(step_kernel, stream);
            // Also where the residual is not a number any more.
            if (step >= search.most || (step % search.check_every == 0 && !(residual(rr) > goal))) {
                call_.synchronize();
                return step;
            }
            precondition(r.data(), s.data());
            std::swap(rs, before);
            dot_kernel<<<grid(classes_), kThreads, 0, stream>>>(length_, r.data(), s.data(), rs);
            LEAD_FAST_LAUNCHED(dot_kernel, stream);
        }
    }

  private:
    // The map in float32, for rows that are converted.
    void narrow_map() const {
        const std::int64_t d = system_.x.d;
        std::vector<double> wide(static_cast<std::size_t>(2 * d));
        LEAD_FAST_CHECK(cudaMemcpyAsync(wide.data(), system_.centre,
                                        static_cast<std::size_t>(d) * sizeof(double),
                                        cudaMemcpyDeviceToHost, call_.stream()));
        LEAD_FAST_CHECK(cudaMemcpyAsync(wide.data() + d, system_.scale,
                                        static_cast<std::size_t>(d) * sizeof(double),
                                        cudaMemcpyDeviceToHost, call_.stream()));
        call_.synchronize();
        const std::vector<float> narrow(wide.begin(), wide.end());
        map_.upload(narrow.data(), 2 * d);
    }

    double residual(const Buffer<double>& rr) const {
        std::vector<double> found(static_cast<std::size_t>(classes_));
        rr.download(found.data(), classes_);
        call_.synchronize();
        double sum = 0.0;
        for (const double x : found) sum += x;
        return sum;
    }

    const Call& call_;
    const SvmRows& rows_;
    const SvmSystem& system_;
    const SvmPreconditioner& precondition_;
    const Blas blas_;
    const std::int64_t classes_, length_;
    const bool narrow_;  // the rows are multiplied by our own kernels, all at once
    const std::int64_t block_;
    const Buffer<float> converted_, values_, ones_, wide_, shift_, product_, total_, seen_, map_;
};

}  // namespace

int svm_direction(const Call& call, const SvmRows& rows, const SvmSystem& system,
                  const SvmPreconditioner& precondition, const SvmSearch& search,
                  const float* gradient, float* direction) {
    return Newton(call, rows, system, precondition).solve(search, gradient, direction);
}

}  // namespace cuda
}  // namespace lead_fast
