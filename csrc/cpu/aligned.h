// A buffer aligned to a cache line, freed on every way out. Not initialised unless filled.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace lead_fast {

template <class T>
class AlignedBuffer {
  public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(std::size_t size) : size_(size) {
        if (bytes() == 0) return;
#if defined(__linux__)
        if (mapped()) {
            void* place =
                mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (place == MAP_FAILED) throw std::bad_alloc();
            data_ = static_cast<T*>(place);
            return;
        }
#endif
        const std::size_t alignment = bytes() < kHuge ? 64 : kHugePage;
        const std::size_t whole = (bytes() + alignment - 1) / alignment * alignment;
        data_ = static_cast<T*>(std::aligned_alloc(alignment, whole));
        if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        // A wish: rows read here and there take a page walk each where pages are small.
        if (alignment == kHugePage) madvise(data_, whole, MADV_HUGEPAGE);
#endif
    }
    AlignedBuffer(std::size_t size, T value) : AlignedBuffer(size) { fill(value); }
    AlignedBuffer(AlignedBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~AlignedBuffer() {
#if defined(__linux__)
        if (mapped()) {
            if (data_ != nullptr) munmap(data_, bytes());
            return;
        }
#endif
        std::free(data_);
    }

    void fill(T value) {
        for (std::size_t i = 0; i < size_; ++i) data_[i] = value;
    }
    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }

  private:
    static constexpr std::size_t kHugePage = std::size_t{1} << 21;
    // From here on large pages are worth asking for.
    static constexpr std::size_t kHuge = 16 * kHugePage;
    // From here on a buffer is a mapping of its own, so that the system has it back when it is
    // freed; the allocator keeps what it once grew by.
    static constexpr std::size_t kMapped = std::size_t{1} << 18;

    std::size_t bytes() const { return size_ * sizeof(T); }
    bool mapped() const { return bytes() >= kMapped && bytes() < kHuge; }

    T* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace lead_fast
