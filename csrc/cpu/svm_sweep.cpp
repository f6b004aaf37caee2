// Dual block coordinate descent on a working set of rows.
//
// A visit of a block of B rows
//   1. takes its mapped rows from the working set, or maps them into a small tile,
//   2. takes the decision values of the whole block, F = Z W^T + b: a small matrix product,
//   3. solves the samples' sub-problems one after the other, exactly; each change reaches the later
//      samples of the block through the B x B Gram matrix of the block, so that the iterates are
//      those of plain coordinate descent and not of a stale mini-batch,
//   4. adds all changes to W at once: a second small matrix product.
// Threads share out the chunks of columns in steps 1, 2 and 4. Step 3 is short; every thread does
// it for itself, so one barrier per block is enough. Sums over chunks are taken in one order: the
// result does not depend on the number of threads.
//
// Most pairs of sample and class soon stand at a bound of their multiplier. They are frozen
// (shrinking), samples that hardly move are visited less often, and what is still awake makes the
// next working set. In between all samples are looked at (svm_working_set.cpp). When that is due is
// decided by an estimate of the duality gap that costs nothing: the gap is a sum of non-negative
// shares of the samples, each known when its sample is visited. What the estimate suggests is
// certified in svm.cpp.

#include <omp.h>

#include <exception>
#include <memory>
#include <numeric>

#include "barrier.h"
#include "svm_state.h"

namespace lead_fast {
namespace {

// Sweeps over all rows before the first working set: the first measures violations, the second
// freezes what is far from them.
constexpr int kOpeningSweeps = 2;
// A working set is looked beyond after so many sweeps, or when the estimated gap has fallen to this
// share of what it was then.
constexpr int kLongestSleep = 60;
constexpr double kWakeBelow = 0.15;
// The estimate of the gap has a noise floor in float32: after so many looks at everything the
// certificate decides.
constexpr int kCertifyAfter = 5;
constexpr double kDoubtful = 5e-4;
// Weight of the newest sweep in the averaged weights: single iterates of coordinate descent have a
// primal objective several times further from the optimum than their average.
constexpr double kAverageShare = 0.25;

template <class T>
struct Exchange {
    explicit Exchange(const SvmState<T>& s)
        : per_chunk(static_cast<std::size_t>(kTileRows) * s.stride), chunk_square(s.rows.chunks()) {
        for (int i = 0; i < 2; ++i) {
            decision[i] = AlignedBuffer<T>(per_chunk * s.rows.chunks(), T(0));
        }
    }
    const std::size_t per_chunk;
    // Partial sums of each chunk. Two of each: a thread may fill one while a slower one still reads
    // the other.
    AlignedBuffer<T> decision[2];      // (chunk, row, stride)
    std::vector<double> chunk_square;  // |W|^2 of each chunk
    bool stop = false;
};

// Why a round of sweeps ends.
enum class Stop { none, interrupted, target, exhausted, look, compact };

template <class T>
class Worker {
  public:
    Worker(SvmState<T>& s, Exchange<T>& exchange, Barrier& barrier, int me, int team)
        : s_(s),
          set_(s.working),
          exchange_(exchange),
          barrier_(barrier),
          me_(me),
          team_(team),
          first_chunk_(s.rows.chunks() * me / team),
          last_chunk_(s.rows.chunks() * (me + 1) / team),
          tile_(static_cast<std::size_t>(last_chunk_ - first_chunk_) * kTileRows * kChunk),
          line_(static_cast<std::size_t>(last_chunk_ - first_chunk_) * kTileRows),
          ahead_(line_.size()),
          decision_(static_cast<std::size_t>(kTileRows) * s.stride),
          alpha_(static_cast<std::size_t>(kTileRows) * s.stride),
          frozen_(static_cast<std::size_t>(kTileRows) * s.stride),
          change_(static_cast<std::size_t>(kTileRows) * s.stride),
          movers_change_(static_cast<std::size_t>(kTileRows) * s.stride),
          scratch_(static_cast<std::size_t>(4) * s.stride),
          threshold_(s.stride, T(0)),
          violation_(s.stride),
          bias_(s.stride, T(0)),
          listed_(static_cast<std::size_t>(kTileRows) * s.classes + 1),
          changing_(static_cast<std::size_t>(kTileRows) * s.classes + 1),
          change_start_(s.classes + 1),
          coefficient_(static_cast<std::size_t>(kTileRows) * s.classes + 1),
          block_order_(set_.blocks()),
          dual_terms_(s.dual_terms),
          total_gap_(std::accumulate(s.gap.begin(), s.gap.end(), 0.0)),
          typical_move_(s.typical_move) {
        std::copy_n(s.violation.data(), s.stride, violation_.data());
        std::copy(s.bias.begin(), s.bias.end(), bias_.data());
        std::iota(block_order_.begin(), block_order_.end(), std::int64_t{0});
    }

