// A fixed block of uninitialised memory on a cache-line boundary.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "error.h"

namespace cvm {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;

inline int64_t align_up(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

class AlignedBlock {
 public:
  AlignedBlock() = default;
  explicit AlignedBlock(int64_t bytes) {
    if (bytes == 0) return;
    const bool large = bytes >= kHugePage;
    const int64_t unit = large ? kHugePage : kAlignment;
    const auto size = static_cast<size_t>((bytes + unit - 1) / unit * unit);
    memory_.reset(std::aligned_alloc(static_cast<size_t>(unit), size));
    if (!memory_) runtime_error("out of memory: ", bytes, " bytes are not to be had");
#ifdef MADV_HUGEPAGE
    if (large) madvise(memory_.get(), size, MADV_HUGEPAGE);  // fewer page faults and address look-ups
#endif
  }
  char* data() const { return static_cast<char*>(memory_.get()); }
  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
};

}  // namespace cvm
