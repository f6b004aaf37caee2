// The smoothed loss of Newton's method (svm_newton.cpp): multipliers, gradient, gap and curvature
// at v.

#include "svm_newton.h"

namespace lead_fast {

void Newton::evaluate() {
    Parts sums{}, shares{};
#pragma omp parallel for schedule(dynamic, 1) num_threads(s_.options.threads)
    for (int part = 0; part < kParts; ++part) {
        std::vector<std::int64_t>& changed = changed_[part];
        changed.clear();
        active_[part].clear();
        classes_[part].clear();
        const std::int64_t last = rows_.size() * (part + 1) / kParts;
        for (std::int64_t r = rows_.size() * part / kParts; r < last; ++r) {
            float *m = scratch(0), *a = scratch(1);
            margins(r, 0.0f, m);
            moved(r, m, a);
            float *now = now_.data() + r * s_.stride, *change = fp_.data() + r * s_.stride;
            float loss = 0.0f, product = 0.0f, sum = 0.0f, most = 0.0f;
#pragma omp simd reduction(+ : loss, product, sum) reduction(max : most)
            for (int k = 0; k < s_.stride; ++k) {
                const float positive = m[k] > 0.0f ? m[k] : 0.0f;
                loss += positive;
                product += m[k] * a[k];
                sum += a[k];
                change[k] = a[k] - now[k];
                const float size = change[k] < 0.0f ? -change[k] : change[k];
                most = size > most ? size : most;
                now[k] = a[k];
            }
            shares[part] += static_cast<double>(cost_ * loss - product);
            sums[part] += static_cast<double>(sum);
            find_active(part, r, a);
            if (most > 0.0f) changed.push_back(r);
        }
    }
    std::vector<std::int64_t> changed;
    for (const auto& list : changed_) changed.insert(changed.end(), list.begin(), list.end());
    std::stable_sort(changed.begin(), changed.end(), [&](std::int64_t one, std::int64_t two) {
        return std::pair(!rows_.packed(one, false), label(one)) <
               std::pair(!rows_.packed(two, false), label(two));
    });
    sums_.run(
        static_cast<std::int64_t>(changed.size()), false,
        [&](std::int64_t item) { return changed[item]; },
        [&](int, std::int64_t item, const ActiveRow&, RowSums::Sink& sink) {
            const std::int64_t r = changed[item];
            add_coefficients(label(r), fp_.data() + r * s_.stride, sink);
        },
        hd_.data());
    for (std::size_t j = 0; j < cells_; ++j) {
        of_dual_[j] += hd_[j];
        gradient_[j] = v_[j] - of_dual_[j];
    }
    inner_ = 0.5 * dot(gradient_, gradient_);
    shares_ = total(shares);
    s_.dual_terms += total(sums) - sum_;
    sum_ = total(sums);
    dual_ = s_.dual_terms - 0.5 * dot(of_dual_, of_dual_);
    passed(static_cast<double>(changed.size()) * s_.classes * 0.5);
}

void Newton::add_coefficients(int y, const float* a, RowSums::Sink& sink) const {
    float own = 0.0f;
    for (int k = 0; k < s_.classes; ++k) {
        if (a[k] == 0.0f) continue;
        own += a[k];
        sink.add(k, -a[k]);
    }
    if (own != 0.0f) sink.add(y, own);
}

void Newton::find_active(int part, std::int64_t r, const float* a) {
    std::vector<int>& classes = classes_[part];
    const std::size_t first = classes.size();
    classes.push_back(label(r));
    for (int k = 0; k < s_.classes; ++k) {
        if (a[k] > 0.0f && a[k] < cost_) classes.push_back(k);
    }
    const int count = static_cast<int>(classes.size() - first);
    if (count == 1) return classes.pop_back();
    active_[part].push_back({r, static_cast<int>(first), count});
}

}  // namespace lead_fast
