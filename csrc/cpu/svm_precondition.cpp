#include "svm_precondition.h"

#include <numeric>
#include <stdexcept>

#include "blas.h"
#include "svm_state.h"

namespace lead_fast {
namespace {

constexpr int kRank = 64;
constexpr std::int64_t kSample = 2048;
constexpr int kIterations = 2;
constexpr int kParts = 8;  // of the sample: as few as keep some threads busy, for they take memory

// Eigenvalues (n), ascending, and eigenvectors in the rows of the symmetric a (n, n).
std::vector<double> eigen(std::vector<double>& a, int n) {
    char vectors = 'V', lower = 'L';
    int info = 0, lwork = 1 + 6 * n + 2 * n * n, liwork = 3 + 5 * n;
    std::vector<double> values(n), work(lwork);
    std::vector<int> iwork(liwork);
    blas().dsyevd(&vectors, &lower, &n, a.data(), &n, values.data(), work.data(), &lwork,
                  iwork.data(), &liwork, &info);
    if (info != 0) throw std::runtime_error("svm: LAPACK's dsyevd failed on a small matrix");
    return values;
}

// a b^T of vectors (rank, ld) each, which is symmetric up to rounding.
std::vector<double> products(const AlignedBuffer<float>& a, const AlignedBuffer<float>& b, int rank,
                             std::int64_t ld) {
    std::vector<float> raw(static_cast<std::size_t>(rank) * rank);
    kernels().f32.dots(a.data(), ld, rank, b.data(), ld, rank, static_cast<int>(ld), raw.data(),
                       rank);
    std::vector<double> out(raw.size());
    for (int i = 0; i < rank; ++i) {
        for (int j = 0; j < rank; ++j) {
            out[i * rank + j] = 0.5 * (static_cast<double>(raw[i * rank + j]) +
                                       static_cast<double>(raw[j * rank + i]));
        }
    }
    return out;
}

// out[i] = sum_j factor[i, j] a[j] for vectors (rank, ld).
void combine(const std::vector<double>& factor, const AlignedBuffer<float>& a, int rank,
             std::int64_t ld, int threads, AlignedBuffer<float>& out) {
    const std::vector<float> coefficient(factor.begin(), factor.end());
    std::vector<const float*> line(rank);
    for (int j = 0; j < rank; ++j) line[j] = a.data() + j * ld;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
    for (int i = 0; i < rank; ++i) {
        std::fill_n(out.data() + i * ld, ld, 0.0f);
        kernels().f32.update_list(out.data() + i * ld, line.data(), coefficient.data() + i * rank,
                                  rank, static_cast<int>(ld));
    }
}

int rank_of(std::int64_t ld) { return static_cast<int>(std::min<std::int64_t>(kRank, ld / 8)); }

}  // namespace

std::int64_t directions_size(std::int64_t ld) { return (kParts + 2) * rank_of(ld) * ld; }

Directions leading_directions(const ActiveRows& rows, const std::vector<std::int64_t>& list,
                              const std::vector<float>& square, int threads) {
    const std::int64_t ld = rows.ld(), total = static_cast<std::int64_t>(list.size());
    const std::int64_t count = std::min(total, kSample);
    Directions out;
    out.ld = ld;
    out.rank = static_cast<int>(std::min<std::int64_t>(rank_of(ld), count / 4));
    const int rank = out.rank;
    if (rank == 0) return out;
    const std::size_t cells = static_cast<std::size_t>(rank) * ld;
    AlignedBuffer<float> basis(cells), image(cells);
    for (std::size_t i = 0; i < cells; ++i) {
        basis[i] = static_cast<float>(mix(i) >> 40) * 0x1p-23f - 1.0f;
    }
    RowSums sums(rows, rank, threads, kParts);
    std::vector<double> whole(kParts);
    const auto index = [&](std::int64_t item) { return list[item * total / count]; };
    // image = (sum of the rows' z z^T) basis
    const auto multiply = [&] {
        std::fill(whole.begin(), whole.end(), 0.0);
        sums.run(
            count, true, index,
            [&](int part, std::int64_t item, const ActiveRow& row, RowSums::Sink& sink) {
                float seen[kRank];
                dots_lines(&row, 1, basis.data(), ld, rows.bias(), rank, seen, kRank);
                for (int i = 0; i < rank; ++i) sink.add(i, seen[i]);
                whole[part] += static_cast<double>(square[rows[index(item)]]);
            },
            image.data());
    };
    for (int iteration = 0; iteration < kIterations; ++iteration) {
        multiply();
        std::vector<double> turn = products(image, image, rank, ld);
        const std::vector<double> value = eigen(turn, rank);
        const double smallest = 1e-6 * value.back();  // below it, rounding
        for (int i = 0; i < rank; ++i) {
            const double factor = value[i] > smallest ? 1.0 / std::sqrt(value[i]) : 0.0;
            for (int j = 0; j < rank; ++j) turn[i * rank + j] *= factor;
        }
        combine(turn, image, rank, ld, threads, basis);
    }
    multiply();
    std::vector<double> turn = products(basis, image, rank, ld);
    out.moment = eigen(turn, rank);
    for (double& m : out.moment) m = std::max(0.0, m / static_cast<double>(count));
    combine(turn, basis, rank, ld, threads, image);
    out.basis = std::move(image);
    const double seen = std::accumulate(out.moment.begin(), out.moment.end(), 0.0);
    const double size = std::accumulate(whole.begin(), whole.end(), 0.0);
    out.rest =
        std::max(0.0, size / static_cast<double>(count) - seen) / static_cast<double>(ld - rank);
    return out;
}

Preconditioner::Preconditioner(const Directions& directions, std::vector<double> between,
                               int classes)
    : directions_(directions),
      classes_(classes),
      outside_(classes),
      inside_(static_cast<std::size_t>(classes) * directions.rank),
      turned_(static_cast<std::size_t>(classes) * directions.ld),
      seen_(static_cast<std::size_t>(classes) * directions.rank) {
    const std::vector<double> strength = eigen(between, classes);
    turn_ = std::move(between);
    for (int k = 0; k < classes; ++k) {
        const double s = std::max(0.0, strength[k]);
        const double rest = 1.0 / (1.0 + s * directions.rest);
        outside_[k] = static_cast<float>(rest);
        for (int i = 0; i < directions.rank; ++i) {
            inside_[k * directions.rank + i] =
                static_cast<float>(1.0 / (1.0 + s * directions.moment[i]) - rest);
        }
    }
}

void Preconditioner::apply(const float* r, float* out) {
    const std::int64_t ld = directions_.ld;
    const int rank = directions_.rank, width = static_cast<int>(ld);
    const auto mixed = [&](bool back, const float* from, float* to) {
        std::vector<const float*> line(classes_);
        std::vector<float> coefficient(classes_);
        for (int k = 0; k < classes_; ++k) line[k] = from + k * ld;
        for (int m = 0; m < classes_; ++m) {
            for (int k = 0; k < classes_; ++k) {
                coefficient[k] =
                    static_cast<float>(back ? turn_[k * classes_ + m] : turn_[m * classes_ + k]);
            }
            std::fill_n(to + m * ld, ld, 0.0f);
            kernels().f32.update_list(to + m * ld, line.data(), coefficient.data(), classes_,
                                      width);
        }
    };
    mixed(false, r, turned_.data());
    if (rank > 0) {
        kernels().f32.dots(turned_.data(), ld, classes_, directions_.basis.data(), ld, rank, width,
                           seen_.data(), rank);
    }
    std::vector<const float*> line(rank);
    for (int i = 0; i < rank; ++i) line[i] = directions_.basis.data() + i * ld;
    for (int k = 0; k < classes_; ++k) {
        float* scaled = turned_.data() + k * ld;
        for (std::int64_t j = 0; j < ld; ++j) scaled[j] *= outside_[k];
        float* seen = seen_.data() + static_cast<std::int64_t>(k) * rank;
        for (int i = 0; i < rank; ++i) seen[i] *= inside_[k * rank + i];
        kernels().f32.update_list(scaled, line.data(), seen, rank, width);
    }
    mixed(true, turned_.data(), out);
}

}  // namespace lead_fast
