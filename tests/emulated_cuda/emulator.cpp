#include "emulator.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "runtime_api.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace emulated {

Place now;

namespace {

constexpr int kLanes = 32, kMostThreads = 1024;
constexpr std::size_t kStack = 256 << 10;
constexpr std::size_t kUsual = 48 << 10;  // dynamic shared memory that needs no attribute

// -------------------------------------------------------------------------------------- fibers
// What a function keeps over a call, by the System V convention of x86-64.

extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");

enum class State { ready, at_block_barrier, in_warp, done };

struct Copy {
    void* to;
    const void* from;
    int group;
};

struct Fiber {
    void* stack = nullptr;
    void* top = nullptr;  // where it was left
    State state = State::done;
    const char* where = "";
    unsigned mask = 0;        // of the warp operation that it is in
    unsigned generation = 0;  // of the barrier or the group that it waits for
    dim3 thread;
    int number = 0;
    std::vector<Copy> copies;
    int group = 0;  // of copies that are not committed yet
#if defined(__SANITIZE_THREAD__)
    void* context = nullptr;
#endif
};

// Lanes that meet in an operation; found by the lowest of them.
struct Group {
    unsigned mask = 0, arrived = 0, generation = 0;
    const char* where = "";
    std::uint64_t slot[2][kLanes] = {};  // a fast lane may be one operation ahead
    unsigned unread[2] = {};             // lanes that have not had what is in a slot
    char order[2] = {};                  // addresses for the race detector
};

struct Warp {
    unsigned alive = 0;  // lanes that have not ended
    Group groups[kLanes];
};

std::mutex one_launch;
std::vector<Fiber> fibers(kMostThreads);
std::vector<Warp> warps(kMostThreads / kLanes);
Fiber* running = nullptr;
void* scheduler = nullptr;
#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack = nullptr;
std::size_t scheduler_size = 0;
#endif
#if defined(__SANITIZE_THREAD__)
void* scheduler_context = nullptr;
#endif
void (*body)(void*) = nullptr;
void* arguments = nullptr;
int threads = 0, live = 0, waiting = 0;
unsigned barrier_generation = 0;
const char* barrier_where = "";
char barrier_order[2], begin_order, end_order;
std::string problem;
std::map<const void*, std::size_t> limits;  // of dynamic shared memory
const void* seen[64];  // static shared memory of this block; no vector, which has instruments
int seen_count = 0;
std::size_t room = 0;  // for it

EMULATOR_OWN void release(char* address) {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(address);
#else
    static_cast<void>(address);
#endif
}

EMULATOR_OWN void acquire(char* address) {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(address);
#else
    static_cast<void>(address);
#endif
}

EMULATOR_OWN void to_scheduler(bool for_good) {
    Fiber* const own = running;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, scheduler_stack, scheduler_size);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(scheduler_context, __tsan_switch_to_fiber_no_sync);
#endif
    static_cast<void>(for_good);
    emulated_switch(&own->top, scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
#endif
}

EMULATOR_OWN void fail(const std::string& what) {
    if (problem.empty()) problem = what;
}

EMULATOR_OWN std::string name_of(const Fiber& f) {
    return "thread (" + std::to_string(f.thread.x) + ", " + std::to_string(f.thread.y) + ", " +
           std::to_string(f.thread.z) + ") of block (" + std::to_string(now.block.x) + ", " +
           std::to_string(now.block.y) + ", " + std::to_string(now.block.z) + ")";
}

EMULATOR_OWN void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    acquire(&begin_order);
    body(arguments);
    Fiber& own = *running;
    if (!own.copies.empty()) fail(name_of(own) + " ends with copies that nothing waited for");
    release(&end_order);
    own.state = State::done;
    warps[own.number / kLanes].alive &= ~(1u << own.number % kLanes);
    --live;
    to_scheduler(true);
    std::abort();  // nobody comes back
}

EMULATOR_OWN void prepare(Fiber& f, int number) {
    if (f.stack == nullptr) {
        constexpr std::size_t kGuard = 4096;
        void* const pages = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED || mprotect(pages, kGuard, PROT_NONE) != 0) std::abort();
        f.stack = static_cast<char*>(pages) + kGuard;
    }
