// Rows that a solver reads again and again, packed as far as memory allows, and the sums over them.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "mapped_rows.h"

namespace lead_fast {

// A row z (ld) as unit * values; the column of the bias holds 0.
struct ActiveRow {
    enum Format { whole, coarse, fine } format;
    const void* values;
    float unit;
};

constexpr int kAhead = 4;  // rows between asking memory for one and its use

class ActiveRows {
  public:
    // Vectors that go with the rows have ld numbers: columns, bias, zeros.
    explicit ActiveRows(const MappedRows& x) : x_(x), ld_(padded(x.columns() + 1)) {}

    std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
    std::int64_t ld() const { return ld_; }
    std::int64_t bias() const { return x_.columns(); }
    std::int64_t operator[](std::int64_t r) const { return rows_[r]; }

    // Replaces the rows. In at most `room` bytes, as many as possible are packed coarsely, and of
    // these as many as possible finely; the first come first.
    void take(std::vector<std::int64_t> rows, std::int64_t room, int threads) {
        rows_ = std::move(rows);
        const bool packs = kernels().pack_row != nullptr;
        coarse_ = packs ? std::clamp<std::int64_t>(room / ld_, 0, size()) : 0;
        fine_ = packs ? std::clamp<std::int64_t>(room / ld_ - coarse_, 0, coarse_) : 0;
        if ((coarse_ + fine_) * ld_ > static_cast<std::int64_t>(packed_.size())) {
            packed_ = {};  // before the new one is asked for
            packed_ = AlignedBuffer<std::int8_t>((coarse_ + fine_) * ld_);
        }
        unit_.resize(coarse_);
        std::vector<AlignedBuffer<float>> lines;
        std::vector<AlignedBuffer<std::int8_t>> parts;
        for (int t = 0; t < threads; ++t) {
            lines.emplace_back(ld_, 0.0f);
            parts.emplace_back(2 * ld_);
        }
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
        for (std::int64_t r = 0; r < coarse_; ++r) {
            float* line = lines[omp_get_thread_num()].data();
            std::int8_t* both = parts[omp_get_thread_num()].data();
            if (r + kAhead < coarse_) prefetch_whole(r + kAhead);
            map(r, line);
            unit_[r] = kernels().pack_row(line, ld_, both);
            std::copy_n(both, r < fine_ ? 2 * ld_ : ld_, packed_.data() + place(r));
        }
    }

    bool packed(std::int64_t r, bool coarse) const { return r < (coarse ? coarse_ : fine_); }

    // Row r; line (ld) has room for one that is not packed. Coarse rows are for directions, not for
    // values.
    ActiveRow read(std::int64_t r, bool coarse, float* line) const {
        if (packed(r, coarse)) {
            return {coarse ? ActiveRow::coarse : ActiveRow::fine, packed_.data() + place(r),
                    unit_[r]};
        }
        map(r, line);
        return {ActiveRow::whole, line, 1.0f};
    }

    // Asks for row r ahead of its use: the rows of a list lie too far apart for the processor to
    // see what comes next.
    void prefetch(std::int64_t r, bool coarse) const {
        if (!packed(r, coarse)) return prefetch_whole(r);
        const std::int8_t* p = packed_.data() + place(r);
        ask_for({reinterpret_cast<const char*>(p), coarse ? ld_ : 2 * ld_});
    }

  private:
    void prefetch_whole(std::int64_t r) const {
        for (int chunk = 0; chunk < x_.chunks(); ++chunk) x_.prefetch(rows_[r], chunk);
    }
    std::int64_t place(std::int64_t r) const { return (r + std::min(r, fine_)) * ld_; }
    void map(std::int64_t r, float* line) const {
        for (int chunk = 0; chunk < x_.chunks(); ++chunk) {
            x_.read(rows_[r], chunk, line + x_.begin(chunk));
        }
    }

    const MappedRows& x_;
    const std::int64_t ld_;
    std::vector<std::int64_t> rows_;
    std::int64_t coarse_ = 0, fine_ = 0;  // rows packed, and so many of them with both halves
    AlignedBuffer<std::int8_t> packed_;   // (fine, 2, ld), (coarse - fine, ld)
    std::vector<float> unit_;             // (coarse)
};

// Calls body with the kernels of the row's format and a pointer type.
template <class Body>
inline void with_format(ActiveRow::Format format, Body body) {
    switch (format) {
        case ActiveRow::coarse: body(kernels().coarse, static_cast<const Coarse*>(nullptr)); break;
        case ActiveRow::fine: body(kernels().fine, static_cast<const Fine*>(nullptr)); break;
        default: body(kernels().f32, static_cast<const float*>(nullptr));
    }
}

// out[list[i]] = <row, w[list[i]]> for weights w (.., ld) whose column `bias` is that of the bias.
inline void dots_list(const ActiveRow& row, const float* w, std::int64_t ld, std::int64_t bias,
                      const int* list, int count, float* out) {
    with_format(row.format, [&](const auto& kernel, auto type) {
        kernel.dots_list(static_cast<decltype(type)>(row.values), w, ld, list, count,
                         static_cast<int>(ld), out);
    });
    for (int i = 0; i < count; ++i) {
        out[list[i]] = out[list[i]] * row.unit + w[list[i] * ld + bias];
    }
}

// out[r, k] = <row r, w[k]>, at most kLines rows of one format.
inline void dots_lines(const ActiveRow* row, int rows, const float* w, std::int64_t ld,
                       std::int64_t bias, int vectors, float* out, std::int64_t ldo) {
    with_format(row->format, [&](const auto& kernel, auto type) {
        decltype(type) line[kLines];
        for (int r = 0; r < rows; ++r) line[r] = static_cast<decltype(type)>(row[r].values);
        kernel.dots_lines(line, rows, w, ld, vectors, static_cast<int>(ld), out, ldo, nullptr, 0);
    });
    for (int r = 0; r < rows; ++r) {
        float* f = out + r * ldo;
        for (int k = 0; k < vectors; ++k) f[k] = f[k] * row[r].unit + w[k * ld + bias];
    }
}

// Sums over a list of rows of (coefficients of a row) x (row), for `vectors` vectors at once. The
// rows are split into parts whose sums are added in their order: the result does not depend on the
// number of threads.
class RowSums {
  public:
    static constexpr int kParts = 16;  // unless fewer are asked for
    static constexpr int kBlock = 32;  // rows that are added at once

