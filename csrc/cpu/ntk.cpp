// The pseudo neural tangent kernel: forward, backward, and the contraction.
//
// Rows are cut into groups of a size that depends on their number only; each thread takes whole
// groups through all layers with single-threaded products, so the result is the same for any number
// of threads, and the scratch memory is that of one group per thread.

#include "../ntk.h"

#include <omp.h>

#include <algorithm>
#include <vector>

#include "aligned.h"
#include "blas.h"
#include "dispatch.h"

namespace lead_fast {
namespace {

// Rows of a group: many, to amortise the packing of the weights in each product, but so few that a
// thread's activations stay small beside features of that width.
std::int64_t group_limit(std::int64_t d) { return std::clamp<std::int64_t>(d / 10, 64, 320); }

// Groups of one size for n rows, a multiple of four of them, so that a few threads are evenly busy.
std::int64_t even_group(std::int64_t n, std::int64_t d) {
    const std::int64_t groups = (n + group_limit(d) - 1) / group_limit(d);
    if (n < 256) return std::min(n, group_limit(d));
    const std::int64_t even = (groups + 3) / 4 * 4;
    return (n + even - 1) / even;
}

// sum_k of the last layer's weights: what s_L = ones(K) becomes one layer below.
std::vector<float> output_signal(const HeadView& head) {
    const std::int64_t in = head.widths[head.layers - 1], out = head.widths[head.layers];
    std::vector<float> signal(in);
    const float* w = head.weights[head.layers - 1];
    for (std::int64_t i = 0; i < in; ++i) {
        double total = 0.0;
        for (std::int64_t k = 0; k < out; ++k) total += w[i * out + k];
        signal[i] = static_cast<float>(total);
    }
    return signal;
}

// A group of rows on its way through the layers: the activations of all layers, and the signals of
// two neighbouring ones, which take turns in two buffers.
class Group {
  public:
    // If keep_input is false, a_0 gives its place to the signals: backward's last visit has none.
    Group(const HeadView& head, const std::vector<float>& output_signal, std::int64_t capacity,
          bool keep_input)
        : head_(head), output_signal_(output_signal) {
        const int last = head.layers - 1;
        std::int64_t widest = 0;
        for (int l = 1; l <= last; ++l) widest = std::max(widest, head.widths[l]);
        for (int l = 0; l <= last; ++l) {
            const bool shared = l > 0 ? l == last : !keep_input;
            const std::int64_t width = shared ? std::max(widest, head.widths[l]) : head.widths[l];
            activation_.emplace_back(static_cast<std::size_t>(capacity * width));
        }
        if (keep_input && last > 1)
            spare_ = AlignedBuffer<float>(static_cast<std::size_t>(capacity * widest));
        turn_[0] = activation_[last].data();
        turn_[1] = keep_input ? spare_.data() : activation_[0].data();
    }

    void forward(const FeatureMatrix& x, const std::int64_t* rows, std::int64_t count) {
        count_ = count;
        const std::int64_t d = head_.widths[0];
        for (std::int64_t r = 0; r < count; ++r) {
            kernels().widen_row(x.dtype, x.row(rows[r]), d, activation_[0].data() + r * d);
        }
        for (int l = 1; l < head_.layers; ++l) {  // the outputs themselves are not needed
            const std::int64_t in = head_.widths[l - 1], out = head_.widths[l];
            float* a = activation_[l].data();
            matmul(activation_[l - 1].data(), head_.weights[l - 1], false, static_cast<int>(count),
                   static_cast<int>(out), static_cast<int>(in), a);
            for (std::int64_t r = 0; r < count; ++r) {
                kernels().relu(a + r * out, head_.biases[l - 1], out);
            }
        }
    }

    const float* input() const { return activation_[0].data(); }

    // Calls visit(l, a, s) for the layers from the last to the first: a = a_{l-1} (count,
    // widths[l-1]) and s = s_l (count, widths[l]), or null for s_L, which is all ones.
    template <class Visit>
    void backward(Visit visit) {
        const int last = head_.layers;
        visit(last, static_cast<const float*>(activation_[last - 1].data()),
              static_cast<const float*>(nullptr));
        const float* above = nullptr;
        for (int l = last - 1; l >= 1; --l) {
            const std::int64_t width = head_.widths[l];
            float* s = turn_[(last - 1 - l) % 2];
            if (l < last - 1) {
                matmul(above, head_.weights[l], true, static_cast<int>(count_),
                       static_cast<int>(width), static_cast<int>(head_.widths[l + 1]), s);
            }
            for (std::int64_t r = 0; r < count_; ++r) {
                float* line = s + r * width;
                kernels().mask(line, l == last - 1 ? output_signal_.data() : line,
                               activation_[l].data() + r * width, width);
            }
            visit(l, static_cast<const float*>(activation_[l - 1].data()),
                  static_cast<const float*>(s));
            above = s;
        }
    }

