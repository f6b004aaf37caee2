// One step of Newton's method (svm_newton.cpp): conjugate gradients, and a search along what they
// find.

#include <tuple>

#include "svm_newton.h"

namespace lead_fast {
namespace {

constexpr double kResidual = 0.3;  // to which conjugate gradients reduce the residual
constexpr int kMostGradientSteps = 60;
constexpr double kLineSearch = 0.1;  // of the slope at 0 that may be left

}  // namespace

void Newton::step() {
    join_active();
    Preconditioner precondition(directions_, between_classes(), s_.classes);
    for (std::size_t j = 0; j < cells_; ++j) {
        r_[j] = -gradient_[j];
        p_[j] = 0.0f;
    }
    precondition.apply(r_.data(), z_.data());
    d_.fill(0.0f);
    add(1.0, z_, d_);
    double rz = dot(r_, z_);
    const double goal = kResidual * kResidual * rz;
    for (int i = 0; i < kMostGradientSteps && rz > 0.0; ++i) {
        curve();
        const double step = rz / dot(d_, hd_);
        add(step, d_, p_);
        add(-step, hd_, r_);
        precondition.apply(r_.data(), z_.data());
        const double before = rz;
        rz = dot(r_, z_);
        passed(static_cast<double>(pairs_.size()));
        if (rz <= goal) break;
        const float keep = static_cast<float>(rz / before);
        for (std::size_t j = 0; j < cells_; ++j) d_[j] = z_[j] + keep * d_[j];
    }
    decisions(p_, true, fp_);
    passed(static_cast<double>(rows_.size()) * s_.classes * 0.5);
    const double t = search();
    add(t, p_, v_);
    const float ahead = static_cast<float>(t);
#pragma omp parallel for schedule(static) num_threads(s_.options.threads)
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(f_.size()); ++j) {
        f_[j] += ahead * fp_[j];
    }
}

void Newton::join_active() {
    samples_.clear();
    pairs_.clear();
    for (int part = 0; part < kParts; ++part) {
        const int before = static_cast<int>(pairs_.size());
        for (ActiveSample sample : active_[part]) {
            sample.first += before;
            samples_.push_back(sample);
        }
        pairs_.insert(pairs_.end(), classes_[part].begin(), classes_[part].end());
    }
    const auto key = [&](const ActiveSample& sample) {
        const int* list = pairs_.data() + sample.first;
        return std::tuple(!rows_.packed(sample.row, true), list[0],
                          list[std::min(1, sample.count - 1)]);
    };
    std::stable_sort(
        samples_.begin(), samples_.end(),
        [&](const ActiveSample& one, const ActiveSample& two) { return key(one) < key(two); });
}

std::vector<double> Newton::between_classes() const {
    const int n = s_.classes;
    const double rho = static_cast<double>(rho_);
    std::vector<double> out(static_cast<std::size_t>(n) * n, 0.0);
    for (const ActiveSample& sample : samples_) {
        const int* list = pairs_.data() + sample.first;
        for (int i = 1; i < sample.count; ++i) {
            out[list[i] * n + list[i]] += rho;
            out[list[0] * n + list[0]] += rho;
            out[list[0] * n + list[i]] -= rho;
            out[list[i] * n + list[0]] -= rho;
        }
    }
    return out;
}

void Newton::curve() {
    sums_.run(
        static_cast<std::int64_t>(samples_.size()), true,
        [&](std::int64_t item) { return samples_[item].row; },
        [&](int, std::int64_t item, const ActiveRow& row, RowSums::Sink& sink) {
            const ActiveSample& sample = samples_[item];
            const int* list = pairs_.data() + sample.first;
            float* f = scratch(0);
            dots_list(row, d_.data(), ld_, rows_.bias(), list, sample.count, f);
            float own = 0.0f;
            for (int i = 1; i < sample.count; ++i) {
                const float c = rho_ * (f[list[i]] - f[list[0]]);
                sink.add(list[i], c);
                own -= c;
            }
            sink.add(list[0], own);
        },
        hd_.data());
    add(1.0, d_, hd_);
}

void Newton::decisions(const AlignedBuffer<float>& weights, bool coarse,
                       AlignedBuffer<float>& out) {
    std::vector<AlignedBuffer<float>> tiles;
    for (int t = 0; t < s_.options.threads; ++t) tiles.emplace_back(kLines * ld_, 0.0f);
#pragma omp parallel for schedule(dynamic, 16) num_threads(s_.options.threads)
    for (std::int64_t first = 0; first < rows_.size(); first += kLines) {
        float* tile = tiles[omp_get_thread_num()].data();
        const int count = static_cast<int>(std::min<std::int64_t>(kLines, rows_.size() - first));
        ActiveRow row[kLines];
        const auto as_coarse = [&](std::int64_t r) { return coarse && !rows_.packed(r, false); };
        for (std::int64_t r = first; r < first + count; ++r) {
            const std::int64_t ahead = r + kLines;
            if (ahead < rows_.size()) rows_.prefetch(ahead, as_coarse(ahead));
            row[r - first] = rows_.read(r, as_coarse(r), tile + (r - first) * ld_);
        }
        float* f = out.data() + first * s_.stride;
        const bool alike = row[0].format == row[count - 1].format;
        for (int m = 0; m < count; m += alike ? count : 1) {
            dots_lines(row + m, alike ? count : 1, weights.data(), ld_, rows_.bias(), s_.classes,
                       f + m * s_.stride, s_.stride);
        }
        for (int m = 0; m < count; ++m) {
            std::fill(f + m * s_.stride + s_.classes, f + (m + 1) * s_.stride, 0.0f);
        }
    }
}

double Newton::slope(double t, double gp, double pp) {
    Parts parts{};
#pragma omp parallel for schedule(static) num_threads(s_.options.threads)
    for (int part = 0; part < kParts; ++part) {
        float *m = scratch(0), *a = scratch(1);
        const std::int64_t last = rows_.size() * (part + 1) / kParts;
        for (std::int64_t r = rows_.size() * part / kParts; r < last; ++r) {
            margins(r, static_cast<float>(t), m);
            moved(r, m, a);
            const float *fp = fp_.data() + r * s_.stride, *now = now_.data() + r * s_.stride;
            // The own class is no variable: a and now are 0 there.
            const float own = fp[label(r)];
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int k = 0; k < s_.stride; ++k) sum += (a[k] - now[k]) * (fp[k] - own);
            parts[part] += static_cast<double>(sum);
        }
    }
    return gp + t * pp + total(parts);
}

double Newton::search() {
    const double gp = dot(gradient_, p_), pp = dot(p_, p_);
    const double start = slope(0.0, gp, pp);
    double low = 0.0, low_slope = start, high = INFINITY, high_slope = 0.0, t = 1.0;
    for (int tries = 0; tries < 8; ++tries) {
        const double now = slope(t, gp, pp);
        if (std::abs(now) <= kLineSearch * std::abs(start)) break;
        (now > 0.0 ? high : low) = t;
        (now > 0.0 ? high_slope : low_slope) = now;
        if (!std::isfinite(high)) {
            t = 2.0 * t;
            continue;
        }
        const double share = -low_slope / (high_slope - low_slope);
        t = low + (high - low) * std::clamp(share, 0.1, 0.9);
    }
    return t;
}

}  // namespace lead_fast
