// The pseudo neural tangent kernel: rows of many classes go through the layers together, in groups
// that bound the scratch memory; one elementwise kernel after each product adds the bias, applies
// the ReLU or the mask, and takes the squared norms, of which alone the rates are made. The Gram
// products are in gram.cu.

#include <algorithm>
#include <cmath>
#include <vector>

#include "gram.h"
#include "load.cuh"
#include "ntk.h"
#include "reduce.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kScratchBytes = std::int64_t{512} << 20;  // of a group's activations

// a[r, :] = x[rows[r], :] and norm[r] = |a_r|^2, float64 sum. Block r, threads along the row.
template <class T>
__global__ void gather_kernel(const void* x, std::int64_t row_bytes,
                              const std::int64_t* __restrict__ rows, std::int64_t d,
                              float* __restrict__ a, double* __restrict__ norm) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t r = blockIdx.x;
    const T* const from = row_of<T>(x, row_bytes, rows[r]);
    float* const to = a + r * d;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < d; j += kThreads) {
        const float value = to_float(from[j]);
        to[j] = value;
        sum += static_cast<double>(value) * value;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) norm[r] = sum;
}

// out[i] = sum_k w[i, k], float64 sum: what s_L = ones(K) becomes one layer below. A warp per i.
__global__ void output_signal_kernel(const float* __restrict__ w, std::int64_t in,
                                     std::int64_t classes, float* __restrict__ out) {
    const std::int64_t i =
        static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
    if (i >= in) return;  // whole warps
    double sum = 0.0;
    for (std::int64_t k = threadIdx.x % 32; k < classes; k += 32) sum += w[i * classes + k];
    sum = group_sum(sum);
    if (threadIdx.x % 32 == 0) out[i] = static_cast<float>(sum);
}

// a[r, :] = relu(a[r, :] + bias) in place and norm[r] = |a_r|^2. In the last hidden layer, where
// top (width) is given, also its signal s[r, :] = top where a > 0 and s_norm[r]; s may be null. NaN
// stays NaN. Block r.
__global__ void activate_kernel(float* __restrict__ a, const float* __restrict__ bias,
                                std::int64_t width, double* __restrict__ norm,
                                const float* __restrict__ top, float* __restrict__ s,
                                double* __restrict__ s_norm) {
    __shared__ double slots[2][kThreads / 32];
    const std::int64_t r = blockIdx.x;
    float* const row = a + r * width;
    double sum = 0.0, s_sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < width; j += kThreads) {
        const float z = row[j] + bias[j];
        const float value = z < 0.0f ? 0.0f : z;
        row[j] = value;
        sum += static_cast<double>(value) * value;
        if (top != nullptr) {
            const float signal = value > 0.0f ? top[j] : 0.0f;
            if (s != nullptr) s[r * width + j] = signal;
            s_sum += static_cast<double>(signal) * signal;
        }
    }
    sum = block_sum(sum, slots[0]);
    if (threadIdx.x == 0) norm[r] = sum;
    if (top != nullptr) {
        s_sum = block_sum(s_sum, slots[1]);
        if (threadIdx.x == 0) s_norm[r] = s_sum;
    }
}

// s[r, :] = s[r, :] where a[r, :] > 0, else 0, and norm[r] = |s_r|^2. Stores s only if asked to:
// the rates need nothing but the norm of the lowest layer's. Block r.
__global__ void mask_kernel(float* __restrict__ s, const float* __restrict__ a, std::int64_t width,
                            bool store, double* __restrict__ norm) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t r = blockIdx.x;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x; j < width; j += kThreads) {
        const std::int64_t at = r * width + j;
        const float value = a[at] > 0.0f ? s[at] : 0.0f;
        if (store) s[at] = value;
        sum += static_cast<double>(value) * value;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) norm[r] = sum;
}

// diagonal[r] = sum_l (a_norm[l, r] + 1) s_norm[l, r], with the last layer's s_norm = outputs.
// a_norm (layers, count), s_norm (layers - 1, count). Thread r.
__global__ void diagonal_kernel(const double* __restrict__ a_norm,
                                const double* __restrict__ s_norm, int layers, std::int64_t count,
                                double outputs, double* __restrict__ diagonal) {
    const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (r >= count) return;
    double sum = (a_norm[(layers - 1) * count + r] + 1.0) * outputs;
    for (int l = layers - 2; l >= 0; --l) {
        sum += (a_norm[l * count + r] + 1.0) * s_norm[l * count + r];
    }
    diagonal[r] = sum;
}

