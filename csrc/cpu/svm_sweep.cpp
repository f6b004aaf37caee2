// Dual block coordinate descent.
//
// The rows are dealt once into random blocks of B. A visit of a block
//   1. maps its rows into a small float32 tile,
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
// (shrinking), and samples that hardly move are visited less often; sweeps over everything come in
// between. How many is decided by an estimate of the duality gap that costs nothing: the gap is a
// sum of non-negative shares of the samples, each known when its sample is visited. What the
// estimate suggests is certified in svm.cpp.

#include <omp.h>

#include <exception>
#include <memory>
#include <numeric>

#include "barrier.h"
#include "svm_state.h"

namespace lead_fast {
namespace {

constexpr float kInfinity = INFINITY;
// A pair is frozen if its gradient points out of the box by more than this share of the largest
// violation of the last sweep.
constexpr double kFreezeAbove = 0.1;
// All pairs are visited again after so many sweeps, or when the estimated gap has fallen to this
// share of what it was then.
constexpr int kLongestSleep = 40;
constexpr double kWakeBelow = 0.2;
// The estimate of the gap has a noise floor in float32: after so many sweeps over everything the
// certificate decides.
constexpr int kCertifyAfter = 5;
constexpr double kDoubtful = 5e-4;
// Weight of the newest sweep in the averaged weights: single iterates of coordinate descent have a
// primal objective several times further from the optimum than their average.
constexpr double kAverageShare = 0.25;

template <class T>
struct Exchange {
    explicit Exchange(const SvmState<T>& s)
        : per_chunk(static_cast<std::size_t>(kTileRows) * s.stride),
          gram_per_chunk(static_cast<std::size_t>(kTileRows) * kTileRows),
          chunk_square(s.rows.chunks()) {
        for (int i = 0; i < 2; ++i) {
            decision[i] = AlignedBuffer<T>(per_chunk * s.rows.chunks());
            if (!s.gram_known) gram[i] = AlignedBuffer<T>(gram_per_chunk * s.rows.chunks());
        }
    }
    const std::size_t per_chunk, gram_per_chunk;
    // Partial sums of each chunk. Two of each: a thread may fill one while a slower one still reads
    // the other.
    AlignedBuffer<T> decision[2];      // (chunk, row, stride)
    AlignedBuffer<T> gram[2];          // (chunk, row, row)
    std::vector<double> chunk_square;  // |W|^2 of each chunk
    bool stop = false;
};

template <class T>
class Worker {
  public:
    Worker(SvmState<T>& s, Exchange<T>& exchange, Barrier& barrier, int me, int team)
        : s_(s),
          exchange_(exchange),
          barrier_(barrier),
          me_(me),
          team_(team),
          first_chunk_(s.rows.chunks() * me / team),
          last_chunk_(s.rows.chunks() * (me + 1) / team),
          tile_(static_cast<std::size_t>(last_chunk_ - first_chunk_) * kTileRows * kChunk),
          decision_(static_cast<std::size_t>(kTileRows) * s.stride),
          alpha_(static_cast<std::size_t>(kTileRows) * s.stride),
          frozen_(static_cast<std::size_t>(kTileRows) * s.stride),
          change_(static_cast<std::size_t>(kTileRows) * s.stride),
          movers_change_(static_cast<std::size_t>(kTileRows) * s.stride),
          gram_(static_cast<std::size_t>(kTileRows) * kTileRows),
          scratch_(3 * static_cast<std::size_t>(s.stride)),
          threshold_(s.stride, kInfinity),
          violation_(s.stride, kInfinity),
          value_(s.stride),
          line_(s.classes),
          class_(s.classes),
          bias_(s.bias),
          block_order_(s.blocks),
          dual_terms_(s.dual_terms),
          total_gap_(std::accumulate(s.gap.begin(), s.gap.end(), 0.0)) {
        std::iota(block_order_.begin(), block_order_.end(), std::int64_t{0});
    }