    // Sweeps over the working set; all threads stop at the same one.
    Stop run(double target, SvmReport& report) {
        const double passes_before = report.passes;  // thread 0 changes the report when it is done
        sweep_ = report.sweeps;
        for (int done = 1;; ++done) {
            shuffle(block_order_.data(), set_.blocks(), mix(s_.options.seed ^ mix(sweep_ + 1)));
            std::swap(threshold_, violation_);
            for (int k = 0; k < s_.stride; ++k) threshold_[k] *= static_cast<T>(kFreezeAbove);
            violation_.fill(T(0));
            moved_ = 0.0;
            visits_ = awake_rows_ = 0;
            for (std::int64_t at = 0; at < set_.blocks(); ++at) {
                visit(block_order_[at], from(at + 1), from(at + 2));
            }
            typical_move_ = visits_ > 0 ? moved_ / static_cast<double>(visits_) : 0.0;
            ++sweep_;
            gap_ = finish_sweep();
            const bool exhausted = passes_before + passes() >= s_.options.max_passes;
            const Stop why = reason(done, target);
            if (!exchange_.stop && !exhausted && why == Stop::none) continue;
            if (me_ == 0) keep_totals(report);
            return exchange_.stop ? Stop::interrupted : exhausted ? Stop::exhausted : why;
        }
    }

    double gap() const { return gap_; }

  private:
    Stop reason(int done, double target) const {
        const double rows = static_cast<double>(set_.size);
        if (set_.everyone) {
            if (gap_ <= target) return Stop::target;
            return done >= kOpeningSweeps ? Stop::compact : Stop::none;
        }
        if (s_.hidden_gap * gap_ <= target || gap_ <= kWakeBelow * s_.full_gap ||
            done >= kLongestSleep)
            return Stop::look;
        const bool sparse = static_cast<double>(awake_rows_) < kCompactBelow * rows;
        return sparse ? Stop::compact : Stop::none;
    }

    // The block at a place of the sweep; -1: none.
    std::int64_t from(std::int64_t at) const { return at < set_.blocks() ? block_order_[at] : -1; }

    void visit(std::int64_t block, std::int64_t next, std::int64_t after) {
        if (after >= 0) ask_for_counts(after);
        plan_ahead(next);
        if (!gather(block)) return;  // all frozen or at rest: the same for every thread
        parity_ ^= 1;
        multiply(block);
        barrier_.wait();
        reduce();
        solve(block);
        apply();
    }

    bool visited(std::int64_t i) const { return s_.awake[i] > 0 && s_.due[i] <= sweep_; }

    // Takes what another thread may overwrite after the barrier.
    bool gather(std::int64_t block) {
        count_ = pairs_ = 0;
        for (std::int64_t at = set_.begin(block); at < set_.end(block); ++at) {
            const std::int64_t i = set_.rows[at];
            if (s_.awake[i] == 0) continue;
            ++awake_rows_;
            if (s_.due[i] > sweep_) continue;
            const int m = count_++;
            std::copy_n(s_.alpha.data() + i * s_.stride, s_.stride, alpha_.data() + m * s_.stride);
            kernels_of<T>().decode_frozen(s_.frozen.data() + i * s_.stride,
                                          frozen_.data() + m * s_.stride, s_.stride);
            row_[m] = i;
            member_[m] = static_cast<int>(at - set_.begin(block));
            label_[m] = s_.labels[i];
            square_[m] = s_.square[i];
            old_gap_[m] = s_.gap[i];
            order_[m] = m;
            pairs_ += std::min(s_.classes, s_.awake[i] + 1);
        }
        return count_ > 0;
    }

