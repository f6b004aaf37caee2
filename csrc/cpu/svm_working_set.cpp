// The working set of the dual solver: which rows are visited, what is kept of them, and the look at
// all rows that decides it. Every loop here runs over rows or blocks that have nothing to do with
// one another.

#include <omp.h>

#include <numeric>

#include "svm_state.h"

namespace lead_fast {
namespace {

// Multipliers, working set and all may take this share of the features' memory; beyond it, rows are
// read from the features.
constexpr double kMemoryShare = 0.18;

// Rows between two working sets, as a share of the first, for which there is room without dealing
// anew.
constexpr double kRoomToGrow = 0.1;

// Larger blocks cost memory and time for their inner products: block_size numbers for each row.
template <class T>
int block_size_of(const SvmState<T>& s, std::int64_t rows) {
    const std::int64_t columns = s.rows.columns();
    std::int64_t size = std::clamp<std::int64_t>(columns / 128 * 8, 8, kTileRows);
    if (2 * rows > s.rows.size()) size /= 2;
    if (5 * s.stride > columns * 4 / 10) size /= 2;  // multipliers take a tenth of the features
    return static_cast<int>(std::max<std::int64_t>(8, size));
}

constexpr int kGramRows = 8;  // rows whose inner products with all before them are taken together

// Inner products of the rows of one block, and its rows into the store.
template <class T>
void fill_block(SvmState<T>& s, std::int64_t block, T* tile, T* part) {
    WorkingSet<T>& w = s.working;
    const int size = w.block_size, count = static_cast<int>(w.end(block) - w.begin(block));
    T* gram = w.gram.data() + block * size * size;
    std::fill_n(gram, static_cast<std::size_t>(size) * size, T(1));  // the bias: a column of ones
    for (int chunk = 0; chunk < s.rows.chunks(); ++chunk) {
        const int width = s.rows.padded_width(chunk);
        T* z = const_cast<T*>(w.stored(s.rows, block, 0, chunk));
        if (z == nullptr) z = tile;
        for (int m = 0; m < count; ++m) {
            s.rows.read(w.rows[w.begin(block) + m], chunk,
                        z + static_cast<std::int64_t>(m) * width);
        }
        // The columns that come next are asked for beside the products.
        const bool last = chunk + 1 == s.rows.chunks();
        const std::int64_t next = last ? block + 1 : block;
        const int ahead = next < w.blocks() ? static_cast<int>(w.end(next) - w.begin(next)) : 0;
        for (int m = 0; m < count; m += kGramRows) {
            const int rows = std::min(kGramRows, count - m);
            const T* line[kGramRows];
            Span span[kGramRows];
            int spans = 0;
            for (int r = 0; r < rows; ++r) {
                line[r] = z + static_cast<std::int64_t>(m + r) * width;
                if (m + r >= ahead) continue;
                span[spans++] = s.rows.span(w.rows[w.begin(next) + m + r], last ? 0 : chunk + 1);
            }
            kernels_of<T>().dots_lines(line, rows, z, width, m + rows, width, part, kTileRows, span,
                                       spans);
            for (int r = 0; r < rows; ++r) {
                for (int l = 0; l <= m + r; ++l) {
                    gram[(m + r) * size + l] += part[r * kTileRows + l];
                }
            }
        }
    }
    for (int m = 0; m < count; ++m) {
        for (int l = 0; l < m; ++l) gram[l * size + m] = gram[m * size + l];
        s.square[w.rows[w.begin(block) + m]] = gram[m * size + m];
    }
}

}  // namespace

template <class T>
double memory_left(const SvmState<T>& s) {
    const double n = static_cast<double>(s.rows.size());
    const double share = kMemoryShare * n * static_cast<double>(s.rows.row_bytes());
    return share - n * (s.stride * (sizeof(T) + 1.0) + sizeof(T) + 36.0);
}

namespace {

// Numbers that may be stored beside the inner products.
template <class T>
std::size_t storable(const SvmState<T>& s) {
    const double gram = kTileRows / 2 * sizeof(T) * static_cast<double>(s.rows.size());
    return static_cast<std::size_t>(std::max(0.0, memory_left(s) - gram) / sizeof(T));
}

// Deals rows into blocks behind those that are there.
template <class T>
void append(SvmState<T>& s, const std::vector<std::int64_t>& rows) {
    WorkingSet<T>& w = s.working;
    const std::int64_t before = w.blocks();
    for (std::size_t first = 0; first < rows.size(); first += w.block_size) {
        const std::size_t last = std::min(first + w.block_size, rows.size());
        w.count.push_back(static_cast<int>(last - first));
        w.rows.insert(w.rows.end(), rows.begin() + first, rows.begin() + last);
        w.rows.resize(w.count.size() * w.block_size, -1);
    }
    for (std::int64_t i : rows) w.holds[i] = true;
    w.size += static_cast<std::int64_t>(rows.size());
    std::vector<AlignedBuffer<T>> tiles, parts;  // allocated here: threads may not throw
    for (int t = 0; t < s.options.threads; ++t) {
        tiles.emplace_back(static_cast<std::size_t>(w.block_size) * kChunk);
        parts.emplace_back(static_cast<std::size_t>(kGramRows) * kTileRows);
    }
#pragma omp parallel for schedule(dynamic, 4) num_threads(s.options.threads)
    for (std::int64_t block = before; block < w.blocks(); ++block) {
        const int me = omp_get_thread_num();
        fill_block(s, block, tiles[me].data(), parts[me].data());
    }
}

template <class T>
std::size_t gram_size(const WorkingSet<T>& w, double rows) {
    const double blocks = std::ceil(rows / w.block_size);
    return static_cast<std::size_t>(blocks) * w.block_size * w.block_size;
}

}  // namespace

template <class T>
void update_working_set(SvmState<T>& s) {
    WorkingSet<T>& w = s.working;
    const std::int64_t n = s.rows.size();
    const bool first = w.size == 0;
    std::vector<std::int64_t> fresh, awake;
    for (std::int64_t i : s.sequence) {
        if (!first && s.awake[i] == 0) continue;
        awake.push_back(i);
        if (!first && !w.holds[i]) fresh.push_back(i);
    }
    const double blocks = static_cast<double>(w.blocks()) +
                          std::ceil(static_cast<double>(fresh.size()) / std::max(1, w.block_size));
    const bool room = gram_size(w, blocks * w.block_size) <= w.gram.size();
    const bool sparse =
        static_cast<double>(awake.size()) < kCompactBelow * static_cast<double>(w.size);
    if (!first && !w.everyone && room && !sparse) return append(s, fresh);
    w.everyone = first;
    w.size = 0;
    w.rows.clear();
    w.count.clear();
    w.holds.assign(n, false);
    const double rows = static_cast<double>(awake.size());
    w.block_size = block_size_of(s, static_cast<std::int64_t>(awake.size()));
    if (first) w.block_size = std::max(8, w.block_size / 2);  // for two sweeps only
    const std::size_t gram = gram_size(w, first ? rows : (1.0 + kRoomToGrow) * rows);
    if (gram > w.gram.size()) {
        w.gram = {};  // before the new one is asked for
        w.gram = AlignedBuffer<T>(gram);
    }
    if (!first && w.store.size() == 0) w.store = AlignedBuffer<T>(storable(s));
    append(s, awake);
}

template <class T>
double inspect(SvmState<T>& s, double freeze_above) {
    struct Scratch {
        explicit Scratch(int stride)
            : frozen(static_cast<std::size_t>(kDecisionRows) * stride),
              change(static_cast<std::size_t>(kDecisionRows) * stride),
              violation(stride, T(0)),
              scratch(static_cast<std::size_t>(4) * stride) {}
        AlignedBuffer<T> frozen, change, violation, scratch;
        T gap[kDecisionRows];
    };
    std::vector<Scratch> work;
    for (int t = 0; t < s.options.threads; ++t) work.emplace_back(s.stride);
    AlignedBuffer<T> threshold(s.stride);
    for (int k = 0; k < s.stride; ++k) threshold[k] = s.violation[k] * static_cast<T>(freeze_above);
    const auto look = [&](std::int64_t first, int count, T* decision) {
        Scratch& mine = work[omp_get_thread_num()];
        T* frozen = mine.frozen.data();
        for (int m = 0; m < count; ++m) {
            std::fill_n(frozen + m * s.stride, s.classes, T(0));
            std::fill(frozen + m * s.stride + s.classes, frozen + (m + 1) * s.stride,
                      -static_cast<T>(INFINITY));
        }
        DualBlock<T> b{};
        b.form = s.options.form;
        b.hinge = s.options.hinge;
        b.cost = static_cast<T>(s.options.cost);
        b.rows = count;
        b.classes = s.classes;
        b.stride = s.stride;
        b.labels = s.labels + first;
        b.square = s.square.data() + first;
        b.threshold = threshold.data();
        b.violation = mine.violation.data();
        b.decision = decision;
        b.alpha = s.alpha.data() + first * s.stride;  // read only
        b.frozen = frozen;
        b.change = mine.change.data();
        b.gap = mine.gap;
        b.scratch = mine.scratch.data();
        kernels_of<T>().inspect_block(b);
        for (int m = 0; m < count; ++m) {
            const std::int64_t i = first + m;
            s.gap[i] = static_cast<float>(mine.gap[m]);
            const int places = kernels_of<T>().encode_frozen(
                frozen + m * s.stride, s.frozen.data() + i * s.stride, s.stride);
            s.awake[i] = free_pairs(places, s.options.form);
        }
    };
    for_each_decision(s.rows, s.classes, s.weights.data(), s.ldw, s.bias.data(), s.options.threads,
                      look);
    s.violation.fill(T(0));
    for (const Scratch& mine : work) {
        for (int k = 0; k < s.stride; ++k) {
            s.violation[k] = std::max(s.violation[k], mine.violation[k]);
        }
    }
    if (s.options.form != SvmForm::one_vs_rest) s.violation.fill(s.violation[0]);
    return std::accumulate(s.gap.begin(), s.gap.end(), 0.0);
}

template void update_working_set(SvmState<float>&);
template void update_working_set(SvmState<double>&);
template double memory_left(const SvmState<float>&);
template double memory_left(const SvmState<double>&);
template double inspect(SvmState<float>&, double);
template double inspect(SvmState<double>&, double);

}  // namespace lead_fast