    // All threads return at the same sweep; the estimated gap.
    double run(double target, SvmReport& report) {
        // What full sweeps have shown: the gap then, and how far the estimate before it had been
        // below.
        double full_gap = s_.full_gap, hidden = s_.hidden_gap, last_gap = kInfinity;
        int asleep = 0, full_sweeps = 0;
        const double passes_before = report.passes;  // thread 0 changes the report when it is done
        everyone_ = !s_.gram_known;
        learn_gram_ = !s_.gram_known;
        for (sweep_ = report.sweeps;;) {
            shuffle(block_order_.data(), s_.blocks, mix(s_.options.seed ^ mix(sweep_ + 1)));
            std::swap(threshold_, violation_);
            for (int k = 0; k < s_.stride; ++k) threshold_[k] *= static_cast<T>(kFreezeAbove);
            violation_.fill(T(0));
            moved_ = 0.0;
            visits_ = 0;
            for (std::int64_t at = 0; at < s_.blocks; ++at) {
                visit(block_order_[at], at + 1 < s_.blocks ? block_order_[at + 1] : -1);
            }
            typical_move_ = visits_ > 0 ? moved_ / static_cast<double>(visits_) : 0.0;
            ++sweep_;
            learn_gram_ = false;
            const double gap = finish_sweep();
            full_sweeps += everyone_;
            if (everyone_) {
                if (asleep > 0) hidden = std::clamp(gap / last_gap, 1.0, 3.0);
                full_gap = gap;
                asleep = 0;
            }
            last_gap = gap;
            const bool doubtful = gap < kDoubtful && full_sweeps >= kCertifyAfter;
            const bool certify = everyone_ && (gap <= target || doubtful);
            const bool exhausted = passes_before + passes() >= s_.options.max_passes;
            if (exchange_.stop || certify || exhausted) {
                if (me_ == 0) {
                    s_.full_gap = full_gap;
                    s_.hidden_gap = hidden;
                    keep_totals(report);
                }
                return gap;
            }
            everyone_ =
                hidden * gap <= target || gap <= kWakeBelow * full_gap || ++asleep >= kLongestSleep;
        }
    }

  private:
    void visit(std::int64_t block, std::int64_t next) {
        if (!gather(block)) return;  // all frozen: the same for every thread
        parity_ ^= 1;
        plan_prefetch(next);
        multiply();
        barrier_.wait();
        reduce(block);
        solve(block);
        apply();
    }

    bool visited(std::int64_t i) const {
        return everyone_ || (s_.awake[i] > 0 && s_.due[i] <= sweep_);
    }

    // Takes what another thread may overwrite after the barrier.
    bool gather(std::int64_t block) {
        const std::int64_t first = block * s_.block_size;
        const std::int64_t last = std::min(first + s_.block_size, s_.rows.size());
        count_ = pairs_ = 0;
        for (std::int64_t at = first; at < last; ++at) {
            const std::int64_t i = s_.sequence[at];
            if (!visited(i)) continue;
            const int m = count_++;
            const T* alpha = s_.alpha.data() + i * s_.classes;
            T* mine = alpha_.data() + m * s_.stride;
            T* frozen = frozen_.data() + m * s_.stride;
            std::copy(alpha, alpha + s_.classes, mine);
            std::fill(mine + s_.classes, mine + s_.stride, T(0));
            std::fill(frozen, frozen + s_.classes, T(0));
            std::fill(frozen + s_.classes, frozen + s_.stride, -kInfinity);
            row_[m] = i;
            member_[m] = static_cast<int>(at - first);
            label_[m] = s_.labels[i];
            old_gap_[m] = s_.gap[i];
            order_[m] = m;
            pairs_ += everyone_ ? s_.classes : s_.awake[i] + 1;
            if (everyone_ || s_.awake[i] == s_.classes) continue;
            const std::int8_t* code = s_.frozen.data() + i * s_.classes;
            for (int k = 0; k < s_.classes; ++k) {
                if (code[k] != 0) frozen[k] = code[k] > 0 ? kInfinity : -kInfinity;
            }
        }
        return count_ > 0;
    }

    T* tile(int chunk) {
        return tile_.data() + static_cast<std::size_t>(chunk - first_chunk_) * kTileRows * kChunk;
    }