    T* tile(int chunk) {
        return tile_.data() + static_cast<std::size_t>(chunk - first_chunk_) * kTileRows * kChunk;
    }
    const T** line(int chunk) { return line_.data() + (chunk - first_chunk_) * kTileRows; }

    // Steps 1 and 2 on this thread's chunks.
    void multiply(std::int64_t block) {
        const bool dense = 2 * pairs_ > count_ * s_.classes;
        if (!dense) list_classes();
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            const int width = s_.rows.padded_width(chunk);
            const T* w = s_.weights.data() + s_.rows.begin(chunk);
            const T** z = line(chunk);
            T* part = exchange_.decision[parity_].data() + chunk * exchange_.per_chunk;
            // Rows are mapped just before they are multiplied, while they are in the innermost
            // cache.
            const auto fetch = [&](int m) {
                z[m] = set_.stored(s_.rows, block, member_[m], chunk);
                if (z[m] != nullptr) return;
                s_.rows.read(row_[m], chunk, tile(chunk) + m * kChunk);
                z[m] = tile(chunk) + m * kChunk;
            };
            if (dense) {
                for (int m = 0; m < count_; m += kLines) {
                    const int rows = std::min(kLines, count_ - m);
                    for (int r = m; r < m + rows; ++r) fetch(r);
                    kernels_of<T>().dots_lines(z + m, rows, w, s_.ldw, s_.classes, width,
                                               part + m * s_.stride, s_.stride, nullptr, 0);
                }
                continue;
            }
            for (int m = 0; m < count_; ++m) {
                fetch(m);
                T* out = part + m * s_.stride;
                std::fill(out, out + s_.stride, T(0));
                kernels_of<T>().dots_list(z[m], w, s_.ldw, listed_.data() + list_start_[m],
                                          list_start_[m + 1] - list_start_[m], width, out);
            }
        }
    }

    // The classes of each row whose decision values are needed.
    void list_classes() {
        int at = 0;
        for (int m = 0; m < count_; ++m) {
            const T* frozen = frozen_.data() + m * s_.stride;
            list_start_[m] = at;
            for (int k = 0; k < s_.classes; ++k) {
                listed_[at] = k;
                at += (frozen[k] == T(0)) | (k == label_[m]);
            }
        }
        list_start_[count_] = at;
    }

    // The rows that change each class, and by how much.
    void list_changes() {
        int at = 0;
        for (int k = 0; k < s_.classes; ++k) {
            change_start_[k] = at;
            for (int i = 0; i < movers_; ++i) {
                const int m = mover_[i];
                const T c = change_[m * s_.stride + k];
                changing_[at] = m;
                coefficient_[at] = c;
                at += c != T(0);
            }
        }
        change_start_[s_.classes] = at;
    }

    // The rows of a block are anywhere in the arrays of the state: what tells which of them will be
    // visited is asked for two blocks ahead, the rest of them one.
    void ask_for_counts(std::int64_t block) const {
        for (std::int64_t at = set_.begin(block); at < set_.end(block); ++at) {
            __builtin_prefetch(&s_.awake[set_.rows[at]]);
            __builtin_prefetch(&s_.due[set_.rows[at]]);
        }
    }

    // Asks for the state of the next block's rows, and lists where this thread's columns of them
    // lie: those are asked for while this block is solved. -1: no block.
    void plan_ahead(std::int64_t block) {
        spans_ = 0;
        if (block < 0) return;
        for (std::int64_t at = set_.begin(block); at < set_.end(block); ++at) {
            const std::int64_t i = set_.rows[at];
            if (!visited(i)) continue;
            for (int k = 0; k < s_.stride; k += 64 / static_cast<int>(sizeof(T))) {
                __builtin_prefetch(&s_.alpha[i * s_.stride + k]);
            }
            for (int k = 0; k < s_.stride; k += 64) {
                __builtin_prefetch(&s_.frozen[i * s_.stride + k]);
            }
            __builtin_prefetch(&s_.labels[i]);
            __builtin_prefetch(&s_.square[i]);
            __builtin_prefetch(&s_.gap[i]);
            const int member = static_cast<int>(at - set_.begin(block));
            for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
                const T* kept = set_.stored(s_.rows, block, member, chunk);
                ahead_[spans_++] =
                    kept == nullptr
                        ? s_.rows.span(i, chunk)
                        : Span{reinterpret_cast<const char*>(kept),
                               s_.rows.padded_width(chunk) * static_cast<int>(sizeof(T))};
            }
        }
    }