// rates[c] = mean of diagonal[begin[c] .. begin[c + 1]). Block c.
__global__ void class_mean_kernel(const double* __restrict__ diagonal,
                                  const std::int64_t* __restrict__ begin,
                                  double* __restrict__ rates) {
    __shared__ double slots[kThreads / 32];
    const std::int64_t first = begin[blockIdx.x], last = begin[blockIdx.x + 1];
    double sum = 0.0;
    for (std::int64_t r = first + threadIdx.x; r < last; r += kThreads) sum += diagonal[r];
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) rates[blockIdx.x] = sum / static_cast<double>(last - first);
}

// The activations a_0 .. a_{L-1} and signals s_1 .. s_{L-1} of a group of rows. Where no kernel is
// wanted, two buffers hold the signals in turn.
class Group {
  public:
    Group(const Call& call, const DeviceHead& head, std::int64_t capacity, bool keep_signals)
        : call_(call),
          head_(head),
          keep_signals_(keep_signals),
          last_(head.layers - 1),
          top_(call, last_ > 0 ? head.widths[last_] : 0),
          a_norm_(call, capacity * head.layers),
          s_norm_(call, capacity * last_) {
        std::int64_t widest = 0;
        for (int l = 1; l <= last_; ++l) widest = std::max(widest, head.widths[l]);
        for (int l = 0; l <= last_; ++l) memory_.emplace_back(call, capacity * head.widths[l]);
        const int signals = keep_signals ? last_ : std::min(last_, 2);
        for (int i = 0; i < signals; ++i) {
            memory_.emplace_back(call, capacity * (keep_signals ? head.widths[i + 1] : widest));
        }
        if (last_ > 0) {
            const std::int64_t in = head.widths[last_];
            output_signal_kernel<<<grid((in + kThreads / 32 - 1) / (kThreads / 32)), kThreads, 0,
                                   call.stream()>>>(head.weights[last_], in,
                                                    head.widths[head.layers], top_.data());
            LEAD_FAST_LAUNCHED(output_signal_kernel, call.stream());
        }
    }

    float* activation(int l) const { return memory_[l].data(); }
    float* signal(int l) const {
        return memory_[1 + last_ + (keep_signals_ ? l - 1 : (last_ - l) % 2)].data();
    }

    // rows (count), on the device.
    void run(const Blas& blas, const FeatureMatrix& x, const std::int64_t* rows, std::int64_t count,
             bool allow_tf32, double* diagonal) const {
        const cudaStream_t stream = call_.stream();
        const auto a_norm = [&](int l) { return a_norm_.data() + l * count; };
        const auto s_norm = [&](int l) { return s_norm_.data() + (l - 1) * count; };
        with_type(x.dtype, [&](auto type) {
            gather_kernel<decltype(type)><<<grid(count), kThreads, 0, stream>>>(
                x.data, x.row_bytes, rows, x.d, activation(0), a_norm(0));
        });
        LEAD_FAST_LAUNCHED(gather_kernel, stream);
        for (int l = 1; l <= last_; ++l) {  // the outputs themselves are not needed
            const std::int64_t width = head_.widths[l];
            const std::int64_t below = head_.widths[l - 1];
            blas.multiply(count, width, below, {activation(l - 1), below},
                          {head_.weights[l - 1], width}, 0.0f, activation(l), width, allow_tf32);
            const bool top = l == last_;
            const bool needed = keep_signals_ || l > 1;
            activate_kernel<<<grid(count), kThreads, 0, stream>>>(
                activation(l), head_.biases[l - 1], width, a_norm(l), top ? top_.data() : nullptr,
                top && needed ? signal(l) : nullptr, top ? s_norm(l) : nullptr);
            LEAD_FAST_LAUNCHED(activate_kernel, stream);
        }
        for (int l = last_ - 1; l >= 1; --l) {
            const std::int64_t width = head_.widths[l];
            const std::int64_t above = head_.widths[l + 1];
            blas.multiply(count, width, above, {signal(l + 1), above},
                          {head_.weights[l], above, true}, 0.0f, signal(l), width, allow_tf32);
            mask_kernel<<<grid(count), kThreads, 0, stream>>>(signal(l), activation(l), width,
                                                              keep_signals_ || l > 1, s_norm(l));
            LEAD_FAST_LAUNCHED(mask_kernel, stream);
        }
        diagonal_kernel<<<grid((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
            a_norm_.data(), s_norm_.data(), head_.layers, count,
            static_cast<double>(head_.widths[head_.layers]), diagonal);
        LEAD_FAST_LAUNCHED(diagonal_kernel, stream);
    }

    // The operands of the Gram products, in the order that gram() takes.
    std::vector<GramOperand> operands() const {
        std::vector<GramOperand> found;
        for (int l = 0; l <= last_; ++l) {
            found.push_back({activation(l), head_.widths[l]});
            if (l < last_) found.push_back({signal(l + 1), head_.widths[l + 1]});
        }
        return found;
    }

  private:
    const Call& call_;
    const DeviceHead& head_;
    const bool keep_signals_;
    const int last_;
    Buffer<float> top_;
    Buffer<double> a_norm_, s_norm_;
    std::vector<Buffer<float>> memory_;
};

// Rows of a group: what fits into the scratch memory.
std::int64_t group_rows(const DeviceHead& head) {
    std::int64_t floats = 0;
    for (int l = 0; l < head.layers; ++l) floats += 2 * head.widths[l];
    return std::max<std::int64_t>(kScratchBytes / (4 * floats), 64);
}

}  // namespace