  private:
    const HeadView& head_;
    const std::vector<float>& output_signal_;
    std::vector<AlignedBuffer<float>> activation_;
    AlignedBuffer<float> spare_;
    float* turn_[2];
    std::int64_t count_ = 0;
};

std::vector<Group> make_groups(const HeadView& head, const std::vector<float>& signal,
                               std::int64_t capacity, bool keep_input, int threads) {
    std::vector<Group> groups;  // made before the threads start: nothing may throw among them
    groups.reserve(threads);
    for (int t = 0; t < threads; ++t) groups.emplace_back(head, signal, capacity, keep_input);
    return groups;
}

}  // namespace

void ntk_diagonal(const FeatureMatrix& x, const std::int64_t* rows, std::int64_t n_rows,
                  const HeadView& head, int threads, double* diagonal) {
    const std::int64_t size = even_group(n_rows, head.widths[0]);
    const std::int64_t count = size > 0 ? (n_rows + size - 1) / size : 0;
    const int team = static_cast<int>(std::clamp<std::int64_t>(count, 1, threads));
    const std::vector<float> signal = output_signal(head);
    std::vector<Group> groups = make_groups(head, signal, size, false, team);
    std::vector<std::vector<double>> norms(team, std::vector<double>(size));
    const double outputs = static_cast<double>(head.widths[head.layers]);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::int64_t g = 0; g < count; ++g) {
        Group& group = groups[omp_get_thread_num()];
        const std::int64_t first = g * size, rows_here = std::min(size, n_rows - first);
        double* out = diagonal + first;
        std::fill_n(out, rows_here, 0.0);
        group.forward(x, rows + first, rows_here);
        std::vector<double>& input_norm = norms[omp_get_thread_num()];
        const std::int64_t d = head.widths[0];
        for (std::int64_t r = 0; r < rows_here; ++r) {
            input_norm[r] = kernels().f32.square_norm(group.input() + r * d, d);
        }
        group.backward([&](int l, const float* a, const float* s) {
            const std::int64_t in = head.widths[l - 1], width = head.widths[l];
            for (std::int64_t r = 0; r < rows_here; ++r) {
                const double activity =
                    l == 1 ? input_norm[r] : kernels().f32.square_norm(a + r * in, in);
                out[r] +=
                    (activity + 1.0) *
                    (s == nullptr ? outputs : kernels().f32.square_norm(s + r * width, width));
            }
        });
    }
}

void ntk_kernels(const FeatureMatrix& x, const std::int64_t* rows, const std::int64_t* class_begin,
                 int classes, const HeadView& head, int threads, double* const* phi) {
    // Groups of whole classes; at least one class each.
    const std::int64_t limit = group_limit(head.widths[0]);
    std::vector<int> group_begin = {0};
    std::int64_t largest_group = 0, largest_class = 0;
    for (int c = 0; c < classes; ++c) {
        largest_class = std::max(largest_class, class_begin[c + 1] - class_begin[c]);
        const int start = group_begin.back();
        if (c > start && class_begin[c + 1] - class_begin[start] > limit) group_begin.push_back(c);
        largest_group =
            std::max(largest_group, class_begin[c + 1] - class_begin[group_begin.back()]);
    }
    group_begin.push_back(classes);
    const int count = static_cast<int>(group_begin.size()) - 1;
    const int team = std::clamp(count, 1, threads);
    const std::vector<float> signal = output_signal(head);
    std::vector<Group> groups = make_groups(head, signal, largest_group, true, team);
    std::vector<AlignedBuffer<float>> products;
    const std::size_t cells = static_cast<std::size_t>(largest_class * largest_class);
    for (int t = 0; t < team; ++t) products.emplace_back(2 * cells);
    const double outputs = static_cast<double>(head.widths[head.layers]);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (int g = 0; g < count; ++g) {
        const int me = omp_get_thread_num();
        Group& group = groups[me];
        float* a_gram = products[me].data();
        float* s_gram = a_gram + cells;
        const std::int64_t first = class_begin[group_begin[g]];
        const int last_class = group_begin[g + 1];
        for (int c = group_begin[g]; c < last_class; ++c) {
            const std::int64_t m = class_begin[c + 1] - class_begin[c];
            std::fill_n(phi[c], m * m, 0.0);
        }
        group.forward(x, rows + first, class_begin[last_class] - first);
        group.backward([&](int l, const float* a, const float* s) {
            const std::int64_t in = head.widths[l - 1], width = head.widths[l];
            for (int c = group_begin[g]; c < last_class; ++c) {
                const std::int64_t at = class_begin[c] - first;
                const std::int64_t m = class_begin[c + 1] - class_begin[c];
                if (m == 0) continue;
                gram(a + at * in, static_cast<int>(m), static_cast<int>(in), a_gram);
                if (s != nullptr) {
                    gram(s + at * width, static_cast<int>(m), static_cast<int>(width), s_gram);
                }
                double* const kernel = phi[c];
                for (std::int64_t i = 0; i < m * m; ++i) {
                    kernel[i] += (static_cast<double>(a_gram[i]) + 1.0) *
                                 (s == nullptr ? outputs : static_cast<double>(s_gram[i]));
                }
            }
        });
    }
}

}  // namespace lead_fast
