// A barrier for a few threads that meet every few tens of microseconds.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace lead_fast {

// Waits by spinning for a few microseconds, which is all it takes while every thread has a core of
// its own, and then sleeps: a thread that only gave its turn away (yield) would be scheduled late
// where other programs compete for the cores.
class Barrier {
  public:
    explicit Barrier(int team) : team_(team) {}

    void wait() {
        if (team_ == 1) return;
        const unsigned phase = phase_.load();
        if (arrived_.fetch_add(1) + 1 == team_) {
            arrived_.store(0);
            phase_.store(phase + 1);
            if (sleepers_.load() > 0) {
                // A sleeper holds the lock from counting itself until it waits.
                std::lock_guard<std::mutex> hold(lock_);
                changed_.notify_all();
            }
            return;
        }
        for (int spin = 0; spin < kSpins; ++spin) {
            if (phase_.load(std::memory_order_acquire) != phase) return;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        std::unique_lock<std::mutex> hold(lock_);
        sleepers_.fetch_add(1);
        changed_.wait(hold, [&] { return phase_.load() != phase; });
        sleepers_.fetch_sub(1);
    }

  private:
    static constexpr int kSpins = 2000;

    const int team_;
    std::atomic<int> arrived_{0}, sleepers_{0};
    std::atomic<unsigned> phase_{0};
    std::mutex lock_;
    std::condition_variable changed_;
};

}  // namespace lead_fast
