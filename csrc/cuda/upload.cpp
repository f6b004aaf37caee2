#include "upload.h"

namespace lead_fast {
namespace cuda {
namespace {

UploadGate gate;

}  // namespace

Uploader::Uploader(int device, int threads, std::int64_t piece)
    : device_(device), piece_(piece), lanes_(static_cast<std::size_t>(threads)) {}

Uploader::~Uploader() {
    try {
        release();
    } catch (...) {
        // The driver is gone, and what was to be given back with it.
    }
}

void Uploader::upload(const UploadSource& source, char* target) {
    const Call call(device_, 0);  // before any lock: a forked child may find it held for ever
    const UploadGate::Pass pass(gate);
    const std::lock_guard<std::mutex> hold(lock_);
    target_ = target;
    UploadTeam(source, piece_, *this, gate).run(static_cast<int>(lanes_.size()));
}

void Uploader::release() {
    if (forked_after_use()) return;  // all of it is the parent's
    const std::lock_guard<std::mutex> hold(lock_);
    for (Lane& lane : lanes_) {
        if (lane.stream == nullptr) continue;
        const Call call(device_, 0);
        for (cudaEvent_t event : lane.sent) {
            if (event != nullptr) cudaEventDestroy(event);
        }
        cudaStreamDestroy(lane.stream);
        if (lane.memory != nullptr) cudaFreeHost(lane.memory);
        lane = Lane();
    }
}

void Uploader::stop(std::chrono::milliseconds most) {
    if (!forked_after_use()) gate.close(most);
}

// Each thread pins its own memory, which takes long: the first is at work meanwhile.
void Uploader::begin(int number) {
    LEAD_FAST_CHECK(cudaSetDevice(device_));
    Lane& lane = at(number);
    if (lane.stream == nullptr) {
        LEAD_FAST_CHECK(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking));
    }
    for (cudaEvent_t& event : lane.sent) {
        if (event != nullptr) continue;
        // Who waits sleeps: the cores are for those who fill, and for scoring.
        LEAD_FAST_CHECK(
            cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync));
    }
    if (lane.memory == nullptr) {
        void* memory = nullptr;
        const std::size_t bytes = 2 * static_cast<std::size_t>(piece_);
        LEAD_FAST_CHECK(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
        lane.memory = static_cast<char*>(memory);
    }
}

void Uploader::send(int number, int which, std::int64_t offset, std::int64_t bytes) {
    const Lane& lane = at(number);
    LEAD_FAST_CHECK(cudaMemcpyAsync(target_ + offset, piece(number, which),
                                    static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice,
                                    lane.stream));
    LEAD_FAST_CHECK(cudaEventRecord(lane.sent[which], lane.stream));
}

void Uploader::wait(int number, int which) {
    LEAD_FAST_CHECK(cudaEventSynchronize(at(number).sent[which]));  // at once if never recorded
}

void Uploader::finish(int number) {
    const Lane& lane = at(number);
    if (lane.memory == nullptr) return;  // nothing was sent
    // Asleep by the events; then the stream, for a copy whose event could not be recorded.
    const cudaError_t first = cudaEventSynchronize(lane.sent[0]);
    const cudaError_t second = cudaEventSynchronize(lane.sent[1]);
    LEAD_FAST_CHECK(cudaStreamSynchronize(lane.stream));
    LEAD_FAST_CHECK(first);
    LEAD_FAST_CHECK(second);
}

}  // namespace cuda
}  // namespace lead_fast