#if defined(__SANITIZE_THREAD__)
    if (f.context == nullptr) f.context = __tsan_create_fiber(0);
#endif
    void** top = reinterpret_cast<void**>(static_cast<char*>(f.stack) + kStack) - 2;
    *top = reinterpret_cast<void*>(&fiber_main);  // at `ret` the stack is 8 off 16, as in a call
    f.top = top - 6;
    f.state = State::ready;
    f.number = number;
    f.thread.x = static_cast<unsigned>(number) % now.block_size.x;
    f.thread.y = static_cast<unsigned>(number) / now.block_size.x % now.block_size.y;
    f.thread.z = static_cast<unsigned>(number) / now.block_size.x / now.block_size.y;
    f.copies.clear();
    f.group = 0;
}

EMULATOR_OWN void resume(Fiber& f) {
    running = &f;
    now.thread = f.thread;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, f.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(f.context, __tsan_switch_to_fiber_no_sync);
#endif
    emulated_switch(&scheduler, f.top);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    running = nullptr;
}

// Two lines, of which one function's text may have several copies.
EMULATOR_OWN bool differ(const char* one, const char* other) {
    return one != other && std::strcmp(one, other) != 0;
}

EMULATOR_OWN Group& group_of(const Fiber& f) {
    return warps[f.number / kLanes].groups[__builtin_ctz(f.mask)];
}

EMULATOR_OWN bool can_go(const Fiber& f) {
    switch (f.state) {
        case State::ready: return true;
        case State::at_block_barrier: return barrier_generation != f.generation;
        case State::in_warp: return group_of(f).generation != f.generation;
        case State::done: return false;
    }
    return false;
}

EMULATOR_OWN void open_barrier_if_all_wait() {
    if (live == 0 || waiting < live) return;
    if (live < threads)
        fail(std::string("threads have ended before the barrier of ") + barrier_where);
    waiting = 0;
    ++barrier_generation;
}

// Of lanes, warps and blocks. EMULATED_ORDER: "forward", the default, "backward", or a number that
// seeds a random order.
EMULATOR_OWN std::vector<int> order_of(int count) {
    static const std::string wanted = [] {
        const char* given = std::getenv("EMULATED_ORDER");
        return std::string(given == nullptr ? "forward" : given);
    }();
    static std::mt19937 random(static_cast<unsigned>(std::atoi(wanted.c_str())));
    std::vector<int> order(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) order[i] = wanted == "backward" ? count - 1 - i : i;
    if (wanted != "forward" && wanted != "backward") {
        for (int i = count - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
    }
    return order;
}

// Of a thread that a failed launch leaves where it is.
EMULATOR_OWN void abandon(Fiber& f) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(f.context, __tsan_switch_to_fiber_no_sync);
    release(&end_order);
    __tsan_switch_to_fiber(scheduler_context, __tsan_switch_to_fiber_no_sync);
    __tsan_destroy_fiber(f.context);
    f.context = nullptr;
#endif
    f.state = State::done;
}

EMULATOR_OWN void run_block() {
    live = threads;
    waiting = 0;
    const int count = (threads + kLanes - 1) / kLanes;
    for (int w = 0; w < count; ++w) {
        warps[w].alive = 0;
        for (Group& group : warps[w].groups) {
            group.arrived = group.unread[0] = group.unread[1] = 0;
        }
    }
    seen_count = 0;
    for (int i = 0; i < threads; ++i) {
        prepare(fibers[i], i);
        warps[i / kLanes].alive |= 1u << i % kLanes;
    }
    release(&begin_order);
    const std::vector<int> warp_order = order_of(count), lane_order = order_of(kLanes);
    while (live > 0 && problem.empty()) {
        bool progress = false;
        for (const int w : warp_order) {
            for (bool moved = true; moved && problem.empty();) {
                moved = false;
                for (const int l : lane_order) {
                    const int i = w * kLanes + l;
                    if (i >= threads || !can_go(fibers[i])) continue;
                    resume(fibers[i]);
                    moved = progress = true;
                    open_barrier_if_all_wait();
                    if (!problem.empty()) break;
                }
            }
        }
        if (!progress && problem.empty()) {
            const Fiber* stuck = nullptr;
            for (int i = 0; i < threads && stuck == nullptr; ++i) {
                if (fibers[i].state != State::done) stuck = &fibers[i];
            }
            fail(name_of(*stuck) + " waits for ever at " + stuck->where);
        }
    }
    for (int i = 0; i < threads; ++i) {
        if (fibers[i].state != State::done) abandon(fibers[i]);
    }
    acquire(&end_order);
}

}  // namespace

