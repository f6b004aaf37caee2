// Scatter matrices of the classes and their Cholesky factors, one class per thread: through Python
// the factorisations would wait for each other, as SciPy's hold the interpreter's lock.

#include "../class_scatter.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "aligned.h"
#include "blas.h"
#include "mapped_rows.h"

namespace lead_fast {
namespace {

constexpr std::int64_t kBlock = 512;  // rows of a class that are multiplied at a time

// One thread's matrices.
template <class T>
struct Room {
    AlignedBuffer<T> rows;       // (block, ld) of the class, centred
    AlignedBuffer<T> a;          // (size, size), column-major, upper triangle
    std::vector<double> before;  // (size) diagonal of A
};

// A (d, d) = Z^T Z for the rows of one class, in blocks.
template <class T>
void scatter(const MappedRows& z, std::int64_t block, std::int64_t ld, Room<T>& room) {
    const int d = static_cast<int>(z.columns());
    for (std::int64_t first = 0; first < z.size(); first += block) {
        const std::int64_t count = std::min(block, z.size() - first);
        for (std::int64_t r = 0; r < count; ++r) {
            T* row = room.rows.data() + r * ld;
            for (int k = 0; k < z.chunks(); ++k) z.read(first + r, k, row + z.begin(k));
        }
        syrk_upper(room.rows.data(), false, d, static_cast<int>(count), static_cast<int>(ld),
                   first > 0, room.a.data());
    }
}

// A (n, n) = Z Z^T.
template <class T>
void gram(const MappedRows& z, std::int64_t ld, Room<T>& room) {
    for (std::int64_t r = 0; r < z.size(); ++r) {
        T* row = room.rows.data() + r * ld;
        for (int k = 0; k < z.chunks(); ++k) z.read(r, k, row + z.begin(k));
    }
    syrk_upper(room.rows.data(), true, static_cast<int>(z.size()), static_cast<int>(z.columns()),
               static_cast<int>(ld), false, room.a.data());
}

template <class T>
void add_to(double* total, const T* a, std::int64_t size) {
    for (std::int64_t j = 0; j < size; ++j) {
        for (std::int64_t i = 0; i <= j; ++i) total[j * size + i] += a[j * size + i];
    }
}

template <class T>
void factorise(Room<T>& room, std::int64_t size, const double* spread, double shift,
               double* log_determinant, double* pivot) {
    T* a = room.a.data();
    for (std::int64_t j = 0; j < size; ++j) {
        if (spread != nullptr) {
            const T right = static_cast<T>(spread[j]);
            for (std::int64_t i = 0; i <= j; ++i)
                a[j * size + i] += static_cast<T>(spread[i]) * right;
        }
        a[j * size + j] += static_cast<T>(shift);
        room.before[j] = static_cast<double>(a[j * size + j]);
    }
    *log_determinant = std::numeric_limits<double>::quiet_NaN();
    *pivot = 0.0;
    if (!potrf_upper(a, static_cast<int>(size))) return;
    double sum = 0.0, least = 1.0;
    for (std::int64_t j = 0; j < size; ++j) {
        const double root = static_cast<double>(a[j * size + j]);
        sum += std::log(root);
        least = std::min(least, root * root / room.before[j]);
    }
    *log_determinant = 2.0 * sum;
    *pivot = least;
}

template <class T>
void run(const FeatureMatrix& x, const std::int64_t* order, const std::int64_t* ends, int classes,
         const double* centre, const double* spread, const double* shift, int threads,
         double* total, double* log_determinant, double* pivot) {
    const std::int64_t d = x.d, ld = padded(d);
    const std::vector<double> ones(d, 1.0);
    const bool square = spread != nullptr || total != nullptr;  // (d, d) whatever the class
    std::vector<MappedRows> rows;
    std::int64_t block = 1, largest = 1;
    for (int c = 0; c < classes; ++c) {
        const std::int64_t first = c > 0 ? ends[c - 1] : 0, n = ends[c] - first;
        rows.emplace_back(x, order + first, n, ColumnMap{centre + c * d, ones.data()});
        const bool small = !square && n <= d;
        block = std::max(block, small ? n : std::min(n, kBlock));
        largest = std::max(largest, small ? n : d);
    }
    const int team = std::min(threads, classes);
    std::vector<Room<T>> rooms;
    for (int t = 0; t < team; ++t) {  // allocated here: nothing may throw among the threads
        rooms.push_back({AlignedBuffer<T>(static_cast<std::size_t>(block) * ld),
                         AlignedBuffer<T>(static_cast<std::size_t>(largest) * largest),
                         std::vector<double>(largest)});
    }
    // In order: the sum over the classes does not depend on the threads.
#pragma omp parallel for ordered schedule(dynamic, 1) num_threads(team)
    for (int c = 0; c < classes; ++c) {
        Room<T>& room = rooms[omp_get_thread_num()];
        const std::int64_t n = rows[c].size();
        log_determinant[c] = std::numeric_limits<double>::quiet_NaN();
        pivot[c] = 0.0;
        const bool small = !square && n <= d;
        if (n > 0 && small) gram(rows[c], ld, room);
        if (n > 0 && !small) scatter(rows[c], std::min(block, kBlock), ld, room);
#pragma omp ordered
        if (n > 0 && total != nullptr) add_to(total, room.a.data(), d);
        if (n > 0) {
            factorise(room, small ? n : d, spread != nullptr ? spread + c * d : nullptr, shift[c],
                      log_determinant + c, pivot + c);
        }
    }
}

}  // namespace

void class_log_determinants(const FeatureMatrix& x, const std::int64_t* order,
                            const std::int64_t* ends, int classes, const double* centre,
                            const double* spread, const double* shift, bool exact, int threads,
                            double* total, double* log_determinant, double* pivot) {
    exact ? run<double>(x, order, ends, classes, centre, spread, shift, threads, total,
                        log_determinant, pivot)
          : run<float>(x, order, ends, classes, centre, spread, shift, threads, total,
                       log_determinant, pivot);
}

}  // namespace lead_fast
