// Maximisation step of a Gaussian mixture, one component per thread.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../mixture.h"
#include "aligned.h"
#include "blas.h"

namespace lead_fast {
namespace {

constexpr std::int64_t kBlock = 256;  // samples that are multiplied at a time

// One thread's matrices. Everything is float64: with fewer samples than dimensions the ridge is all
// that there is in some directions, and must not drown in the rounding of the others.
struct Room {
    explicit Room(int d)
        : rows(static_cast<std::size_t>(kBlock) * d),
          covariance(static_cast<std::size_t>(d) * d),
          mean(d) {}
    AlignedBuffer<double> rows, covariance;  // column-major, upper triangle
    std::vector<double> mean;
    std::vector<std::int64_t> who;
    std::vector<double> weight;
};

template <class T>
bool component(const T* z, std::int64_t n, int d, std::int64_t ld, const T* posterior, double ridge,
               double least, Room& room, T* mean, T* factor, double* mass, double* half_log) {
    room.who.clear();
    room.weight.clear();
    double sum = least;
    for (std::int64_t i = 0; i < n; ++i) {
        if (posterior[i] == T(0)) continue;
        room.who.push_back(i);
        room.weight.push_back(static_cast<double>(posterior[i]));
        sum += room.weight.back();
    }
    *mass = sum;
    const std::int64_t count = static_cast<std::int64_t>(room.who.size());
    std::fill(room.mean.begin(), room.mean.end(), 0.0);
    for (std::int64_t i = 0; i < count; ++i) {
        const T* row = z + room.who[i] * ld;
        const double r = room.weight[i];
        for (int j = 0; j < d; ++j) room.mean[j] += r * static_cast<double>(row[j]);
    }
    for (int j = 0; j < d; ++j) room.mean[j] /= sum;
    double* a = room.covariance.data();
    if (count == 0) std::fill(a, a + static_cast<std::int64_t>(d) * d, 0.0);
    for (std::int64_t first = 0; first < count; first += kBlock) {
        const std::int64_t size = std::min(kBlock, count - first);
        for (std::int64_t i = 0; i < size; ++i) {
            const T* row = z + room.who[first + i] * ld;
            const double root = std::sqrt(room.weight[first + i] / sum);
            double* out = room.rows.data() + i * d;
            for (int j = 0; j < d; ++j) {
                out[j] = root * (static_cast<double>(row[j]) - room.mean[j]);
            }
        }
        syrk_upper(room.rows.data(), false, d, static_cast<int>(size), d, first > 0, a);
    }
    for (std::int64_t j = 0; j < d; ++j) a[j * d + j] += ridge;
    if (!potrf_upper(a, d)) return false;
    double logs = 0.0;
    for (std::int64_t j = 0; j < d; ++j) logs += std::log(a[j * d + j]);
    *half_log = logs;
    if (!std::isfinite(logs) || !trtri_upper(a, d)) return false;
    // The upper triangle by columns is the lower one by rows.
    for (std::int64_t i = 0; i < d; ++i) {
        for (std::int64_t j = 0; j <= i; ++j) factor[i * ld + j] = static_cast<T>(a[i * d + j]);
        std::fill(factor + i * ld + i + 1, factor + (i + 1) * ld, T(0));
    }
    for (int j = 0; j < d; ++j) mean[j] = static_cast<T>(room.mean[j]);
    std::fill(mean + d, mean + ld, T(0));
    return true;
}

}  // namespace

template <class T>
bool mixture_parameters(const T* z, std::int64_t n, int d, std::int64_t ld, int m,
                        const T* posterior, double ridge, double least, int threads, T* mean,
                        T* factor, double* mass, double* half_log) {
    const int team = std::min(threads, m);
    std::vector<Room> rooms;
    for (int t = 0; t < team; ++t) {  // allocated here: nothing may throw among the threads
        rooms.emplace_back(d);
        rooms.back().who.reserve(static_cast<std::size_t>(n));
        rooms.back().weight.reserve(static_cast<std::size_t>(n));
    }
    bool fine = true;
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) reduction(&& : fine)
    for (int k = 0; k < m; ++k) {
        fine = component(z, n, d, ld, posterior + static_cast<std::int64_t>(k) * n, ridge, least,
                         rooms[omp_get_thread_num()], mean + k * ld,
                         factor + static_cast<std::int64_t>(k) * d * ld, mass + k, half_log + k) &&
               fine;
    }
    return fine;
}

template bool mixture_parameters(const float*, std::int64_t, int, std::int64_t, int, const float*,
                                 double, double, int, float*, float*, double*, double*);
template bool mixture_parameters(const double*, std::int64_t, int, std::int64_t, int, const double*,
                                 double, double, int, double*, double*, double*, double*);

}  // namespace lead_fast