    // Steps 1 and 2 on this thread's chunks.
    void multiply() {
        const bool dense = 2 * pairs_ > count_ * s_.classes;
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            T* z = tile(chunk);
            const int width = s_.rows.padded_width(chunk);
            const T* w = s_.weights.data() + s_.rows.begin(chunk);
            T* part = exchange_.decision[parity_].data() + chunk * exchange_.per_chunk;
            for (int m = 0; m < count_; ++m) s_.rows.read(row_[m], chunk, z + m * kChunk);
            if (dense) {
                for (int m = 0; m < count_; m += 4) {
                    const int rows = std::min(4, count_ - m);
                    kernels_of<T>().dots(z + m * kChunk, kChunk, rows, w, s_.ldw, s_.classes, width,
                                         part + m * s_.stride, s_.stride);
                    prefetch_beside(m, rows, chunk);
                }
            } else {
                for (int m = 0; m < count_; ++m) {
                    const T* frozen = frozen_.data() + m * s_.stride;
                    int listed = 0;
                    for (int k = 0; k < s_.classes; ++k) {
                        if (frozen[k] != T(0) && k != label_[m]) continue;
                        class_[listed] = k;
                        line_[listed++] = w + k * s_.ldw;
                    }
                    kernels_of<T>().dots_list(z + m * kChunk, line_.data(), listed, width,
                                              value_.data());
                    T* out = part + m * s_.stride;
                    std::fill(out, out + s_.classes, T(0));
                    for (int c = 0; c < listed; ++c) out[class_[c]] = value_[c];
                    prefetch_beside(m, 1, chunk);
                }
            }
            if (!learn_gram_) continue;
            T* gram = exchange_.gram[parity_].data() + chunk * exchange_.gram_per_chunk;
            for (int m = 0; m < count_; m += 8) {
                const int rows = std::min(8, count_ - m);
                kernels_of<T>().dots(z + m * kChunk, kChunk, rows, z, kChunk, m + rows, width,
                                     gram + m * kTileRows, kTileRows);
            }
        }
    }

    // The next block's rows come from memory while this one's are multiplied: the share of them
    // that goes with members m .. m + rows - 1.
    void prefetch_beside(int m, int rows, int chunk) const {
        const int share = (ahead_count_ + count_ - 1) / count_;
        const int end = std::min(ahead_count_, (m + rows) * share);
        for (int a = m * share; a < end; ++a) s_.rows.prefetch(ahead_[a], chunk);
    }

    // Rows of the next block that will be visited; -1: none.
    void plan_prefetch(std::int64_t block) {
        ahead_count_ = 0;
        if (block < 0) return;
        const std::int64_t first = block * s_.block_size;
        const std::int64_t last = std::min(first + s_.block_size, s_.rows.size());
        for (std::int64_t at = first; at < last; ++at) {
            const std::int64_t i = s_.sequence[at];
            if (visited(i)) ahead_[ahead_count_++] = i;
        }
    }

