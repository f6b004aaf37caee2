// Step lengths along a direction, for problems that are searched side by side.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace lead_fast {

// For each of G convex functions the step at which its slope has fallen to `enough` of its start:
// 1 first, then the secant inside a bracket, where an end that stays counts half each time (the
// Illinois method: Dowell and Jarratt 1971); 0 where the start is not negative. start, first (G):
// slopes at 0 and at 1. slope: (G) steps -> (G) slopes, asked for at most `tries` - 1 times.
template <class Slope>
std::vector<double> line_search(const std::vector<double>& start, std::vector<double> first,
                                int tries, double enough, Slope slope) {
    struct End {
        double t, slope;
    };
    const std::size_t count = start.size();
    std::vector<double> t(count), now = std::move(first);
    std::vector<End> low(count), high(count, End{INFINITY, INFINITY});
    std::vector<int> last(count, 0);  // the end that was moved: -1 for low, 1 for high
    for (std::size_t g = 0; g < count; ++g) {
        low[g] = {0.0, start[g]};
        t[g] = start[g] < 0.0 ? 1.0 : 0.0;
    }
    for (int tried = 1;; ++tried) {
        bool all = true;
        for (std::size_t g = 0; g < count; ++g) {
            if (start[g] >= 0.0 || std::abs(now[g]) <= enough * std::abs(start[g])) continue;
            all = false;
            const int side = now[g] > 0.0 ? 1 : -1;
            (side > 0 ? high : low)[g] = {t[g], now[g]};
            if (side == last[g]) (side > 0 ? low : high)[g].slope *= 0.5;
            last[g] = side;
            if (std::isinf(high[g].t)) {
                t[g] *= 2.0;
                continue;
            }
            const double rise = high[g].slope - low[g].slope;
            const double share = rise > 0.0 ? -low[g].slope / rise : 0.5;
            t[g] = low[g].t + (high[g].t - low[g].t) * std::clamp(share, 0.05, 0.95);
        }
        if (all || tried >= tries) return t;
        now = slope(t);
    }
}

}  // namespace lead_fast
