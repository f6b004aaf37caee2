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
        const std::size_t alignment = size * sizeof(T) < 16 * kHugePage ? 64 : kHugePage;
        const std::size_t bytes = (size * sizeof(T) + alignment - 1) / alignment * alignment;
        if (bytes == 0) return;
        data_ = static_cast<T*>(std::aligned_alloc(alignment, bytes));
        if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        // A wish: rows read here and there take a page walk each where pages are small.
        if (alignment == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
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
    ~AlignedBuffer() { std::free(data_); }

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
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace lead_fast