    void reduce(std::int64_t block) {
        const int chunks = s_.rows.chunks();
        const T* parts = exchange_.decision[parity_].data();
        for (int m = 0; m < count_; ++m) {
            T* f = decision_.data() + m * s_.stride;
            std::copy(bias_.begin(), bias_.end(), f);
            for (int chunk = 0; chunk < chunks; ++chunk) {
                const T* part = parts + chunk * exchange_.per_chunk + m * s_.stride;
                for (int k = 0; k < s_.classes; ++k) f[k] += part[k];
            }
            std::fill(f + s_.classes, f + s_.stride, T(0));
        }
        T* packed = s_.gram.data() + block * s_.packed_block();
        if (learn_gram_) {
            const T* grams = exchange_.gram[parity_].data();
            for (int m = 0; m < count_; ++m) {
                for (int l = 0; l <= m; ++l) {
                    float total = 1.0f;  // the bias is one more column of ones
                    for (int chunk = 0; chunk < chunks; ++chunk) {
                        total += grams[chunk * exchange_.gram_per_chunk + m * kTileRows + l];
                    }
                    gram_[m * kTileRows + l] = gram_[l * kTileRows + m] = total;
                    if (me_ == 0) packed[m * (m + 1) / 2 + l] = total;
                }
            }
            return;
        }
        for (int m = 0; m < count_; ++m) {
            const T* line = packed + member_[m] * (member_[m] + 1) / 2;
            for (int l = 0; l <= m; ++l) {
                gram_[m * kTileRows + l] = gram_[l * kTileRows + m] = line[member_[l]];
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
        b.gram = gram_.data();
        b.gram_stride = kTileRows;
        b.threshold = threshold_.data();
        b.violation = violation_.data();
        b.decision = decision_.data();
        b.alpha = alpha_.data();
        b.frozen = frozen_.data();
        b.change = change_.data();
        b.gap = gap_;
        b.moved = move_;
        b.changed = changed_;
        b.scratch = scratch_.data();
        kernels_of<T>().solve_block(b);

        dual_terms_ += b.dual_gain;
        pairs_visited_ += pairs_;
        visits_ += count_;
        movers_ = 0;
        for (int m = 0; m < count_; ++m) {
            total_gap_ += static_cast<double>(static_cast<float>(gap_[m]) - old_gap_[m]);
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
        const std::int64_t at = i * s_.classes;
        const T* frozen = frozen_.data() + m * s_.stride;
        s_.gap[i] = static_cast<float>(gap_[m]);
        // A sample that moves less than is typical is visited less often.
        const double move = static_cast<double>(move_[m]);
        s_.due[i] = sweep_ + (move >= typical_move_          ? 1
                              : move >= 0.5 * typical_move_  ? 2
                              : move >= 0.25 * typical_move_ ? 3
                                                             : 5);
        if (changed_[m])
            std::copy_n(alpha_.data() + m * s_.stride, s_.classes, s_.alpha.data() + at);
        int awake = 0;
        for (int k = 0; k < s_.classes; ++k) {
            s_.frozen[at + k] = static_cast<std::int8_t>((frozen[k] > T(0)) - (frozen[k] < T(0)));
            awake += frozen[k] == T(0);
        }
        // The label's own place is no variable in the all-in-one forms.
        if (s_.options.form != SvmForm::one_vs_rest) --awake;
        s_.awake[i] = awake;
    }

    // Step 4 on this thread's chunks.
    void apply() {
        if (movers_ == 0) return;
        const bool dense = 2 * pairs_ > count_ * s_.classes;
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            T* w = s_.weights.data() + s_.rows.begin(chunk);
            const int width = s_.rows.padded_width(chunk);
            const T* line[kTileRows];
            if (dense) {
                for (int m = 0; m < movers_; ++m) {
                    line[m] = tile(chunk) + mover_[m] * kChunk;
                    if (chunk > first_chunk_) continue;
                    std::copy_n(change_.data() + mover_[m] * s_.stride, s_.stride,
                                movers_change_.data() + m * s_.stride);
                }
                kernels_of<T>().update(w, s_.ldw, s_.classes, line, movers_, movers_change_.data(),
                                       s_.stride, width);
                continue;
            }
            for (int k = 0; k < s_.classes; ++k) {
                T coefficient[kTileRows];
                int rows = 0;
                for (int m = 0; m < movers_; ++m) {
                    const float c = change_[mover_[m] * s_.stride + k];
                    if (c == T(0)) continue;
                    line[rows] = tile(chunk) + mover_[m] * kChunk;
                    coefficient[rows++] = c;
                }
                if (rows > 0)
                    kernels_of<T>().update_list(w + k * s_.ldw, line, coefficient, rows, width);
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
        for (T b : bias_) square += static_cast<double>(b) * static_cast<double>(b);
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
        s_.bias = bias_;
        s_.dual_terms = dual_terms_;
        s_.gram_known = true;
    }

    SvmState<T>& s_;
    Exchange<T>& exchange_;
    Barrier& barrier_;
    const int me_, team_, first_chunk_, last_chunk_;
    AlignedBuffer<T> tile_, decision_, alpha_, frozen_, change_, movers_change_, gram_, scratch_;
    AlignedBuffer<T> threshold_, violation_, value_;
    std::vector<const T*> line_;
    std::vector<int> class_;
    std::vector<T> bias_;
    std::vector<std::int64_t> block_order_;
    double dual_terms_, total_gap_, moved_ = 0.0, typical_move_ = 0.0;
    std::int64_t pairs_visited_ = 0, visits_ = 0;
    int sweep_ = 0, parity_ = 0, count_ = 0, pairs_ = 0, movers_ = 0;
    bool everyone_ = true, learn_gram_ = false;
    int ahead_count_ = 0;
    std::int64_t ahead_[kTileRows];
    std::int64_t row_[kTileRows];
    int member_[kTileRows], order_[kTileRows], changed_[kTileRows], mover_[kTileRows];
    std::int32_t label_[kTileRows];
    T gap_[kTileRows], move_[kTileRows];
    float old_gap_[kTileRows];
};

}  // namespace

template <class T>
double sweep(SvmState<T>& state, double target, SvmReport& report) {
    Exchange<T> exchange(state);
    double estimate = 0.0;
    std::unique_ptr<Barrier> barrier;
    std::vector<Worker<T>> workers;
    std::exception_ptr failure;
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
            const double gap = workers[me].run(target, report);
            if (me == 0) estimate = gap;
        }
    }
    if (failure) std::rethrow_exception(failure);
    if (exchange.stop) throw Interrupted{};
    return estimate;
}

template double sweep(SvmState<float>&, double, SvmReport&);
template double sweep(SvmState<double>&, double, SvmReport&);

}  // namespace lead_fast
