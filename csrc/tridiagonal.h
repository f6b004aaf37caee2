// Eigenvalues of one small symmetric matrix by a team of threads: Householder's reduction to a
// tridiagonal matrix, then all eigenvalues at once by cutting intervals with Sturm counts (Givens;
// Wilkinson, "The algebraic eigenvalue problem", ch. 5). QR iteration takes 3/2 n^2 rotations, each
// waiting for the one before; here the longest chain is that of one Sturm count, n steps, some
// twenty times.
//
// A Team has rank and size, sync() (a barrier that also makes writes to the shared arrays visible)
// and sum(x), the sum of all threads' x, the same bits in each; every thread calls them in the same
// order. A block of a GPU is one, threads of a processor another, and so is a single thread.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace lead_fast {

// What a team shares; capacities in brackets. All counts are n unless said otherwise.
struct TridiagonalScratch {
    double* matrix;     // [n * lda] the matrix, destroyed; row i at i * lda
    int lda;            // >= n; odd keeps the rows of a GPU's shared memory in different banks
    double* diagonal;   // [n]
    double* square;     // [n] squares of the off-diagonal: square[i] couples i - 1 and i
    double* reflector;  // [n]
    double* update;     // [n]
    double* partial;    // [max(size, n)]
    int* counts;        // [size]
};

// 2^exponent; exponent within the normal range.
LEAD_FAST_HOST_DEVICE static inline double power_of_two(int exponent) {
    const std::uint64_t bits = static_cast<std::uint64_t>(1023 + exponent) << 52;
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
}

// floor(log2 |x|) of a normal number.
LEAD_FAST_HOST_DEVICE static inline int exponent_of(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, 8);
    return static_cast<int>(bits >> 52 & 0x7ffu) - 1023;
}

LEAD_FAST_HOST_DEVICE static inline std::uint32_t sign_of(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, 8);
    return static_cast<std::uint32_t>(bits >> 63);
}

// Reduces the matrix, scaled so that no element exceeds 1, to diagonal and square of the
// off-diagonal. One step per column k: the reflector I - tau v v^T that clears it below the
// off-diagonal, p = tau A v, w = p - tau/2 (p^T v) v, A -= v w^T + w v^T. The whole square is kept,
// not one triangle, so that a column can be read as a row.
template <class Team>
LEAD_FAST_HOST_DEVICE void reduce_to_tridiagonal(Team& team, int n, const TridiagonalScratch& s) {
    double* const a = s.matrix;
    const int lda = s.lda;
    for (int k = 0; k + 1 < n; ++k) {
        const double* const x = a + k * lda;  // row k: column k below the diagonal, x[k + 1 .. n)
        const int first = k + 1, m = n - first;
        double local = 0.0;
        for (int i = first + 1 + team.rank; i < n; i += team.size) local += x[i] * x[i];
        const double tail = team.sum(local);
        const double alpha = x[first];
        // Nothing to clear, or so little that its squares lose digits and the reflector would not
        // be orthogonal; the same decision in every thread.
        if (!(tail > 0x1p-900)) {
            if (team.rank == 0) {
                s.diagonal[k] = a[k * lda + k];
                s.square[first] = alpha * alpha;
            }
            continue;  // the next sum is a barrier
        }
        const double norm = sqrt(alpha * alpha + tail);
        const double beta = alpha > 0.0 ? -norm : norm;
        const double tau = (beta - alpha) / beta;
        const double scale = 1.0 / (alpha - beta);  // v = (1, scale * x[first + 1 ...])
        // Thread (i, part) adds up its share of row i, which is column i.
        const int parts = team.size >= m ? team.size / m : 1;
        const int part = team.rank / m;
        if (part < parts) {
            for (int i = first + team.rank % m; i < n; i += team.size >= m ? n : team.size) {
                double sum = part == 0 ? a[first * lda + i] : 0.0;
                double rest = 0.0;
                for (int j = first + 1 + part; j < n; j += parts) rest += a[j * lda + i] * x[j];
                sum += scale * rest;
                s.partial[part * m + i - first] = sum;
            }
        }
        team.sync();
        double dot = 0.0;
        for (int i = first + team.rank; i < n; i += team.size) {
            double p = 0.0;
            for (int q = 0; q < parts; ++q) p += s.partial[q * m + i - first];
            p *= tau;
            const double v = i == first ? 1.0 : scale * x[i];
            s.reflector[i] = v;
            s.update[i] = p;
            dot += p * v;
        }
        const double shift = 0.5 * tau * team.sum(dot);
        for (int i = first + team.rank; i < n; i += team.size) {
            s.update[i] -= shift * s.reflector[i];
        }
        if (team.rank == 0) {
            s.diagonal[k] = a[k * lda + k];
            s.square[first] = beta * beta;
        }
        team.sync();
        if (part < parts) {
            for (int i = first + team.rank % m; i < n; i += team.size >= m ? n : team.size) {
                const double v = s.reflector[i], w = s.update[i];
                for (int j = first + part; j < n; j += parts) {
                    a[j * lda + i] -= v * s.update[j] + w * s.reflector[j];
                }
            }
        }
        team.sync();
    }
    if (team.rank == 0) {
        s.diagonal[n - 1] = a[(n - 1) * lda + n - 1];
        s.square[0] = 0.0;
    }
    team.sync();
}

