// Dual block coordinate descent.
//
// The rows are dealt once into random blocks of B. A visit of a block
//   1. maps its rows into a small float32 tile,
//   2. takes the decision values of the whole block, F = Z W^T + b: a small matrix product,
//   3. solves the samples' sub-problems one after the other, exactly; each change reaches the later
//      samples of the block through the B x B Gram matrix of the block, so that the iterates are
//      those of plain coordinate descent and not of a stale mini-batch,
//   4. adds all changes to W at once: a second small matrix product.
// Threads share out the chunks of columns in steps 1, 2 and 4. Step 3 is short; every thread does it
// for itself, so one barrier per block is enough. Sums over chunks are taken in one order: the
// result does not depend on the number of threads.
//
// A sample that did not change rests for ever more sweeps (shrinking). The certificate in svm.cpp
// looks at all samples again.

#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>

#include "barrier.h"
#include "svm_state.h"

namespace lead_fast {
namespace {

struct Exchange {
    Exchange(const SvmState& s)
        : per_chunk(static_cast<std::size_t>(kTileRows) * s.stride),
          gram_per_chunk(static_cast<std::size_t>(kTileRows) * kTileRows),
          chunk_square(s.rows.chunks()) {
        for (int i = 0; i < 2; ++i) {
            decision[i] = AlignedBuffer<float>(per_chunk * s.rows.chunks());
            if (!s.gram_known) gram[i] = AlignedBuffer<float>(gram_per_chunk * s.rows.chunks());
        }
    }
    const std::size_t per_chunk, gram_per_chunk;
    // Partial sums of each chunk. Two of each: a thread may fill one while a slower one still reads
    // the other.
    AlignedBuffer<float> decision[2];  // (chunk, row, stride)
    AlignedBuffer<float> gram[2];      // (chunk, row, row)
    std::vector<double> chunk_square;  // |W|^2 of each chunk
    bool stop = false;
};

class Worker {
  public:
    Worker(SvmState& s, Exchange& exchange, SpinBarrier& barrier, int me, int team)
        : s_(s), exchange_(exchange), barrier_(barrier), me_(me),
          first_chunk_(s.rows.chunks() * me / team), last_chunk_(s.rows.chunks() * (me + 1) / team),
          tile_(static_cast<std::size_t>(last_chunk_ - first_chunk_) * kTileRows * kChunk),
          decision_(static_cast<std::size_t>(kTileRows) * s.stride),
          alpha_(static_cast<std::size_t>(kTileRows) * s.stride),
          frozen_(static_cast<std::size_t>(kTileRows) * s.stride),
          change_(static_cast<std::size_t>(kTileRows) * s.stride),
          movers_change_(static_cast<std::size_t>(kTileRows) * s.stride),
          gram_(static_cast<std::size_t>(kTileRows) * kTileRows),
          scratch_(3 * static_cast<std::size_t>(s.stride)), threshold_(s.stride, INFINITY),
          violation_(s.stride, INFINITY), value_(s.stride), line_(s.classes), class_(s.classes), bias_(s.bias), block_order_(s.blocks),
          dual_terms_(s.dual_terms), total_loss_(s.total_loss) {
        std::iota(block_order_.begin(), block_order_.end(), std::int64_t{0});
    }