    void reduce() {
        const T* parts = exchange_.decision[parity_].data();
        for (int m = 0; m < count_; ++m) {
            T* f = decision_.data() + m * s_.stride;
            std::copy_n(bias_.data(), s_.stride, f);
            for (int chunk = 0; chunk < s_.rows.chunks(); ++chunk) {
                const T* part = parts + chunk * exchange_.per_chunk + m * s_.stride;
                for (int k = 0; k < s_.stride; ++k) f[k] += part[k];
            }
        }
    }

    // Step 3, by every thread; each keeps the results of its share of the rows.
    void solve(std::int64_t block) {
        const std::uint64_t draw = static_cast<std::uint64_t>(block) * 0x9e3779b9ull + sweep_;
        shuffle(order_, count_, mix(s_.options.seed + mix(draw)));
        DualBlock<T> b{};
        b.form = s_.options.form;
        b.hinge = s_.options.hinge;
        b.cost = static_cast<T>(s_.options.cost);
        b.rows = count_;
        b.classes = s_.classes;
        b.stride = s_.stride;
        b.order = order_;
        b.labels = label_;
        b.square = square_;
        b.gram = set_.gram.data() + block * set_.block_size * set_.block_size;
        b.gram_stride = set_.block_size;
        b.member = member_;
        b.threshold = threshold_.data();
        b.violation = violation_.data();
        b.decision = decision_.data();
        b.alpha = alpha_.data();
        b.frozen = frozen_.data();
        b.change = change_.data();
        b.gap = gap_of_;
        b.moved = move_;
        b.changed = changed_;
        b.scratch = scratch_.data();
        b.ahead = ahead_.data();
        b.spans = spans_;
        kernels_of<T>().solve_block(b);

        dual_terms_ += b.dual_gain;
        pairs_visited_ += pairs_;
        visits_ += count_;
        movers_ = 0;
        for (int m = 0; m < count_; ++m) {
            total_gap_ += static_cast<double>(static_cast<float>(gap_of_[m]) - old_gap_[m]);
            moved_ += static_cast<double>(move_[m]);
            if (changed_[m]) {
                const T* change = change_.data() + m * s_.stride;
                for (int k = 0; k < s_.classes; ++k) bias_[k] += change[k];
                mover_[movers_++] = m;
            }
            if (m % team_ == me_) keep(m);  // each row by one thread
        }
    }

    void keep(int m) {
        const std::int64_t i = row_[m];
        s_.gap[i] = static_cast<float>(gap_of_[m]);
        // A sample that moves less than is typical is visited less often.
        const double move = static_cast<double>(move_[m]);
        s_.due[i] = sweep_ + (move >= typical_move_          ? 1
                              : move >= 0.5 * typical_move_  ? 2
                              : move >= 0.25 * typical_move_ ? 3
                                                             : 8);
        if (changed_[m]) {
            std::copy_n(alpha_.data() + m * s_.stride, s_.stride, s_.alpha.data() + i * s_.stride);
        }
        const int places = kernels_of<T>().encode_frozen(
            frozen_.data() + m * s_.stride, s_.frozen.data() + i * s_.stride, s_.stride);
        s_.awake[i] = free_pairs(places, s_.options.form);
    }

