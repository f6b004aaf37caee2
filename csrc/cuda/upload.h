// Features on their way to a GPU.
#pragma once

#include <vector>

#include "../upload.h"
#include "runtime.h"

namespace lead_fast {
namespace cuda {

// A stream and two pinned pieces per thread, made when first needed. One upload at a time, others
// wait for it.
class Uploader {
  public:
    Uploader(int device, int threads, std::int64_t piece);
    ~Uploader();
    Uploader(const Uploader&) = delete;
    Uploader& operator=(const Uploader&) = delete;

    // To memory that no stream is at work with. All is there on return, for whatever is launched
    // then on any stream; no stream but those of this object is waited for or kept waiting.
    void upload(const UploadSource& source, char* target);
    // Gives streams and pieces back; the next upload makes new ones.
    void release();
    // At the end of the process, see UploadGate.
    static void stop(std::chrono::milliseconds most);

    // For UploadTeam.
    void begin(int number);
    char* piece(int number, int which) { return at(number).memory + which * piece_; }
    void send(int number, int which, std::int64_t offset, std::int64_t bytes);
    void wait(int number, int which);
    void finish(int number);

  private:
    struct Lane {
        cudaStream_t stream = nullptr;
        cudaEvent_t sent[2] = {nullptr, nullptr};
        char* memory = nullptr;  // of both pieces
    };
    Lane& at(int number) { return lanes_[static_cast<std::size_t>(number)]; }

    int device_;
    std::int64_t piece_;
    std::mutex lock_;
    std::vector<Lane> lanes_;
    char* target_ = nullptr;
};

}  // namespace cuda
}  // namespace lead_fast
