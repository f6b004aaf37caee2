// What the sweeps and the certificate of the dual solver share.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../svm.h"
#include "aligned.h"
#include "mapped_rows.h"

namespace lead_fast {

// A pair is frozen if its gradient points out of the box by more than this share of the largest
// violation of the last sweep.
constexpr double kFreezeAbove = 0.3;

// A working set is dealt anew when less than this share of its rows is awake.
constexpr double kCompactBelow = 0.7;

// The certified gap, that of the averaged weights, is hardly ever more than this share of
// coordinate descent's estimate of it (plain hinge).
constexpr double kGapOfAverage = 0.9;

// splitmix64: the order of visits asks for no better random numbers than these.
inline std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

template <class T>
void shuffle(T* items, std::int64_t n, std::uint64_t seed) {
    for (std::int64_t i = n - 1; i > 0; --i) {
        seed = mix(seed);
        std::swap(items[i], items[seed % static_cast<std::uint64_t>(i + 1)]);
    }
}

// Rows that are visited sweep after sweep, dealt into blocks. What a visit needs of them is kept:
// the inner products within a block, and, as far as memory allows, the mapped rows themselves.
template <class T>
struct WorkingSet {
    bool everyone = false;
    int block_size = 0;
    std::int64_t size = 0;  // rows
    std::vector<std::int64_t>
        rows;                 // (blocks, block_size) as dealt; the end of a block may be void
    std::vector<int> count;   // (blocks) rows in a block
    std::vector<bool> holds;  // (n) whether a row is in
    AlignedBuffer<T> gram;    // (block, block_size, block_size)
    AlignedBuffer<T> store;   // (stored block, chunk, block_size, padded width of the chunk)

    std::int64_t blocks() const { return static_cast<std::int64_t>(count.size()); }
    std::int64_t begin(std::int64_t block) const { return block * block_size; }
    std::int64_t end(std::int64_t block) const { return begin(block) + count[block]; }
    // A member's columns of a chunk, or null where they have to be read from the features.
    const T* stored(const MappedRows& x, std::int64_t block, int member, int chunk) const {
        const std::int64_t row = block * block_size * padded(x.columns());
        if (everyone || row + block_size * padded(x.columns()) > stored_size()) return nullptr;
        return store.data() + row + block_size * x.begin(chunk) +
               static_cast<std::int64_t>(member) * x.padded_width(chunk);
    }
    std::int64_t stored_size() const { return static_cast<std::int64_t>(store.size()); }
};

// Whether Newton's method has been tried.
enum class Finish { none, begun, failed };

// The solver's state in float32, or in float64 where float32 cannot reach the tolerance.
template <class T>
struct SvmState {
    SvmState(const MappedRows& mapped, const std::int32_t* class_numbers, int n_classes,
             const SvmOptions& chosen);
    // Goes on from the multipliers of a solver in float32.
    explicit SvmState(const SvmState<float>& from);

    const MappedRows& rows;
    const std::int32_t* labels;
    const SvmOptions& options;
    const int classes;
    const int stride;        // padded(classes)
    const std::int64_t ldw;  // padded(columns)

    AlignedBuffer<T> weights;            // (classes, ldw) the sum of all changes so far
    AlignedBuffer<T> average;            // (classes, ldw) the same, averaged over the last sweeps
    std::vector<T> bias;                 // (classes)
    std::vector<T> average_bias;         // (classes)
    AlignedBuffer<T> alpha;              // (n, stride), the columns beyond classes 0
    std::vector<T> square;               // (n) <z, z> + 1
    std::vector<float> gap;              // (n) shares of the duality gap met at the last visits
    AlignedBuffer<std::int8_t> frozen;   // (n, stride) -1, 0, +1: see DualBlock::frozen
    std::vector<std::int32_t> awake;     // (n) pairs of the sample that are not frozen
    std::vector<std::int32_t> due;       // (n) the sweep in which the sample is visited next
    std::vector<std::int64_t> sequence;  // (n) rows in the order in which they are dealt to blocks
    AlignedBuffer<T> violation;          // (stride) the largest of the last sweep or inspection
    WorkingSet<T> working;
    double typical_move = 0.0;
    double full_gap = INFINITY;  // when all samples were looked at last
    double hidden_gap = 1.2;     // its ratio to the estimate before, of the working set alone
    double dual_terms = 0.0;     // sum alpha - (hinge 2) |alpha|^2 / (4C)
    Finish finishing = Finish::none;
    float step = 0.0f;  // of the multipliers, in Newton's method
};

// Makes a working set of the rows that are not frozen, at first of all rows; adds to the one there
// is while few of its rows have been frozen. svm_working_set.cpp.
template <class T>
void update_working_set(SvmState<T>& state);

// Looks at all samples with the weights as they are: their shares of the gap, C loss - <alpha, g>,
// and what is frozen. Returns the sum of the shares. svm_working_set.cpp.
template <class T>
double inspect(SvmState<T>& state, double freeze_above);

// Bytes that may be taken beside the multipliers; negative where these alone take too many.
// svm_working_set.cpp.
template <class T>
double memory_left(const SvmState<T>& state);

// Whether the memory for Newton's method is there, which grows with the awake rows and with the
// classes. svm_newton.cpp.
bool finish_fits(const SvmState<float>& state);

// Newton's method from the averaged weights and the multipliers, until the relative gap is at most
// `target` or a limit is reached; returns the gap that it estimates. The weights of the state are
// then its primal ones. Weston-Watkins with the plain hinge only. Throws Interrupted.
// svm_newton.cpp.
double finish(SvmState<float>& state, double target, SvmReport& report);

// Visits blocks until the gap estimated from what the visits met is at most `target`, or the pass
// limit; returns the estimate. Throws Interrupted. svm_sweep.cpp.
template <class T>
double sweep(SvmState<T>& state, double target, SvmReport& report);

// Pairs that a sample with so many free places is not at a bound for: the label's own place is no
// variable in the all-in-one forms.
inline int free_pairs(int places, SvmForm form) {
    return form == SvmForm::one_vs_rest ? places : places - 1;
}

}  // namespace lead_fast