    // All threads return at the same sweep; the estimated gap.
    double run(double target, SvmReport& report) {
        const int start = report.sweeps;
        float last_full = INFINITY;
        bool wake = true; int last_wake=start; long lastv_=0,lastr_=0;
        for (sweep_ = start;;) {
            shuffle(block_order_.data(), s_.blocks, mix(s_.options.seed ^ mix(sweep_ + 1)));
            everyone_ = wake;
            std::swap(threshold_, violation_);
            violation_.fill(0.0f);
            static const float TF=getenv("TF")?atof(getenv("TF")):1.0f; for(int k=0;k<s_.stride;++k) threshold_[k]*=TF;
            for (std::int64_t at = 0; at < s_.blocks; ++at) {
                visit(block_order_[at], at + 1 < s_.blocks ? block_order_[at + 1] : -1);
            }
            ++sweep_;
            const double gap = estimate();
            const float worst = *std::max_element(violation_.data(), violation_.data() + s_.stride);
            if (everyone_) last_full = worst;
            static const float WF=getenv("WF")?atof(getenv("WF")):0.1f; static const int WI=getenv("WI")?atoi(getenv("WI")):1000; static const int VB=getenv("VB")?1:0;
 if(everyone_) last_wake=sweep_;
 wake = worst <= WF * last_full || sweep_-last_wake>=WI; if(VB&&me_==0) fprintf(stderr,"sweep %d worst %.4f gap %.5f visited %.3f rows %.3f%s\n",sweep_,worst,gap,(visited_-lastv_)/double(s_.classes)/s_.rows.size(),(rows_-lastr_)/double(s_.rows.size()),everyone_?" FULL":""); lastv_=visited_; lastr_=rows_;
            if (exchange_.stop || (everyone_ && gap <= target) || sweep_ >= s_.options.max_passes) {
                if (me_ == 0) {
                    report.sweeps = sweep_;
                    report.passes += static_cast<double>(visited_) / static_cast<double>(s_.classes) / static_cast<double>(s_.rows.size());
                    s_.bias = bias_;
                    s_.dual_terms = dual_terms_;
                    s_.total_loss = total_loss_;
                    s_.gram_known = true;
                }
                return gap;
            }
        }
    }

  private:
    void visit(std::int64_t block, std::int64_t next) {
        if (!gather(block)) return;  // all frozen: the same for every thread
        parity_ ^= 1;
        multiply();
        if (next >= 0) prefetch(next);
        barrier_.wait();
        reduce(block);
        solve(block);
        apply();
    }

    // Takes what another thread may overwrite after the barrier.
    bool gather(std::int64_t block) {
        const std::int64_t first = block * s_.block_size;
        const std::int64_t last = std::min(first + s_.block_size, s_.rows.size());
        count_ = pairs_ = 0;
        for (std::int64_t at = first; at < last; ++at) {
            const std::int64_t i = s_.sequence[at];
            if (!everyone_ && s_.awake[i] == 0) continue;
            const int m = count_++;
            const float* alpha = s_.alpha.data() + i * s_.classes;
            float* mine = alpha_.data() + m * s_.stride;
            float* frozen = frozen_.data() + m * s_.stride;
            std::copy(alpha, alpha + s_.classes, mine);
            std::fill(mine + s_.classes, mine + s_.stride, 0.0f);
            std::fill(frozen, frozen + s_.classes, 0.0f);
            std::fill(frozen + s_.classes, frozen + s_.stride, -INFINITY);
            row_[m] = i;
            member_[m] = static_cast<int>(at - first);
            label_[m] = s_.labels[i];
            old_loss_[m] = s_.loss[i] + s_.frozen_loss[i];
            stale_loss_[m] = everyone_ ? 0.0f : s_.frozen_loss[i];
            order_[m] = m;
            pairs_ += everyone_ ? s_.classes : s_.awake[i] + 1;
            if (everyone_ || s_.awake[i] == s_.classes) continue;
            const std::int8_t* code = s_.frozen.data() + i * s_.classes;
            for (int k = 0; k < s_.classes; ++k) {
                if (code[k] != 0) frozen[k] = code[k] > 0 ? INFINITY : -INFINITY;
            }
        }
        return count_ > 0;
    }

    float* tile(int chunk) {
        return tile_.data() + static_cast<std::size_t>(chunk - first_chunk_) * kTileRows * kChunk;
    }

    // Steps 1 and 2 on this thread's chunks.
    void multiply() {
        const bool dense = 2 * pairs_ > count_ * s_.classes;
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            float* z = tile(chunk);
            const int width = s_.rows.padded_width(chunk);
            const float* w = s_.weights.data() + s_.rows.begin(chunk);
            float* part = exchange_.decision[parity_].data() + chunk * exchange_.per_chunk;
            for (int m = 0; m < count_; ++m) s_.rows.read(row_[m], chunk, z + m * kChunk);
            if (dense) {
                kernels().dots(z, kChunk, count_, w, s_.ldw, s_.classes, width, part, s_.stride);
            } else {
                for (int m = 0; m < count_; ++m) {
                    const float* frozen = frozen_.data() + m * s_.stride;
                    int listed = 0;
                    for (int k = 0; k < s_.classes; ++k) {
                        if (frozen[k] != 0.0f && k != label_[m]) continue;
                        class_[listed] = k;
                        line_[listed++] = w + k * s_.ldw;
                    }
                    kernels().dots_list(z + m * kChunk, line_.data(), listed, width, value_.data());
                    float* out = part + m * s_.stride;
                    std::fill(out, out + s_.classes, 0.0f);
                    for (int c = 0; c < listed; ++c) out[class_[c]] = value_[c];
                }
            }
            if (s_.gram_known || sweep_ > 0) continue;
            float* gram = exchange_.gram[parity_].data() + chunk * exchange_.gram_per_chunk;
            for (int m = 0; m < count_; m += 8) {
                const int rows = std::min(8, count_ - m);
                kernels().dots(z + m * kChunk, kChunk, rows, z, kChunk, m + rows, width,
                               gram + m * kTileRows, kTileRows);
            }
        }
    }

