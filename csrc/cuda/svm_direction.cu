// Newton's direction of the SVM by preconditioned conjugate gradients, for all classes at once, as
// lead_fast/svm_arrays/newton.py has it. A step is two products with the rows, three with the
// preconditioner, and seven or eight kernels; the step lengths stay on the device, and the host
// looks at the residual only now and then.

#include <algorithm>
#include <vector>

#include "svm_products.h"
#include "svm_rows.h"
#include "svm_vectors.cuh"

namespace lead_fast {
namespace cuda {
namespace {

// r = -gradient, p = 0, rr = |r|^2.
__global__ void __launch_bounds__(kVectorThreads)
    start_kernel(std::int64_t length, const float* __restrict__ gradient, float* __restrict__ r,
                 float* __restrict__ p, double* __restrict__ rr) {
    __shared__ double slots[kVectorThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        const float value = -gradient[base + j];
        r[base + j] = value;
        p[base + j] = 0.0f;
        sum += static_cast<double>(value) * value;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rr[blockIdx.x] = sum;
}

// rs = <r, s>.
__global__ void __launch_bounds__(kVectorThreads)
    dot_kernel(std::int64_t length, const float* __restrict__ r, const float* __restrict__ s,
               double* __restrict__ rs) {
    __shared__ double slots[kVectorThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        sum += static_cast<double>(r[base + j]) * s[base + j];
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rs[blockIdx.x] = sum;
}

// hd = d - g^T Z and dhd = <d, hd>.
__global__ void __launch_bounds__(kVectorThreads)
    apply_kernel(std::int64_t length, const float* __restrict__ d,
                 const float* __restrict__ product, const double* __restrict__ total,
                 const double* __restrict__ centre, const double* __restrict__ scale,
                 float* __restrict__ hd, double* __restrict__ dhd) {
    __shared__ double slots[kVectorThreads / 32];
    const std::int64_t k = blockIdx.x, base = k * length, width = length - 1;
    const double bias = total[k];
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        const double moved =
            j < width ? mapped_part(product[k * width + j], bias, centre, scale, j) : bias;
        const float value = d[base + j] - static_cast<float>(moved);
        hd[base + j] = value;
        sum += static_cast<double>(d[base + j]) * value;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) dhd[k] = sum;
}

// p += alpha d, r -= alpha hd with alpha = rs / dhd, and rr = |r|^2.
__global__ void __launch_bounds__(kVectorThreads)
    step_kernel(std::int64_t length, int classes, bool coupled, const double* __restrict__ rs,
                const double* __restrict__ dhd, const float* __restrict__ d,
                const float* __restrict__ hd, float* __restrict__ p, float* __restrict__ r,
                double* __restrict__ rr) {
    __shared__ double slots[kVectorThreads / 32];
    const std::int64_t base = blockIdx.x * length;
    const float alpha = quotient(sum_for(rs, classes, coupled), sum_for(dhd, classes, coupled));
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < length; j += kVectorThreads) {
        p[base + j] += alpha * d[base + j];
        const float left = r[base + j] - alpha * hd[base + j];
        r[base + j] = left;
        sum += static_cast<double>(left) * left;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rr[blockIdx.x] = sum;
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

class Newton {
  public:
    Newton(const Call& call, const SvmRows& rows, const SvmSystem& system,
           const SvmPreconditioner& precondition)
        : call_(call),
          rows_(rows),
          system_(system),
          precondition_(precondition),
          products_(call, system.matrix, rows.classes, true),
          classes_(rows.classes),
          length_(system.matrix.x.d + 1),
          values_(call, products_.block() * products_.stride()),
          wide_(call, products_.stride() * system.matrix.x.d),
          shift_(call, classes_),
          product_(call, products_.stride() * system.matrix.x.d),
          seen_(call, 2 * classes_ * std::max(1, precondition.rank)),
          factors_(call,
                   precondition.rank == 0 ? 0 : classes_ * (precondition.rank + 2 * classes_)),
          total_(call, classes_) {
        if (products_.stride() != classes_) wide_.zero();  // behind the classes it stays so
        if (precondition.rank == 0) return;
        // In one transfer, as a transfer takes long.
        std::vector<float> all(precondition.inside,
                               precondition.inside + classes_ * precondition.rank);
        const std::int64_t square = classes_ * classes_;
        all.insert(all.end(), precondition.mixed, precondition.mixed + square);
        if (precondition.turn != nullptr) {
            all.insert(all.end(), precondition.turn, precondition.turn + square);
        }
        factors_.upload(all.data(), static_cast<std::int64_t>(all.size()));
        inside_ = factors_.data();
        mixed_ = inside_ + classes_ * precondition.rank;
        turn_ = precondition.turn == nullptr ? nullptr : mixed_ + square;
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
        const Blas& blas = products_.blas();
        float* const in = seen_.data();
        float* const out = in + classes_ * rank;
        blas.multiply(classes_, rank, length_, {r, length_}, {precondition_.basis, rank}, 0.0f, in,
                      rank, false);
        inside_kernel<<<grid(rank), 128, 2 * sizeof(float) * static_cast<std::size_t>(classes_),
                        call_.stream()>>>(static_cast<int>(classes_), static_cast<int>(rank),
                                          inside_, turn_, in, out);
        LEAD_FAST_LAUNCHED(inside_kernel, call_.stream());
        blas.multiply(classes_, length_, rank, {out, rank}, {precondition_.basis, rank, true}, 0.0f,
                      s, length_, false);
        blas.multiply(classes_, length_, classes_, {mixed_, classes_}, {r, length_}, 1.0f, s,
                      length_, false);
    }

    // product_ = g^T X and total_ = g^T 1 for g = curvature of (X wide^T + shift).
    void curve() const {
        const std::int64_t n = system_.matrix.x.n;
        for (std::int64_t first = 0; first < n; first += products_.block()) {
            const std::int64_t count = std::min(products_.block(), n - first);
            const float* const data = products_.rows(first, count);
            products_.forward(data, count, wide_.data(), values_.data());
            curve_rows(call_, rows_, first, count, products_.stride(), system_.rows, shift_.data(),
                       system_.mask, system_.weight, system_.rho, values_.data());
            products_.backward(data, count, values_.data(), first > 0, product_.data());
            column_sums(call_, values_.data(), count, rows_.classes, products_.stride(), first > 0,
                        total_.data());
        }
    }

    int solve(const SvmSearch& search, const float* gradient, float* p) const {
        const cudaStream_t stream = call_.stream();
        const std::int64_t cells = classes_ * length_;
        const int classes = static_cast<int>(classes_);
        const bool coupled = rows_.coupled();
        const Buffer<float> r(call_, cells), s(call_, cells), d(call_, cells), hd(call_, cells);
        // |r|^2 at the start and now, read together, so that the start need not be waited for.
        const Buffer<double> rr(call_, 2 * classes_), dhd(call_, classes_);
        const Buffer<double> dots(call_, 2 * classes_);
        double* rs = dots.data();
        double* before = rs + classes_;
        start_kernel<<<grid(classes_), kVectorThreads, 0, stream>>>(length_, gradient, r.data(), p,
                                                                    rr.data());
        LEAD_FAST_LAUNCHED(start_kernel, stream);
        if (search.most == 0) {
            LEAD_FAST_CHECK(cudaMemcpyAsync(p, r.data(),
                                            static_cast<std::size_t>(cells) * sizeof(float),
                                            cudaMemcpyDeviceToDevice, stream));
            return 0;
        }
        precondition(r.data(), s.data());
        dot_kernel<<<grid(classes_), kVectorThreads, 0, stream>>>(length_, r.data(), s.data(), rs);
        LEAD_FAST_LAUNCHED(dot_kernel, stream);
        const double share = static_cast<double>(search.ratio) * search.ratio;
        for (int step = 1;; ++step) {
            svm_aim(call_, length_,
                    {classes, coupled, s.data(), rs, step == 1 ? nullptr : before,
                     products_.centre(), products_.scale(), d.data(), wide_.data(), shift_.data()});
            curve();
            apply_kernel<<<grid(classes_), kVectorThreads, 0, stream>>>(
                length_, d.data(), product_.data(), total_.data(), products_.centre(),
                products_.scale(), hd.data(), dhd.data());
            LEAD_FAST_LAUNCHED(apply_kernel, stream);
            step_kernel<<<grid(classes_), kVectorThreads, 0, stream>>>(
                length_, classes, coupled, rs, dhd.data(), d.data(), hd.data(), p, r.data(),
                rr.data() + classes_);
            LEAD_FAST_LAUNCHED(step_kernel, stream);
            if (step >= search.most || (step % search.check_every == 0 && solved(rr, share))) {
                return step;
            }
            precondition(r.data(), s.data());
            std::swap(rs, before);
            dot_kernel<<<grid(classes_), kVectorThreads, 0, stream>>>(length_, r.data(), s.data(),
                                                                      rs);
            LEAD_FAST_LAUNCHED(dot_kernel, stream);
        }
    }

  private:
    // Whether the residual has come down to its share; also where it is not a number any more.
    bool solved(const Buffer<double>& rr, double share) const {
        std::vector<double> found(static_cast<std::size_t>(2 * classes_));
        rr.download(found.data(), 2 * classes_);
        call_.synchronize();
        double start = 0.0, now = 0.0;
        for (std::int64_t k = 0; k < classes_; ++k) {
            start += found[static_cast<std::size_t>(k)];
            now += found[static_cast<std::size_t>(classes_ + k)];
        }
        return !(now > share * start);
    }

    const Call& call_;
    const SvmRows& rows_;
    const SvmSystem& system_;
    const SvmPreconditioner& precondition_;
    const SvmProducts products_;
    const std::int64_t classes_, length_;
    const Buffer<float> values_, wide_, shift_, product_, seen_, factors_;
    const Buffer<double> total_;
    const float *inside_ = nullptr, *mixed_ = nullptr, *turn_ = nullptr;  // parts of factors_
};

}  // namespace

int svm_direction(const Call& call, const SvmRows& rows, const SvmSystem& system,
                  const SvmPreconditioner& precondition, const SvmSearch& search,
                  const float* gradient, float* direction) {
    return Newton(call, rows, system, precondition).solve(search, gradient, direction);
}

}  // namespace cuda
}  // namespace lead_fast