EMULATOR_OWN void run(dim3 grid, dim3 block, std::size_t shared, const void* kernel,
                      void (*given_body)(void*), void* given_arguments) {
    const std::lock_guard<std::mutex> hold(one_launch);
    if (running != nullptr) std::abort();
    const std::uint64_t size = std::uint64_t{block.x} * block.y * block.z;
    if (size == 0 || size > kMostThreads || block.z > 64 || grid.x == 0 || grid.y == 0 ||
        grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
        set_error(cudaErrorInvalidConfiguration, "a grid or block that no GPU takes");
        return;
    }
    const auto limit = limits.find(kernel);
    const bool usual = limit == limits.end();
    if (shared > (usual ? kUsual : limit->second)) {
        set_error(cudaErrorInvalidValue, "more dynamic shared memory than was asked for");
        return;
    }
    const std::size_t whole = (usual ? kUsual : std::size_t{kMostShared}) - shared;
#if defined(__SANITIZE_THREAD__)
    scheduler_context = __tsan_get_current_fiber();
#endif
    body = given_body;
    arguments = given_arguments;
    threads = static_cast<int>(size);
    now.block_size = block;
    now.grid_size = grid;
    problem.clear();
    const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
    if (blocks > 1u << 30) std::abort();
    for (const int b : order_of(static_cast<int>(blocks))) {
        const unsigned number = static_cast<unsigned>(b);
        now.block = dim3(number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y);
        // Of its very size, so that what lies behind it is found; NaN until written.
        void* memory = nullptr;
        if (shared > 0) {
            if (posix_memalign(&memory, 16, shared) != 0) std::abort();
            std::memset(memory, 0xff, shared);
        }
        now.dynamic_shared = static_cast<unsigned char*>(memory);
        room = whole;
        run_block();
        std::free(memory);
        if (!problem.empty()) break;
    }
    if (!problem.empty()) set_error(cudaErrorLaunchFailure, problem);
}

EMULATOR_OWN void fresh(void* variable, std::size_t bytes) {
    for (int i = 0; i < seen_count; ++i) {
        if (seen[i] == variable) return;
    }
    if (seen_count == 64) std::abort();
    seen[seen_count++] = variable;
    if (bytes > room) fail("static and dynamic shared memory are more than a block may have");
    room = bytes > room ? 0 : room - bytes;
    // A volatile loop: the sanitizers see a memset.
    volatile unsigned char* const to = static_cast<unsigned char*>(variable);
    for (std::size_t i = 0; i < bytes; ++i) to[i] = 0xff;
}

EMULATOR_OWN void block_barrier(const char* where) {
    Fiber& own = *running;
    if (waiting == 0) {
        barrier_where = where;
    } else if (differ(barrier_where, where)) {
        fail(name_of(own) + " is at the barrier of " + where + ", others at that of " +
             barrier_where);
    }
    const unsigned generation = barrier_generation;
    release(&barrier_order[generation % 2]);
    own.state = State::at_block_barrier;
    own.where = where;
    own.generation = generation;
    ++waiting;
    to_scheduler(false);
    own.state = State::ready;
    acquire(&barrier_order[generation % 2]);
}