    void prefetch(std::int64_t block) const {
        const std::int64_t first = block * s_.block_size;
        const std::int64_t last = std::min(first + s_.block_size, s_.rows.size());
        for (std::int64_t at = first; at < last; ++at) {
            const std::int64_t i = s_.sequence[at];
            if (!everyone_ && s_.awake[i] == 0) continue;
            for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) s_.rows.prefetch(i, chunk);
        }
    }

    void reduce(std::int64_t block) {
        const int chunks = s_.rows.chunks();
        const float* parts = exchange_.decision[parity_].data();
        for (int m = 0; m < count_; ++m) {
            float* f = decision_.data() + m * s_.stride;
            std::copy(bias_.begin(), bias_.end(), f);
            for (int chunk = 0; chunk < chunks; ++chunk) {
                const float* part = parts + chunk * exchange_.per_chunk + m * s_.stride;
                for (int k = 0; k < s_.classes; ++k) f[k] += part[k];
            }
            std::fill(f + s_.classes, f + s_.stride, 0.0f);
        }
        float* packed = s_.gram.data() + block * s_.packed_block();
        if (!s_.gram_known && sweep_ == 0) {
            const float* grams = exchange_.gram[parity_].data();
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
            const float* line = packed + member_[m] * (member_[m] + 1) / 2;
            for (int l = 0; l <= m; ++l) {
                gram_[m * kTileRows + l] = gram_[l * kTileRows + m] = line[member_[l]];
            }
        }
    }

    // Step 3, by every thread; thread 0 keeps the result.
    void solve(std::int64_t block) {
        const std::uint64_t draw = static_cast<std::uint64_t>(block) * 0x9e3779b9ull + sweep_;
        shuffle(order_, count_, mix(s_.options.seed + mix(draw)));
        DualBlock b{};
        b.form = s_.options.form;
        b.hinge = s_.options.hinge;
        b.cost = static_cast<float>(s_.options.cost);
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
        b.loss = loss_;
        b.frozen_loss = frozen_loss_;
        b.changed = changed_;
        b.scratch = scratch_.data();
        kernels().solve_block(b);

        dual_terms_ += b.dual_gain;
        visited_ += pairs_; rows_+=count_;
        movers_ = 0;
        for (int m = 0; m < count_; ++m) {
            total_loss_ += static_cast<double>(loss_[m]) + static_cast<double>(stale_loss_[m]) - static_cast<double>(old_loss_[m]);
            if (changed_[m]) {
                const float* change = change_.data() + m * s_.stride;
                for (int k = 0; k < s_.classes; ++k) bias_[k] += change[k];
                mover_[movers_++] = m;
            }
            if (me_ == 0) keep(m);
        }
    }