    // Takes the coefficients of one row after the other.
    class Sink {
      public:
        Sink(const ActiveRows& rows, int vectors)
            : count_(vectors, 0),
              bias_(vectors, 0.0f),
              values_(static_cast<std::size_t>(vectors) * kBlock),
              coefficient_(values_.size()),
              tile_(static_cast<std::size_t>(kBlock) * rows.ld(), 0.0f) {}

        void add(int vector, float coefficient) {
            const int at = vector * kBlock + count_[vector]++;
            values_[at] = row_.values;
            coefficient_[at] = coefficient * row_.unit;
            bias_[vector] += coefficient;
        }

      private:
        friend class RowSums;
        std::vector<int> count_;  // (vectors)
        std::vector<float> bias_;
        std::vector<const void*> values_;  // (vectors, kBlock)
        std::vector<float> coefficient_;
        AlignedBuffer<float> tile_;  // rows that are not kept
        ActiveRow row_{};
    };

    RowSums(const ActiveRows& rows, int vectors, int threads, int parts = kParts)
        : rows_(rows),
          vectors_(vectors),
          parts_(parts),
          threads_(std::min(threads, parts)),
          sums_(static_cast<std::size_t>(parts) * vectors * rows.ld()) {
        for (int t = 0; t < threads_; ++t) work_.emplace_back(rows, vectors);
    }

    // coefficients(part, item, row, sink) is called once for each item < count, in parallel for
    // different parts; index(item) is its row. total (vectors, ld) is overwritten.
    template <class Index, class Coefficients>
    void run(std::int64_t count, bool coarse, Index index, Coefficients coefficients,
             float* total) {
        const std::int64_t ld = rows_.ld(), cells = vectors_ * ld;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
        for (int part = 0; part < parts_; ++part) {
            Sink& sink = work_[omp_get_thread_num()];
            float* sum = sums_.data() + part * cells;
            std::fill_n(sum, cells, 0.0f);
            const std::int64_t last = count * (part + 1) / parts_;
            for (std::int64_t item = count * part / parts_; item < last;) {
                ActiveRow::Format format{};
                for (int m = 0; m < kBlock && item < last; ++m, ++item) {
                    float* line = sink.tile_.data() + m * ld;
                    const std::int64_t r = index(item);
                    if (item + kAhead < last) rows_.prefetch(index(item + kAhead), coarse);
                    const ActiveRow row = rows_.read(r, coarse, line);
                    if (m > 0 && row.format != format) break;  // a block has rows of one format
                    format = row.format;
                    sink.row_ = row;
                    coefficients(part, item, row, sink);
                }
                for (int k = 0; k < vectors_; ++k) flush(sink, format, k, sum + k * ld);
            }
            for (int k = 0; k < vectors_; ++k) {
                sum[k * ld + rows_.bias()] += sink.bias_[k];
                sink.bias_[k] = 0.0f;
            }
        }
#pragma omp parallel for schedule(static) num_threads(threads_)
        for (int k = 0; k < vectors_; ++k) {
            float* to = total + k * ld;
            std::copy_n(sums_.data() + k * ld, ld, to);
            for (int part = 1; part < parts_; ++part) {
                const float* from = sums_.data() + part * cells + k * ld;
                for (std::int64_t j = 0; j < ld; ++j) to[j] += from[j];
            }
        }
    }

  private:
    void flush(Sink& sink, ActiveRow::Format format, int k, float* sum) const {
        const int at = k * kBlock, count = sink.count_[k];
        sink.count_[k] = 0;
        if (count == 0) return;
        with_format(format, [&](const auto& kernel, auto type) {
            decltype(type) line[kBlock];
            for (int i = 0; i < count; ++i) {
                line[i] = static_cast<decltype(type)>(sink.values_[at + i]);
            }
            kernel.update_list(sum, line, sink.coefficient_.data() + at, count,
                               static_cast<int>(rows_.ld()));
        });
    }

    const ActiveRows& rows_;
    const int vectors_, parts_, threads_;
    AlignedBuffer<float> sums_;  // (part, vector, ld)
    std::vector<Sink> work_;
};

}  // namespace lead_fast