namespace {

// Waits until all lanes of `mask` are here; the operation's number.
EMULATOR_OWN unsigned meet(unsigned mask, std::uint64_t bits, const char* where, bool ordered) {
    Fiber& own = *running;
    const int own_lane = own.number % kLanes;
    own.mask = mask;
    own.where = where;
    if ((mask >> own_lane & 1u) == 0 || (mask & ~warps[own.number / kLanes].alive) != 0) {
        fail(name_of(own) + " names lanes at " + where + " that are not there, or not its own");
        to_scheduler(true);
    }
    Group& group = group_of(own);
    if (group.arrived == 0) {
        group.mask = mask;
        group.where = where;
    } else if (group.mask != mask || differ(group.where, where)) {
        fail(name_of(own) + " is at " + where + ", other lanes of its warp at " + group.where);
        to_scheduler(true);
    }
    // Of a mask with fewer lanes some may be two operations ahead of others.
    while (group.unread[group.generation % 2] != 0 && problem.empty()) to_scheduler(false);
    const unsigned generation = group.generation;
    group.slot[generation % 2][own_lane] = bits;
    group.arrived |= 1u << own_lane;
    if (ordered) release(&group.order[generation % 2]);
    if (group.arrived == mask) {
        group.arrived = 0;
        group.unread[generation % 2] = mask;
        ++group.generation;
    } else {
        own.state = State::in_warp;
        own.generation = generation;
        to_scheduler(false);
        own.state = State::ready;
    }
    if (ordered) acquire(&group.order[generation % 2]);
    return generation;
}

EMULATOR_OWN void have_read(unsigned generation) {
    group_of(*running).unread[generation % 2] &= ~(1u << running->number % kLanes);
}

}  // namespace

EMULATOR_OWN void warp_barrier(unsigned mask, const char* where) {
    have_read(meet(mask, 0, where, true));
}

EMULATOR_OWN std::uint64_t exchange(unsigned mask, std::uint64_t bits, int from,
                                    const char* where) {
    const unsigned generation = meet(mask, bits, where, false);
    if ((mask >> from & 1u) == 0) {
        fail(name_of(*running) + " reads at " + where + " from a lane that takes no part");
        return bits;
    }
    const std::uint64_t found = group_of(*running).slot[generation % 2][from];
    have_read(generation);
    return found;
}

EMULATOR_OWN unsigned ballot(unsigned mask, bool vote, const char* where) {
    const unsigned generation = meet(mask, vote ? 1 : 0, where, false);
    unsigned votes = 0;
    for (int l = 0; l < kLanes; ++l) {
        if ((mask >> l & 1u) != 0 && group_of(*running).slot[generation % 2][l] != 0) {
            votes |= 1u << l;
        }
    }
    have_read(generation);
    return votes;
}

EMULATOR_OWN int lane() { return running->number % kLanes; }

// Instrumented: the bytes are nobody's from here until the copy is waited for.
void copy_async(void* to, const void* from) {
    static const std::vector<unsigned char> nothing(16, 0xff);
    if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 ||
        reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
        fail(name_of(*running) + " copies 16 bytes from or to where none may begin");
        return;
    }
    std::memcpy(to, nothing.data(), 16);  // memset would be expanded past the sanitizers
    running->copies.push_back({to, from, running->group});
}

EMULATOR_OWN void commit_copies() { ++running->group; }

// Instrumented: here the bytes are read and written.
void wait_for_copies(int pending) {
    std::vector<Copy>& copies = running->copies;
    const int last = running->group - pending;  // groups before this one are complete
    std::size_t done = 0;
    while (done < copies.size() && copies[done].group < last) {
        std::memcpy(copies[done].to, copies[done].from, 16);
        ++done;
    }
    copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

float power_of_two(float x) {
    const float y = std::exp2f(x);
    return std::fabs(y) < 0x1p-126f ? 0.0f : y;
}

cudaError_t set_limit(const void* kernel, cudaFuncAttribute, int value) {
    if (value < 0 || value > kMostShared) return set_error(cudaErrorInvalidValue, "so much shared");
    const std::lock_guard<std::mutex> hold(one_launch);
    limits[kernel] = static_cast<std::size_t>(value);
    return cudaSuccess;
}

}  // namespace emulated
