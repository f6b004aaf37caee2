#include "tridiagonal.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "../tridiagonal.h"
#include "barrier.h"

namespace lead_fast {
namespace {

struct Meeting {
    explicit Meeting(int size) : barrier(size), slots(2 * static_cast<std::size_t>(size)) {}
    Barrier barrier;
    std::vector<double> slots;
};

// Threads that meet at a barrier, as those of a block do.
class ThreadTeam {
  public:
    ThreadTeam(Meeting& meeting, int own_rank, int team_size)
        : rank(own_rank), size(team_size), meeting_(meeting) {}

    void sync() { meeting_.barrier.wait(); }

    double sum(double x) {
        double* const slots = meeting_.slots.data() + turn_ * size;
        turn_ ^= 1;  // a slow thread may still read the other half
        slots[rank] = x;
        sync();
        double total = 0.0;
        for (int i = 0; i < size; ++i) total += slots[i];
        return total;
    }

    const int rank, size;

  private:
    Meeting& meeting_;
    int turn_ = 0;
};

}  // namespace

void team_eigenvalues(const double* matrix, std::int64_t n, int size, double* values) {
    if (n == 0) return;
    const int side = static_cast<int>(n), lda = side | 1;
    std::vector<double> a(static_cast<std::size_t>(n) * lda), diagonal(n), square(n), reflector(n),
        update(n), partial(std::max<std::int64_t>(n, size));
    std::vector<int> counts(size);
    double largest = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
            a[i * lda + j] = matrix[i * n + j];
            largest = std::max(largest, std::fabs(matrix[i * n + j]));
        }
    }
    const TridiagonalScratch scratch{
        a.data(),         lda,           diagonal.data(), square.data(),
        reflector.data(), update.data(), partial.data(),  counts.data()};
    Meeting meeting(size);
    const auto work = [&](int rank) {
        ThreadTeam team(meeting, rank, size);
        symmetric_eigenvalues(team, side, largest, scratch, values);
    };
    std::vector<std::thread> others;
    for (int rank = 1; rank < size; ++rank) others.emplace_back(work, rank);
    work(0);
    for (std::thread& thread : others) thread.join();
}

}  // namespace lead_fast
