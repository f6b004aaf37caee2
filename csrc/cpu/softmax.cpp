// Softmax regression, a tile of samples at a time: scores, probabilities and gradient while the
// tile is in cache.

#include "../softmax.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mapped_rows.h"

namespace lead_fast {
namespace {

constexpr int kRows = 32;            // of a tile
constexpr int kParts = 16;           // of the samples, each with a gradient of its own
constexpr std::int64_t kFlush = 16;  // tiles whose gradients are added in the products' type

// Turns scores into probabilities less the label's indicator; returns -log p[label] and adds
// sum_k p_k (1 - p_k) to spread.
template <class T>
double residual(T* s, int classes, std::int32_t label, double* p, double* spread) {
    const double top = static_cast<double>(*std::max_element(s, s + classes));
    const double own = static_cast<double>(s[label]) - top;
    double others = 0.0;
    for (int k = 0; k < classes; ++k) {
        p[k] = std::exp(static_cast<double>(s[k]) - top);
        if (k != label) others += p[k];
    }
    const double total = p[label] + others;
    double square = 0.0;
    for (int k = 0; k < classes; ++k) {
        const double probability = p[k] / total;
        square += probability * (1.0 - probability);
        s[k] = static_cast<T>(probability);
    }
    // 1 - p keeps its digits as a sum over the others.
    s[label] = static_cast<T>(-others / total);
    *spread = square;
    return std::log(total) - own;
}

template <class T>
SoftmaxPass pass(const FeatureMatrix& x, const ColumnMap& map, const std::int32_t* labels,
                 int classes, const double* weights, const double* bias, bool want_curvature,
                 int threads, double* gradient, double* bias_gradient) {
    const MappedRows mapped(x, nullptr, x.n, map);
    const std::int64_t d = x.d, ld = padded(d);
    const std::size_t cells = static_cast<std::size_t>(classes) * ld;
    AlignedBuffer<T> w(cells, T(0));
    for (int k = 0; k < classes; ++k) {
        for (std::int64_t j = 0; j < d; ++j) w[k * ld + j] = static_cast<T>(weights[k * d + j]);
    }
    const std::int64_t tiles = (x.n + kRows - 1) / kRows;
    const int parts = static_cast<int>(std::min<std::int64_t>(kParts, tiles));
    const int team = std::min(threads, parts);
    std::vector<double> sums(static_cast<std::size_t>(parts) * classes * d, 0.0);
    std::vector<double> bias_sums(static_cast<std::size_t>(parts) * classes, 0.0);
    std::vector<double> loss(parts, 0.0), curvature(parts, 0.0);
    std::vector<AlignedBuffer<T>> tile, score, partial;
    std::vector<std::vector<double>> scratch(team, std::vector<double>(classes));
    for (int t = 0; t < team; ++t) {
        tile.emplace_back(static_cast<std::size_t>(kRows) * ld);
        score.emplace_back(static_cast<std::size_t>(kRows) * classes);
        partial.emplace_back(cells);
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (int part = 0; part < parts; ++part) {
        const int me = omp_get_thread_num();
        T* z = tile[me].data();
        T* s = score[me].data();
        T* g = partial[me].data();
        double* sum = sums.data() + static_cast<std::size_t>(part) * classes * d;
        double* bias_sum = bias_sums.data() + static_cast<std::size_t>(part) * classes;
        const std::int64_t last = tiles * (part + 1) / parts;
        std::int64_t pending = 0;
        const auto flush = [&] {
            for (int k = 0; k < classes; ++k) {
                for (std::int64_t j = 0; j < d; ++j) {
                    sum[k * d + j] += static_cast<double>(g[k * ld + j]);
                }
            }
            std::fill(g, g + cells, T(0));
            pending = 0;
        };
        std::fill(g, g + cells, T(0));
        for (std::int64_t block = tiles * part / parts; block < last; ++block) {
            const std::int64_t first = block * kRows;
            const int count = static_cast<int>(std::min<std::int64_t>(kRows, x.n - first));
            const T* row[kRows];
            for (int r = 0; r < count; ++r) {
                row[r] = z + r * ld;
                for (int chunk = 0; chunk < mapped.chunks(); ++chunk) {
                    mapped.read(first + r, chunk, z + r * ld + mapped.begin(chunk));
                }
            }
            kernels_of<T>().dots(z, ld, count, w.data(), ld, classes, static_cast<int>(ld), s,
                                 classes);
            for (int r = 0; r < count; ++r) {
                T* own = s + static_cast<std::int64_t>(r) * classes;
                for (int k = 0; k < classes; ++k) own[k] += static_cast<T>(bias[k]);
                double spread;
                loss[part] +=
                    residual(own, classes, labels[first + r], scratch[me].data(), &spread);
                for (int k = 0; k < classes; ++k) bias_sum[k] += static_cast<double>(own[k]);
                if (want_curvature) {
                    curvature[part] += spread * (1.0 + kernels_of<T>().square_norm(row[r], ld));
                }
            }
            kernels_of<T>().update(g, ld, classes, row, count, s, classes, static_cast<int>(ld));
            if (++pending == kFlush) flush();
        }
        flush();
    }
    SoftmaxPass out{0.0, 0.0};
    std::fill(gradient, gradient + classes * d, 0.0);
    std::fill(bias_gradient, bias_gradient + classes, 0.0);
    for (int part = 0; part < parts; ++part) {
        out.loss += loss[part];
        out.curvature += curvature[part];
        for (int k = 0; k < classes; ++k) bias_gradient[k] += bias_sums[part * classes + k];
        const double* sum = sums.data() + static_cast<std::size_t>(part) * classes * d;
        for (std::int64_t j = 0; j < classes * d; ++j) gradient[j] += sum[j];
    }
    return out;
}

}  // namespace

SoftmaxPass softmax_pass(const FeatureMatrix& x, const ColumnMap& map, const std::int32_t* labels,
                         int classes, const double* weights, const double* bias, bool exact,
                         bool want_curvature, int threads, double* gradient,
                         double* bias_gradient) {
    return exact ? pass<double>(x, map, labels, classes, weights, bias, want_curvature, threads,
                                gradient, bias_gradient)
                 : pass<float>(x, map, labels, classes, weights, bias, want_curvature, threads,
                               gradient, bias_gradient);
}

}  // namespace lead_fast