    // Step 4 on this thread's chunks.
    void apply() {
        if (movers_ == 0) return;
        const bool dense = 2 * pairs_ > count_ * s_.classes;
        if (dense) {
            for (int m = 0; m < movers_; ++m) {
                std::copy_n(change_.data() + mover_[m] * s_.stride, s_.stride,
                            movers_change_.data() + m * s_.stride);
            }
        } else {
            list_changes();
        }
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            T* w = s_.weights.data() + s_.rows.begin(chunk);
            const int width = s_.rows.padded_width(chunk);
            const T** z = line(chunk);
            const T* mine[kTileRows];
            if (dense) {
                for (int m = 0; m < movers_; ++m) mine[m] = z[mover_[m]];
                kernels_of<T>().update(w, s_.ldw, s_.classes, mine, movers_, movers_change_.data(),
                                       s_.stride, width);
                continue;
            }
            for (int k = 0; k < s_.classes; ++k) {
                const int first = change_start_[k], rows = change_start_[k + 1] - first;
                if (rows == 0) continue;
                for (int r = 0; r < rows; ++r) mine[r] = z[changing_[first + r]];
                kernels_of<T>().update_list(w + k * s_.ldw, mine, coefficient_.data() + first, rows,
                                            width);
            }
        }
    }

    // Averages the weights, and estimates the gap: the sum of the samples' shares in it, as met at
    // their last visits. Frozen pairs have none.
    double finish_sweep() {
        const T share = sweep_ == 1 ? T(1) : static_cast<T>(kAverageShare);
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            double total = 0.0;
            for (int k = 0; k < s_.classes; ++k) {
                const std::int64_t at = k * s_.ldw + s_.rows.begin(chunk);
                const T* w = s_.weights.data() + at;
                T* average = s_.average.data() + at;
                const int width = s_.rows.width(chunk);
                for (int j = 0; j < width; ++j) average[j] += share * (w[j] - average[j]);
                total += kernels_of<T>().square_norm(w, width);
            }
            exchange_.chunk_square[chunk] = total;
        }
        if (me_ == 0) {
            for (int k = 0; k < s_.classes; ++k) {
                s_.average_bias[k] += share * (bias_[k] - s_.average_bias[k]);
            }
            exchange_.stop = s_.options.interrupt();
        }
        barrier_.wait();
        double square = 0.0;
        for (double part : exchange_.chunk_square) square += part;
        square += kernels_of<T>().square_norm(bias_.data(), s_.classes);
        const double dual = dual_terms_ - 0.5 * square;
        const double gap = total_gap_ / (dual + total_gap_);
        // The all-in-one forms are one problem with one threshold.
        if (s_.options.form != SvmForm::one_vs_rest) violation_.fill(violation_[0]);
        barrier_
            .wait();  // nobody may start the next sweep's exchange before all have read this one
        return gap;
    }

    // Visits of this call, in passes over all pairs.
    double passes() const {
        const double pairs = static_cast<double>(s_.classes) * static_cast<double>(s_.rows.size());
        return static_cast<double>(pairs_visited_) / pairs;
    }

    void keep_totals(SvmReport& report) {
        report.sweeps = sweep_;
        report.passes += passes();
        std::copy_n(bias_.data(), s_.classes, s_.bias.begin());
        std::copy_n(violation_.data(), s_.stride, s_.violation.data());
        s_.dual_terms = dual_terms_;
        s_.typical_move = typical_move_;
    }

    SvmState<T>& s_;
    const WorkingSet<T>& set_;
    Exchange<T>& exchange_;
    Barrier& barrier_;
    const int me_, team_, first_chunk_, last_chunk_;
    AlignedBuffer<T> tile_;
    std::vector<const T*> line_;  // (chunk, row) the columns of the rows of this visit
    std::vector<Span> ahead_;     // (spans) those of the rows of the next one
    AlignedBuffer<T> decision_, alpha_, frozen_, change_, movers_change_, scratch_;
    AlignedBuffer<T> threshold_, violation_, bias_;
    std::vector<int> listed_, changing_, change_start_;  // see list_classes, list_changes
    std::vector<T> coefficient_;
    int list_start_[kTileRows + 1];
    std::vector<std::int64_t> block_order_;
    double dual_terms_, total_gap_, gap_ = INFINITY, moved_ = 0.0, typical_move_;
    std::int64_t pairs_visited_ = 0, visits_ = 0, awake_rows_ = 0;
    int sweep_ = 0, parity_ = 0, count_ = 0, pairs_ = 0, movers_ = 0, spans_ = 0;
    std::int64_t row_[kTileRows];
    int member_[kTileRows], order_[kTileRows], changed_[kTileRows], mover_[kTileRows];
    std::int32_t label_[kTileRows];
    T square_[kTileRows], gap_of_[kTileRows], move_[kTileRows];
    float old_gap_[kTileRows];
};

