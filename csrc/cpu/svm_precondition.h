// A preconditioner of the SVM's Newton equations: classes times leading directions of the rows.
#pragma once

#include <vector>

#include "aligned.h"
#include "svm_active_rows.h"

namespace lead_fast {

// Leading eigenvectors of the second moment of some rows, by subspace iteration.
struct Directions {
    std::int64_t ld = 0;
    int rank = 0;
    AlignedBuffer<float> basis;  // (rank, ld), orthonormal
    std::vector<double> moment;  // (rank) their eigenvalues, per row
    double rest = 0.0;           // the mean of the other eigenvalues
};

// Numbers that finding the directions takes.
std::int64_t directions_size(std::int64_t ld);

// Of some rows of the list, evenly spread. square[i] is <z_i, z_i> + 1 of sample i.
Directions leading_directions(const ActiveRows& rows, const std::vector<std::int64_t>& list,
                              const std::vector<float>& square, int threads);

// The inverse of I + L (x) S for the curvature L between classes, summed over rows, and the second
// moment S of a row. That the classes in play and the position of a row have nothing to do with
// one another is what makes it an approximation.
class Preconditioner {
  public:
    // between (classes, classes), symmetric and positive semi-definite.
    Preconditioner(const Directions& directions, std::vector<double> between, int classes);

    // out = M^-1 r, both (classes, ld).
    void apply(const float* r, float* out);

  private:
    const Directions& directions_;
    const int classes_;
    std::vector<double> turn_;             // (mode, class)
    std::vector<float> outside_, inside_;  // (mode), (mode, rank)
    AlignedBuffer<float> turned_, seen_;   // (mode, ld), (mode, rank)
};

}  // namespace lead_fast
