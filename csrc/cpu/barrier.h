// A barrier for a few threads that meet every few tens of microseconds.
#pragma once

#include <atomic>
#include <thread>

namespace lead_fast {

// Spins briefly, then gives the processor away: correct, if slow, when threads outnumber cores.
class SpinBarrier {
  public:
    explicit SpinBarrier(int team) : team_(team) {}

    void wait() {
        if (team_ == 1) return;
        const unsigned phase = phase_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == team_) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
            if (spin < 200) {
#if defined(__x86_64__)
                __builtin_ia32_pause();
#endif
            } else {
                std::this_thread::yield();
            }
        }
    }

  private:
    const int team_;
    std::atomic<int> arrived_{0};
    std::atomic<unsigned> phase_{0};
};

}  // namespace lead_fast
