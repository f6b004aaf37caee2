// Products with the mapped rows, which are converted by blocks where they are not float32.
#pragma once

#include "svm.h"

namespace lead_fast {
namespace cuda {

class SvmProducts {
  public:
    // The matrix must outlive this.
    SvmProducts(const Call& call, const SvmMatrix& matrix, int classes, bool allow_tf32);

    std::int64_t block() const { return block_; }  // rows at a time
    // Numbers between rows of decision values: the classes, or more where products are faster with
    // a multiple of four; the others are 0.
    std::int64_t stride() const { return stride_; }
    const Blas& blas() const { return blas_; }
    // The map of the factor; null where there is none, or the rows are mapped themselves.
    const double* centre() const { return matrix_.convert ? nullptr : matrix_.centre; }
    const double* scale() const { return matrix_.convert ? nullptr : matrix_.scale; }

    // The rows from `first` on, of which `count` are wanted; good until the next call.
    const float* rows(std::int64_t first, std::int64_t count) const;
    // values (count, stride) = rows wide^T, wide (stride, d) with 0 behind the classes.
    void forward(const float* rows, std::int64_t count, const float* wide, float* values) const;
    // product (stride, d) = g^T rows, added to what is there if `add`; g (count, stride).
    void backward(const float* rows, std::int64_t count, const float* g, bool add,
                  float* product) const;

  private:
    const Call& call_;
    const SvmMatrix& matrix_;
    const Blas blas_;
    const std::int64_t classes_;
    const bool narrow_, allow_tf32_;  // narrow: by our own kernels, all rows at once
    const std::int64_t block_, stride_;
    const Buffer<float> converted_;
};

// wide (classes, d) = p scale, and shift (classes), the numbers that make wide x + shift the
// decision values of a row: p's bias - <wide, centre>. p (classes, d + 1) is d = s + (rs / before)
// d, with the quotient of one of a class, or of their sums if these are coupled; or s, if before is
// null. rs, before (classes) on the device.
struct SvmAim {
    int classes;
    bool coupled;
    const float* s;
    const double* rs;
    const double* before;
    const double* centre;
    const double* scale;
    float* d;
    float* wide;
    float* shift;
};
void svm_aim(const Call& call, std::int64_t length, const SvmAim& aim);

}  // namespace cuda
}  // namespace lead_fast