bool ntk(const Call& call, const FeatureMatrix& x, const std::int64_t* rows,
         const std::int64_t* class_begin, int classes, const DeviceHead& head, bool allow_tf32,
         double* rates, double* phi) {
    const std::int64_t n = class_begin[classes];
    if (classes == 0) return true;
    // Groups: any rows for the rates alone, whole classes for kernels.
    const std::int64_t limit = group_rows(head);
    std::vector<int> group_class = {0};
    std::vector<std::int64_t> group_row = {0};
    if (phi != nullptr) {
        for (int c = 0; c < classes; ++c) {
            if (c > group_class.back() && class_begin[c + 1] - group_row.back() > limit) {
                group_class.push_back(c);
                group_row.push_back(class_begin[c]);
            }
        }
        group_class.push_back(classes);
    } else {
        for (std::int64_t r = limit; r < n; r += limit) group_row.push_back(r);
    }
    group_row.push_back(n);
    std::int64_t largest = 0;
    for (std::size_t g = 0; g + 1 < group_row.size(); ++g) {
        largest = std::max(largest, group_row[g + 1] - group_row[g]);
    }
    if (largest > 0x7fffffff) throw Error("ntk: a class of 2^31 samples or more", false);

    std::vector<std::int64_t> table(rows, rows + n);
    table.insert(table.end(), class_begin, class_begin + classes + 1);
    const Buffer<std::int64_t> device_table(call, n + classes + 1);
    device_table.upload(table.data(), n + classes + 1);
    const Buffer<double> diagonal(call, n), device_rates(call, classes);
    const Buffer<int> device_overflow(call, 1);
    device_overflow.zero();
    // Lent until the stream is at rest, as another thread may borrow it for another stream.
    const Blas blas(call);
    const Group group(call, head, largest, phi != nullptr);
    std::int64_t offset = 0;
    for (std::size_t g = 0; g + 1 < group_row.size(); ++g) {
        const std::int64_t first = group_row[g], count = group_row[g + 1] - first;
        if (count == 0) continue;
        group.run(blas, x, device_table.data() + first, count, allow_tf32, diagonal.data() + first);
        if (phi == nullptr) continue;
        const int from = group_class[g], to = group_class[g + 1];
        gram(call, group.operands(), static_cast<double>(head.widths[head.layers]),
             class_begin + from, to - from, phi + offset, device_overflow.data());
        for (int c = from; c < to; ++c) {
            const std::int64_t m = class_begin[c + 1] - class_begin[c];
            offset += m * m;
        }
    }
    class_mean_kernel<<<grid(classes), kThreads, 0, call.stream()>>>(
        diagonal.data(), device_table.data() + n, device_rates.data());
    LEAD_FAST_LAUNCHED(class_mean_kernel, call.stream());
    int overflow = 0;
    device_rates.download(rates, classes);
    device_overflow.download(&overflow, 1);
    call.synchronize();
    return overflow == 0 &&
           std::all_of(rates, rates + classes, [](double rate) { return std::isfinite(rate); });
}

}  // namespace cuda
}  // namespace lead_fast
