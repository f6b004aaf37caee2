// Batched symmetric eigenproblems: LAPACK's divide and conquer, one matrix per thread.

#include "../eigh.h"

#include <omp.h>

#include <algorithm>
#include <vector>

#include "blas.h"

namespace lead_fast {
namespace {

struct Workspace {
    std::vector<double> matrix, work;
    std::vector<int> integers;
};

// Sizes of dsyevd's workspaces, from its documentation.
std::int64_t work_size(std::int64_t n, bool vectors) {
    if (n <= 1) return 1;
    return vectors ? 1 + 6 * n + 2 * n * n : 2 * n + 1;
}
std::int64_t integer_size(std::int64_t n, bool vectors) { return vectors && n > 1 ? 3 + 5 * n : 1; }

void reserve(Workspace& w, std::int64_t n, bool vectors) {
    w.matrix.resize(static_cast<std::size_t>(n * n));
    w.work.resize(static_cast<std::size_t>(work_size(n, vectors)));
    w.integers.resize(static_cast<std::size_t>(integer_size(n, vectors)));
}

int solve(Workspace& w, const double* matrix, std::int64_t size, double* values, double* vectors) {
    if (size == 0) return 0;
    char job = vectors != nullptr ? 'V' : 'N', lower = 'L';
    int n = static_cast<int>(size), info = 0;
    // LAPACK blocks its work by the space it is told of: tell each matrix its own, not the batch's.
    int work = static_cast<int>(work_size(size, vectors != nullptr));
    int integers = static_cast<int>(integer_size(size, vectors != nullptr));
    std::copy_n(matrix, size * size, w.matrix.data());
    blas().dsyevd(&job, &lower, &n, w.matrix.data(), &n, values, w.work.data(), &work,
                  w.integers.data(), &integers, &info);
    if (info != 0 || vectors == nullptr) return info;
    for (std::int64_t i = 0; i < size; ++i) {
        for (std::int64_t j = 0; j < size; ++j) vectors[i * size + j] = w.matrix[j * size + i];
    }
    return 0;
}

}  // namespace

std::int64_t eigh_batched(const double* const* matrices, const std::int64_t* sizes,
                          std::int64_t count, int threads, double* const* values,
                          double* const* vectors) {
    const std::int64_t largest = count > 0 ? *std::max_element(sizes, sizes + count) : 0;
    const int team =
        static_cast<int>(std::min<std::int64_t>(threads, std::max<std::int64_t>(count, 1)));
    std::vector<Workspace> workspaces(team);  // allocated here: nothing may throw among the threads
    for (Workspace& w : workspaces) reserve(w, largest, vectors != nullptr);
    std::vector<int> info(count, 0);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::int64_t i = 0; i < count; ++i) {
        info[i] = solve(workspaces[omp_get_thread_num()], matrices[i], sizes[i], values[i],
                        vectors != nullptr ? vectors[i] : nullptr);
    }
    for (std::int64_t i = 0; i < count; ++i) {
        if (info[i] != 0) return i;
    }
    return -1;
}

}  // namespace lead_fast
