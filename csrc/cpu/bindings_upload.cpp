// The loop that uploads to GPUs (../upload.h), run here for the tests: pieces are ordinary memory,
// and copies are put off until they are waited for, so that a piece filled too early shows.

#include "bindings_upload.h"

#include "../upload_bindings.h"

using namespace lead_fast;

namespace {

class HostUploader {
  public:
    HostUploader(int, int threads, std::int64_t piece)
        : piece_(piece), lanes_(static_cast<std::size_t>(threads)) {}

    void upload(const UploadSource& source, char* target) {
        const UploadGate::Pass pass(gate_);
        const std::lock_guard<std::mutex> hold(lock_);
        target_ = target;
        used = sent = together = 0;
        UploadTeam(source, piece_, *this, gate_).run(static_cast<int>(lanes_.size()));
    }
    void release() {
        const std::lock_guard<std::mutex> hold(lock_);
        for (Lane& lane : lanes_) lane = Lane();
    }
    static void stop(std::chrono::milliseconds most) { gate_.close(most); }

    void begin(int lane) {
        for (Piece& one : at(lane).pieces) one.memory.resize(static_cast<std::size_t>(piece_));
        ++used;
    }
    char* piece(int lane, int which) { return at(lane).pieces[which].memory.data(); }
    void send(int lane, int which, std::int64_t offset, std::int64_t bytes) {
        if (sent++ == fail_at) throw std::runtime_error("the bus is off");
        Piece& one = at(lane).pieces[which];
        one.offset = offset;
        one.bytes = bytes;
        if (at(lane).pieces[1 - which].bytes > 0) together = 2;
    }
    void wait(int lane, int which) {
        Piece& one = at(lane).pieces[which];
        std::memcpy(target_ + one.offset, one.memory.data(), static_cast<std::size_t>(one.bytes));
        one.bytes = 0;
    }
    void finish(int lane) {
        wait(lane, 0);
        wait(lane, 1);
    }

    std::atomic<int> used{0};      // threads of the latest upload
    std::atomic<int> sent{0};      // pieces
    std::atomic<int> together{0};  // 2: a thread had both pieces on their way
    int fail_at = -1;              // the piece that cannot be sent

  private:
    struct Piece {
        std::vector<char> memory;
        std::int64_t offset = 0, bytes = 0;
    };
    struct Lane {
        Piece pieces[2];
    };
    Lane& at(int lane) { return lanes_[static_cast<std::size_t>(lane)]; }

    static UploadGate gate_;
    std::int64_t piece_;
    std::mutex lock_;
    std::vector<Lane> lanes_;
    char* target_ = nullptr;
};

UploadGate HostUploader::gate_;

}  // namespace

void bind_upload(py::module_& m) {
    bind_uploader<HostUploader>(m, "HostUploader")
        .def_property_readonly("used", [](const HostUploader& u) { return u.used.load(); })
        .def_property_readonly("sent", [](const HostUploader& u) { return u.sent.load(); })
        .def_property_readonly("together", [](const HostUploader& u) { return u.together.load(); })
        .def_readwrite("fail_at", &HostUploader::fail_at);
}
