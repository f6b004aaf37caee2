// Devices, streams, scratch memory and library handles, all RAII.
//
// Nothing here runs before the first operation. State belongs to one process: a child made by
// fork() after CUDA was used cannot use CUDA, says so, and frees nothing of its parent's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "error.h"

namespace lead_fast {
namespace cuda {

// A number of blocks for a launch.
inline unsigned grid(std::int64_t blocks) { return static_cast<unsigned>(blocks); }

struct DeviceFacts {
    int processors;            // streaming multiprocessors
    std::size_t block_memory;  // most shared memory a block may ask for
    int major, minor;          // compute capability
};

// An operation on one device and stream; the thread's current device is restored at its end.
class Call {
  public:
    Call(int device, std::uintptr_t stream);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    int device() const { return device_; }
    cudaStream_t stream() const { return stream_; }
    const DeviceFacts& facts() const { return *facts_; }
    void synchronize() const;

  private:
    int device_, previous_;
    cudaStream_t stream_;
    const DeviceFacts* facts_;
};

// Scratch memory of one call, allocated and freed in the order of its stream, from a pool of the
// package's own that keeps a little between calls.
class Scratch {
  public:
    Scratch(const Call& call, std::size_t bytes);
    ~Scratch();
    Scratch(Scratch&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          bytes_(other.bytes_),
          stream_(other.stream_) {}
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    void zero() const;

  private:
    void* data_;
    std::size_t bytes_;
    cudaStream_t stream_;
};

template <class T>
class Buffer {
  public:
    Buffer(const Call& call, std::int64_t count)
        : scratch_(call, static_cast<std::size_t>(count) * sizeof(T)), stream_(call.stream()) {}

    T* data() const { return static_cast<T*>(scratch_.data()); }
    void zero() const { scratch_.zero(); }

    // The host's memory may be changed once this returns.
    void upload(const T* host, std::int64_t count) const {
        LEAD_FAST_CHECK(cudaMemcpyAsync(data(), host, static_cast<std::size_t>(count) * sizeof(T),
                                        cudaMemcpyHostToDevice, stream_));
    }
    // Complete after the call's synchronize().
    void download(T* host, std::int64_t count) const {
        LEAD_FAST_CHECK(cudaMemcpyAsync(host, data(), static_cast<std::size_t>(count) * sizeof(T),
                                        cudaMemcpyDeviceToHost, stream_));
    }

  private:
    Scratch scratch_;
    cudaStream_t stream_;
};

// A row-major matrix, `across` numbers from row to row, perhaps the transpose of what is wanted.
template <class T>
struct FactorOf {
    const T* data;
    std::int64_t across;
    bool transposed = false;
};
using Factor = FactorOf<float>;

// A handle of this call's device, lent from a list so that no two threads share one, with a
// workspace that belongs to the call's stream.
class Blas {
  public:
    explicit Blas(const Call& call);
    ~Blas();
    Blas(const Blas&) = delete;
    Blas& operator=(const Blas&) = delete;

    // c (m, n) = a (m, k) b (k, n) + beta c; all row-major float32 with float32 sums, or with
    // products in TF32 if allowed.
    void multiply(std::int64_t m, std::int64_t n, std::int64_t k, const Factor& a, const Factor& b,
                  float beta, float* c, std::int64_t across_c, bool allow_tf32 = false) const;
    // The same in float64.
    void multiply(std::int64_t m, std::int64_t n, std::int64_t k, const FactorOf<double>& a,
                  const FactorOf<double>& b, double beta, double* c, std::int64_t across_c) const;
    cublasHandle_t get() const { return handle_; }

  private:
    int device_;
    Scratch workspace_;
    cublasHandle_t handle_;
};

class Solver {
  public:
    explicit Solver(const Call& call);
    ~Solver();
    Solver(const Solver&) = delete;
    Solver& operator=(const Solver&) = delete;
    cusolverDnHandle_t get() const { return handle_; }

  private:
    int device_;
    cusolverDnHandle_t handle_;
};

int device_count();
int current_device();  // of the calling thread
// Frees idle handles and what the pools keep; on every device, or nothing in a forked child.
void release();
// What was measured of a process: handles made and idle, bytes that the pools hold and have lent.
struct Usage {
    int handles_made, handles_idle;
    std::uint64_t reserved, used;
};
Usage usage();
// Marks this process as a fork of one that used CUDA, as the handler of fork() does; for tests.
bool forked_after_use();

}  // namespace cuda
}  // namespace lead_fast
