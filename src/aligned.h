// A fixed block of uninitialised memory on a cache-line boundary.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "error.h"

namespace cvm {

constexpr int64_t kAlignment = 64;

inline int64_t align_up(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

class AlignedBlock {
 public:
  AlignedBlock() = default;
  explicit AlignedBlock(int64_t bytes) {
    if (bytes == 0) return;
    memory_.reset(std::aligned_alloc(kAlignment, static_cast<size_t>(align_up(bytes))));
    if (!memory_) runtime_error("out of memory: ", bytes, " bytes are not to be had");
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
