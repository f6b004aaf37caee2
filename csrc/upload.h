// Copies a matrix to where only pieces of pinned memory can be sent: threads fill pieces and send
// them, each filling its second piece while its first is on its way.
//
// No CUDA and no Python: `Lanes` says what the pieces are and how they are sent, per thread:
//   begin(lane)                       before anything else, by the thread itself
//   piece(lane, which)                memory of its piece 0 or 1
//   send(lane, which, offset, bytes)  begins to copy a filled piece
//   wait(lane, which)                 until the piece may be filled again; at once if never sent
//   finish(lane)                      until all that was sent has arrived; whatever failed before
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

namespace lead_fast {

// Rows of `length` bytes: in memory, one every `stride` bytes, or in a file, where none is between.
struct UploadSource {
    const char* memory;  // null for a file
    int file;
    std::int64_t begin;  // of the first row in the file
    std::int64_t rows, stride, length;

    std::int64_t bytes() const { return rows * length; }
};

struct FileEnded : std::runtime_error {
    FileEnded() : std::runtime_error("the file has become shorter") {}
};

// Lets a process that ends wait for its uploads, which threads that it does not wait for may be at:
// what the pieces lie in would be taken away under them.
class UploadGate {
  public:
    bool closed() const { return closed_.load(); }

    // No further uploads; those in flight stop after the piece they are at. Waits no longer than
    // `most`: a file system that hangs keeps nobody from leaving.
    void close(std::chrono::milliseconds most) {
        std::unique_lock<std::mutex> hold(lock_);
        closed_ = true;
        left_.wait_for(hold, most, [this] { return inside_ == 0; });
    }

    class Pass {
      public:
        explicit Pass(UploadGate& gate) : gate_(gate) {
            const std::lock_guard<std::mutex> hold(gate_.lock_);
            if (gate_.closed()) gate_.refuse();
            ++gate_.inside_;
        }
        ~Pass() {
            const std::lock_guard<std::mutex> hold(gate_.lock_);
            --gate_.inside_;
            gate_.left_.notify_all();
        }
        Pass(const Pass&) = delete;
        Pass& operator=(const Pass&) = delete;

      private:
        UploadGate& gate_;
    };

    [[noreturn]] void refuse() const { throw std::runtime_error("upload: the process is ending"); }

  private:
    std::atomic<bool> closed_{false};
    int inside_ = 0;
    std::mutex lock_;
    std::condition_variable left_;
};

inline void copy_rows(const UploadSource& source, std::int64_t offset, std::int64_t bytes,
                      char* piece) {
    if (source.stride == source.length) {
        std::memcpy(piece, source.memory + offset, static_cast<std::size_t>(bytes));
        return;
    }
    const char* row = source.memory + offset / source.length * source.stride;
    for (std::int64_t within = offset % source.length; bytes > 0; within = 0) {
        const std::int64_t count = std::min(bytes, source.length - within);
        std::memcpy(piece, row + within, static_cast<std::size_t>(count));
        piece += count;
        bytes -= count;
        row += source.stride;
    }
}

inline void read_rows(const UploadSource& source, std::int64_t offset, std::int64_t bytes,
                      char* piece) {
    while (bytes > 0) {
        const ssize_t count = pread(source.file, piece, static_cast<std::size_t>(bytes),
                                    static_cast<off_t>(source.begin + offset));
        if (count == 0) throw FileEnded();
        if (count < 0) {
            if (errno == EINTR) continue;
            throw std::system_error(errno, std::generic_category());
        }
        piece += count;
        offset += count;
        bytes -= count;
    }
}

// One upload's threads.
template <class Lanes>
class UploadTeam {
  public:
    UploadTeam(const UploadSource& source, std::int64_t piece, Lanes& lanes, const UploadGate& gate)
        : source_(source), piece_(piece), lanes_(lanes), gate_(gate) {}

    // The caller is one of the threads. Returns, or throws what failed first, when all of them have
    // ended and all that was sent has arrived.
    void run(int threads) {
        const std::int64_t pieces = (source_.bytes() + piece_ - 1) / piece_;
        if (pieces == 0) return;
        const int team = static_cast<int>(std::min<std::int64_t>(threads, pieces));
        std::vector<std::thread> others;
        others.reserve(static_cast<std::size_t>(team));
        try {
            for (int lane = 1; lane < team; ++lane) {
                others.emplace_back(&UploadTeam::enter, static_cast<void*>(this), lane);
            }
        } catch (const std::exception&) {
            // The system gives no more threads: those that there are do it all.
        }
        work(0);
        for (std::thread& other : others) other.join();
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    // Not a member or a lambda: types of ours in the standard library's templates would be
    // exported.
    static void enter(void* team, int lane) { static_cast<UploadTeam*>(team)->work(lane); }

    void work(int lane) {
        try {
            send_pieces(lane);
        } catch (...) {
            note_failure();
        }
        try {
            lanes_.finish(lane);
        } catch (...) {
            note_failure();
        }
    }

    void send_pieces(int lane) {
        const std::int64_t total = source_.bytes();
        lanes_.begin(lane);
        for (int which = 0; !failed_; which = 1 - which) {
            const std::int64_t offset = next_.fetch_add(1) * piece_;
            if (offset >= total) return;
            if (gate_.closed()) gate_.refuse();
            const std::int64_t bytes = std::min(piece_, total - offset);
            lanes_.wait(lane, which);
            const auto fill = source_.memory != nullptr ? copy_rows : read_rows;
            fill(source_, offset, bytes, lanes_.piece(lane, which));
            lanes_.send(lane, which, offset, bytes);
        }
    }

    void note_failure() {
        const std::lock_guard<std::mutex> hold(lock_);
        if (!failure_) failure_ = std::current_exception();
        failed_ = true;
    }

    const UploadSource& source_;
    std::int64_t piece_;
    Lanes& lanes_;
    const UploadGate& gate_;
    std::atomic<std::int64_t> next_{0};
    std::atomic<bool> failed_{false};
    std::mutex lock_;
    std::exception_ptr failure_;
};

}  // namespace lead_fast