    void keep(int m) {
        const std::int64_t i = row_[m];
        const std::int64_t at = i * s_.classes;
        const float* frozen = frozen_.data() + m * s_.stride;
        s_.loss[i] = loss_[m] - frozen_loss_[m];
        s_.frozen_loss[i] = stale_loss_[m] + frozen_loss_[m];
        if (changed_[m]) std::copy_n(alpha_.data() + m * s_.stride, s_.classes, s_.alpha.data() + at);
        int awake = 0;
        for (int k = 0; k < s_.classes; ++k) {
            s_.frozen[at + k] = static_cast<std::int8_t>((frozen[k] > 0.0f) - (frozen[k] < 0.0f));
            awake += frozen[k] == 0.0f;
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
            float* w = s_.weights.data() + s_.rows.begin(chunk);
            const int width = s_.rows.padded_width(chunk);
            const float* line[kTileRows];
            if (dense) {
                for (int m = 0; m < movers_; ++m) {
                    line[m] = tile(chunk) + mover_[m] * kChunk;
                    if (chunk > first_chunk_) continue;
                    std::copy_n(change_.data() + mover_[m] * s_.stride, s_.stride,
                                movers_change_.data() + m * s_.stride);
                }
                kernels().update(w, s_.ldw, s_.classes, line, movers_, movers_change_.data(),
                                 s_.stride, width);
                continue;
            }
            for (int k = 0; k < s_.classes; ++k) {
                float coefficient[kTileRows];
                int rows = 0;
                for (int m = 0; m < movers_; ++m) {
                    const float c = change_[mover_[m] * s_.stride + k];
                    if (c == 0.0f) continue;
                    line[rows] = tile(chunk) + mover_[m] * kChunk;
                    coefficient[rows++] = c;
                }
                if (rows > 0) kernels().update_list(w + k * s_.ldw, line, coefficient, rows, width);
            }
        }
    }

    // The gap at the current W, taking each sample's loss from its last visit.
    double estimate() {
        for (int chunk = first_chunk_; chunk < last_chunk_; ++chunk) {
            double total = 0.0;
            for (int k = 0; k < s_.classes; ++k) {
                static const float AV=getenv("AV")?atof(getenv("AV")):0.25f;
                const float keep=sweep_<=2?1.0f:AV;
                float* avg=s_.average.data()+k*s_.ldw+s_.rows.begin(chunk); const float* w=s_.weights.data()+k*s_.ldw+s_.rows.begin(chunk);
                for(int j=0;j<s_.rows.width(chunk);++j) avg[j]+=keep*(w[j]-avg[j]);
                if(chunk==0) s_.average_bias[k]+=keep*(bias_[k]-s_.average_bias[k]);
                total += kernels().square_norm(
                    s_.weights.data() + k * s_.ldw + s_.rows.begin(chunk), s_.rows.width(chunk));
            }
            exchange_.chunk_square[chunk] = total;
        }
        if (me_ == 0) exchange_.stop = s_.options.interrupt();
        barrier_.wait();
        double square = 0.0;
        for (double part : exchange_.chunk_square) square += part;
        for (float b : bias_) square += static_cast<double>(b) * static_cast<double>(b);
        const double primal = 0.5 * square + s_.options.cost * total_loss_;
        const double gap = (primal - (dual_terms_ - 0.5 * square)) / primal;
        if (s_.options.form != SvmForm::one_vs_rest) {
            violation_.fill(violation_[0]);
        }
        barrier_.wait();  // nobody may start the next sweep's exchange before all have read this one
        return gap;
    }

    SvmState& s_;
    Exchange& exchange_;
    SpinBarrier& barrier_;
    const int me_, first_chunk_, last_chunk_;
    AlignedBuffer<float> tile_, decision_, alpha_, frozen_, change_, movers_change_, gram_, scratch_;
    AlignedBuffer<float> threshold_, violation_, value_;
    std::vector<const float*> line_;
    std::vector<int> class_;
    std::vector<float> bias_;
    std::vector<std::int64_t> block_order_;
    double dual_terms_, total_loss_;
    std::int64_t visited_ = 0; long rows_=0;
    int sweep_ = 0, parity_ = 0, count_ = 0, pairs_ = 0, movers_ = 0;
    bool everyone_ = false;
    std::int64_t row_[kTileRows];
    int member_[kTileRows], order_[kTileRows], changed_[kTileRows], mover_[kTileRows];
    std::int32_t label_[kTileRows];
    float loss_[kTileRows], old_loss_[kTileRows], stale_loss_[kTileRows], frozen_loss_[kTileRows];
};

}  // namespace

double sweep(SvmState& state, double target, SvmReport& report) {
    Exchange exchange(state);
    double estimate = 0.0;
    std::unique_ptr<SpinBarrier> barrier;
    std::vector<Worker> workers;
    std::exception_ptr failure;
#pragma omp parallel num_threads(std::max(1, std::min(state.options.threads, state.rows.chunks())))
    {
        // OpenMP may grant fewer threads than asked for: the team is made here. All allocation is
        // done before the first barrier, by one thread.
#pragma omp single
        try {
            const int team = omp_get_num_threads();
            barrier = std::make_unique<SpinBarrier>(team);
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

}  // namespace lead_fast