// One round of sweeps by a team of threads; the estimated gap.
template <class T>
Stop sweep_working_set(SvmState<T>& state, double target, SvmReport& report, double& estimate) {
    Exchange<T> exchange(state);
    std::unique_ptr<Barrier> barrier;
    std::vector<Worker<T>> workers;
    std::exception_ptr failure;
    Stop stop = Stop::none;
#pragma omp parallel num_threads(std::max(1, std::min(state.options.threads, state.rows.chunks())))
    {
        // OpenMP may grant fewer threads than asked for: the team is made here. All allocation is
        // done before the first barrier, by one thread.
#pragma omp single
        try {
            const int team = omp_get_num_threads();
            barrier = std::make_unique<Barrier>(team);
            workers.reserve(team);
            for (int t = 0; t < team; ++t) workers.emplace_back(state, exchange, *barrier, t, team);
        } catch (...) {
            failure = std::current_exception();
        }
        if (!failure) {
            const int me = omp_get_thread_num();
            const Stop why = workers[me].run(target, report);
            if (me == 0) stop = why;
        }
    }
    if (failure) std::rethrow_exception(failure);
    if (stop == Stop::interrupted) throw Interrupted{};
    estimate = workers[0].gap();
    return stop;
}

// Of the gap at the weights of the multipliers.
template <class T>
double relative_gap(const SvmState<T>& s, double gap) {
    double square = kernels_of<T>().square_norm(s.bias.data(), s.classes);
    for (int k = 0; k < s.classes; ++k) {
        square += kernels_of<T>().square_norm(s.weights.data() + k * s.ldw, s.rows.columns());
    }
    return gap / (s.dual_terms - 0.5 * square + gap);
}

// Newton's method takes over below this gap, and works down to this one.
constexpr double kFinishBelow = 0.06;
constexpr double kFinestFinish = 1e-4;
// Before it takes over, a pair is only frozen further from its bound: a row that is missing in the
// working set costs another round, one too many costs little.
constexpr double kFreezeForFinish = 1.0;

bool worth_finishing(const SvmState<float>& s, double gap, double target) {
    return s.options.form == SvmForm::weston_watkins && s.options.hinge == 1 &&
           s.finishing != Finish::failed && gap <= kFinishBelow && gap > target &&
           target >= kFinestFinish;
}
bool worth_finishing(const SvmState<double>&, double, double) { return false; }
bool finish_fits(const SvmState<double>&) { return false; }
double finish(SvmState<double>&, double gap, SvmReport&) { return gap; }

}  // namespace

template <class T>
double sweep(SvmState<T>& s, double target, SvmReport& report) {
    if (s.finishing == Finish::begun && worth_finishing(s, kFinishBelow, target)) {
        return finish(s, target, report);
    }
    int looks = 0;
    for (;;) {
        update_working_set(s);
        double gap;
        const Stop stop = sweep_working_set(s, target, report, gap);
        if (stop == Stop::compact && !s.working.everyone) continue;
        if (!s.working.everyone && stop == Stop::look) {
            const double before = gap;
            const double above =
                worth_finishing(s, before, target) ? kFreezeForFinish : kFreezeAbove;
            gap = relative_gap(s, inspect(s, above));
            report.passes += 1.0;
            s.hidden_gap = std::clamp(gap / before, 1.0, 3.0);
            if (worth_finishing(s, gap, target) && finish_fits(s)) return finish(s, target, report);
        }
        s.full_gap = gap;
        ++looks;
        const bool doubtful = gap < kDoubtful && looks >= kCertifyAfter;
        const bool exhausted = report.passes >= s.options.max_passes;
        if (gap <= target || doubtful || exhausted) return gap;
    }
}

template double sweep(SvmState<float>&, double, SvmReport&);
template double sweep(SvmState<double>&, double, SvmReport&);

}  // namespace lead_fast
