// A fixed block of uninitialised memory on a cache-line boundary.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "error.h"

namespace cvm {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;

inline int64_t align_up(int64_t bytes, int64_t unit = kAlignment) {
  return (bytes + unit - 1) / unit * unit;
}

// A large one is mapped, so that it is the system's again once it is freed,
// whatever the allocator keeps back.
class AlignedBlock {
 public:
  AlignedBlock() = default;
  explicit AlignedBlock(int64_t bytes) {
    if (bytes == 0) return;
    if (bytes >= kLeastMapped)
      map(bytes);
    else
      data_ = std::aligned_alloc(kAlignment, static_cast<size_t>(align_up(bytes)));
    if (!data_) runtime_error("out of memory: ", bytes, " bytes are not to be had");
  }
  ~AlignedBlock() {
    if (mapped_ > 0)
      munmap(data_, static_cast<size_t>(mapped_));
    else
      std::free(data_);
  }
  AlignedBlock(AlignedBlock&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), mapped_(std::exchange(other.mapped_, 0)) {}
  AlignedBlock& operator=(AlignedBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }

  char* data() const { return static_cast<char*>(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  static constexpr int64_t kLeastMapped = 1 << 17;

  void map(int64_t bytes) {
    const bool huge = bytes >= kHugePage;
    const int64_t size = huge ? align_up(bytes, kHugePage) : bytes;
    const int64_t room = huge ? kHugePage : 0;  // to find a boundary in
    void* const found = mmap(nullptr, static_cast<size_t>(size + room), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) return;
    char* const first = static_cast<char*>(found);
    const auto above = static_cast<int64_t>(reinterpret_cast<uintptr_t>(found) % kHugePage);
    const int64_t before = huge && above > 0 ? kHugePage - above : 0;
    if (before > 0) munmap(first, static_cast<size_t>(before));
    if (room > before) munmap(first + before + size, static_cast<size_t>(room - before));
    data_ = first + before, mapped_ = size;
#ifdef MADV_HUGEPAGE
    if (huge) madvise(data_, static_cast<size_t>(size), MADV_HUGEPAGE);  // fewer page faults and address look-ups
#endif
  }

  void* data_ = nullptr;
  int64_t mapped_ = 0;  // bytes, of a block that is mapped
};

}  // namespace cvm