// How many eigenvalues lie below x: sign changes in the sequence of leading principal minors of
// T - x, p_i = (d_i - x) p_{i-1} - e_i^2 p_{i-2}. With elements of order one the squares are kept
// from falling below 2^-200, which moves no eigenvalue by more than 2^-100; then two neighbours
// never vanish together, four steps shrink the pair by less than 2^-805, and a rescaling by a power
// of two after every four keeps it in range. A zero takes either sign: the minor after it has the
// opposite sign of the one before, so one change is counted in any case.
LEAD_FAST_HOST_DEVICE static inline int sturm_count(const double* diagonal, const double* square,
                                                    int n, double x) {
    double p = 1.0, before = 0.0;
    std::uint32_t sign = 0;
    int count = 0;
    for (int i = 0; i < n; i += 4) {
        const int end = i + 4 < n ? i + 4 : n;
        for (int k = i; k < end; ++k) {
            const double next = (diagonal[k] - x) * p - square[k] * before;
            before = p;
            p = next;
            const std::uint32_t now = sign_of(p);
            count += static_cast<int>(now ^ sign);
            sign = now;
        }
        const double size = fabs(p) > fabs(before) ? fabs(p) : fabs(before);
        const double factor = power_of_two(-exponent_of(size));
        p *= factor;
        before *= factor;
    }
    return count;
}

// values[q], ascending, of the tridiagonal matrix times `unit`; no interval stays wider than 2^-54
// of the whole spectrum's. Uses diagonal, square, partial and counts.
template <class Team>
LEAD_FAST_HOST_DEVICE void cut_intervals(Team& team, int n, const TridiagonalScratch& s,
                                         double unit, double* values) {
    const double smallest_square = power_of_two(-200);
    for (int i = team.rank; i < n; i += team.size) {
        s.update[i] = sqrt(s.square[i]);
        if (i > 0 && s.square[i] < smallest_square) s.square[i] = smallest_square;
    }
    team.sync();
    double low = 0.0, high = 0.0;  // Gershgorin's circles, in every thread
    for (int i = 0; i < n; ++i) {
        const double radius = s.update[i] + (i + 1 < n ? s.update[i + 1] : 0.0);
        const double least = s.diagonal[i] - radius, most = s.diagonal[i] + radius;
        low = i == 0 || least < low ? least : low;
        high = i == 0 || most > high ? most : high;
    }
    const double bound = fabs(low) > fabs(high) ? fabs(low) : fabs(high);
    const double margin = 4.0 * n * 0x1p-53 * bound + 0x1p-98;
    low -= margin;
    high += margin;
    // The first cut is the same for all eigenvalues, by one point per thread.
    const double first_step = (high - low) / (team.size + 1);
    s.counts[team.rank] = sturm_count(s.diagonal, s.square, n, low + first_step * (team.rank + 1));
    team.sync();
    // Then `parts` threads share an eigenvalue, and a thread may have several eigenvalues.
    const int parts = team.size >= n ? team.size / n : 1;
    const int part = team.rank % parts;
    const int stride = team.size >= n ? n : team.size;
    int rounds = 0;
    for (double width = 1.0 / (team.size + 1); width > 0x1p-54; width /= parts + 1) ++rounds;
    for (int base = 0; base < n; base += stride) {
        const int q = base + team.rank / parts;
        const bool mine = team.rank / parts < stride && q < n;
        double left = low, right = high;
        if (mine) {
            int at = 0;  // the first point with more than q eigenvalues below it
            for (int end = team.size; at < end;) {
                const int middle = (at + end) / 2;
                if (s.counts[middle] <= q) {
                    at = middle + 1;
                } else {
                    end = middle;
                }
            }
            if (at < team.size) right = low + first_step * (at + 1);
            if (at > 0) left = low + first_step * at;
        }
        for (int round = 0; round < rounds; ++round) {
            const double step = (right - left) / (parts + 1);
            if (parts == 1) {
                if (!mine) break;
                const double middle = left + step;
                if (sturm_count(s.diagonal, s.square, n, middle) <= q) {
                    left = middle;
                } else {
                    right = middle;
                }
                continue;
            }
            // Two halves of `partial` in turn, so that one barrier a round is enough.
            int* const seen = reinterpret_cast<int*>(s.partial) + (round % 2) * team.size;
            if (mine) {
                seen[team.rank] = sturm_count(s.diagonal, s.square, n, left + step * (part + 1));
            }
            team.sync();
            if (mine) {
                const int* const group = seen + team.rank - part;
                int at = 0;
                while (at < parts && group[at] <= q) ++at;
                const double start = left;
                if (at < parts) right = start + step * (at + 1);
                if (at > 0) left = start + step * at;
            }
        }
        if (mine && part == 0) s.reflector[q] = left + 0.5 * (right - left);
    }
    team.sync();
    // Neighbours may be out of order by a rounding.
    for (int q = team.rank; q < n; q += team.size) {
        const double value = s.reflector[q];
        int place = 0;
        for (int i = 0; i < n; ++i) {
            place += s.reflector[i] < value || (s.reflector[i] == value && i < q);
        }
        values[place] = value * unit;
    }
}

// values (n) ascending of the finite symmetric matrix in s.matrix, whose largest magnitude is
// `largest`; both triangles are filled in. Error below a few n * 2^-53 of the largest eigenvalue.
template <class Team>
LEAD_FAST_HOST_DEVICE void symmetric_eigenvalues(Team& team, int n, double largest,
                                                 const TridiagonalScratch& s, double* values) {
    if (!(largest >= 0x1p-1000)) {  // zero, or as good as that
        for (int i = team.rank; i < n; i += team.size) values[i] = 0.0;
        return;
    }
    // Elements of order one: nothing overflows, and squares that underflow do not matter.
    const int exponent = exponent_of(largest) + 1;
    const double shrink = power_of_two(exponent < 1000 ? -exponent : -1000);
    for (int i = team.rank; i < n * n; i += team.size) s.matrix[i / n * s.lda + i % n] *= shrink;
    team.sync();
    reduce_to_tridiagonal(team, n, s);
    cut_intervals(team, n, s, 1.0 / shrink, values);
}

}  // namespace lead_fast
