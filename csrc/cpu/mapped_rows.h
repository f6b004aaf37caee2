// Rows of the caller's features seen through the map z = (x - centre) * inverse_scale, a chunk of
// columns at a time. The mapped features exist only in the reader's tile.
#pragma once

#include <omp.h>

#include <algorithm>
#include <vector>

#include "../svm.h"
#include "aligned.h"
#include "dispatch.h"

namespace lead_fast {

constexpr int kChunk = 512;  // columns of a chunk; sums over chunks are taken in their order
constexpr int kTileRows = 64;
constexpr int kLines = 4;  // rows that are multiplied together

inline void ask_for(const Span& span) {
    for (std::int64_t b = 0; b < span.bytes; b += 64) __builtin_prefetch(span.begin + b, 0, 2);
}

class MappedRows {
  public:
    MappedRows(const FeatureMatrix& x, const std::int64_t* rows, std::int64_t n, ColumnMap map)
        : x_(x),
          rows_(rows),
          n_(n),
          map_(map),
          centre32_(map.centre, map.centre + x.d),
          inverse32_(map.inverse_scale, map.inverse_scale + x.d),
          correction32_(x.d) {
        for (std::int64_t j = 0; j < x.d; ++j) {
            correction32_[j] = static_cast<float>(
                (static_cast<double>(centre32_[j]) - map.centre[j]) * map.inverse_scale[j]);
        }
    }

    std::int64_t size() const { return n_; }
    std::int64_t columns() const { return x_.d; }
    std::int64_t row_bytes() const { return x_.d * static_cast<std::int64_t>(item_size(x_.dtype)); }
    int chunks() const { return static_cast<int>((x_.d + kChunk - 1) / kChunk); }
    std::int64_t begin(int chunk) const { return static_cast<std::int64_t>(chunk) * kChunk; }
    int width(int chunk) const {
        return static_cast<int>(std::min<std::int64_t>(kChunk, x_.d - begin(chunk)));
    }
    int padded_width(int chunk) const { return static_cast<int>(padded(width(chunk))); }

    // One chunk of row i into dst (padded_width(chunk)).
    void read(std::int64_t i, int chunk, float* dst) const {
        const std::int64_t j = begin(chunk);
        const Map32 map = {centre32_.data() + j, inverse32_.data() + j, correction32_.data() + j};
        kernels().map_row(x_.dtype, source(i, chunk), width(chunk), map, map_.centre + j,
                          map_.inverse_scale + j, dst, padded_width(chunk));
    }

    // The same in float64, for certificates.
    void read(std::int64_t i, int chunk, double* dst) const {
        const std::int64_t j = begin(chunk);
        kernels().map_row_exact(x_.dtype, source(i, chunk), width(chunk), map_.centre + j,
                                map_.inverse_scale + j, dst, padded_width(chunk));
    }

    // Where the same piece lies in memory.
    Span span(std::int64_t i, int chunk) const {
        return {source(i, chunk), width(chunk) * static_cast<std::int64_t>(item_size(x_.dtype))};
    }
    void prefetch(std::int64_t i, int chunk) const { ask_for(span(i, chunk)); }

  private:
    const char* source(std::int64_t i, int chunk) const {
        const void* row = x_.row(rows_ != nullptr ? rows_[i] : i);
        return static_cast<const char*>(row) +
               begin(chunk) * static_cast<std::int64_t>(item_size(x_.dtype));
    }

    FeatureMatrix x_;
    const std::int64_t* rows_;
    std::int64_t n_;
    ColumnMap map_;
    std::vector<float> centre32_, inverse32_, correction32_;
};

constexpr int kDecisionRows = 32;

// Calls visit(first, count, f) for blocks of at most kDecisionRows successive rows with their
// decision values f (count, padded(classes)), in the precision of the weights; the columns beyond
// classes are 0. Blocks go to threads in any order: visit may only write to places of its rows.
template <class T, class Visit>
void for_each_decision(const MappedRows& rows, int classes, const T* weights, std::int64_t ldw,
                       const T* bias, int threads, Visit visit) {
    const std::int64_t blocks = (rows.size() + kDecisionRows - 1) / kDecisionRows;
    const std::int64_t stride = padded(classes);
    const std::size_t cells = static_cast<std::size_t>(kDecisionRows) * stride;
    std::vector<AlignedBuffer<T>> tiles, parts, sums;
    for (int t = 0; t < threads; ++t) {  // allocated here: nothing may throw among the threads
        tiles.emplace_back(static_cast<std::size_t>(kLines) * kChunk);
        parts.emplace_back(cells, T(0));
        sums.emplace_back(cells);
    }
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
    for (std::int64_t block = 0; block < blocks; ++block) {
        const int me = omp_get_thread_num();
        T* tile = tiles[me].data();
        T* part = parts[me].data();
        T* f = sums[me].data();
        const std::int64_t first = block * kDecisionRows;
        const int count =
            static_cast<int>(std::min<std::int64_t>(kDecisionRows, rows.size() - first));
        for (int r = 0; r < count; ++r) {
            std::copy(bias, bias + classes, f + r * stride);
            std::fill(f + r * stride + classes, f + (r + 1) * stride, T(0));
        }
        for (int chunk = 0; chunk < rows.chunks(); ++chunk) {
            // Beside each group's products the same rows' next columns are asked for: pieces of
            // rows are too short for the processor to see what comes next.
            const bool last = chunk + 1 == rows.chunks();
            const std::int64_t ahead = last ? first + kDecisionRows : first;
            for (int r = 0; r < count; r += kLines) {
                const T* line[kLines];
                Span next[kLines];
                int spans = 0;
                const int group = std::min(kLines, count - r);
                for (int m = 0; m < group; ++m) {
                    T* z = tile + m * kChunk;
                    line[m] = z;
                    rows.read(first + r + m, chunk, z);
                    if (ahead + r + m >= rows.size()) continue;
                    next[spans++] = rows.span(ahead + r + m, last ? 0 : chunk + 1);
                }
                kernels_of<T>().dots_lines(line, group, weights + rows.begin(chunk), ldw, classes,
                                           rows.padded_width(chunk), part + r * stride, stride,
                                           next, spans);
            }
            for (std::int64_t i = 0; i < count * stride; ++i) f[i] += part[i];
        }
        visit(first, count, f);
    }
}

}  // namespace lead_fast
