// An operator's fast kernel for any processor: the reference's results in independent pieces.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "ops/operator.h"

namespace cvm {

// Immutable once made: threads run pieces of it at the same time.
class Loop {
 public:
  // `grain`: items worth handing to a thread.
  Loop(int64_t items, int64_t grain) : items_(items), grain_(grain < 1 ? 1 : grain) {}
  virtual ~Loop() = default;

  int64_t items() const { return items_; }
  int64_t grain() const { return grain_; }
  // The items begin..end-1, which write to elements that no others read or write.
  virtual void run(const Buffers& buffers, int64_t begin, int64_t end) const = 0;

 private:
  int64_t items_, grain_;
};

constexpr int64_t kGrain = 1 << 14;  // elements worth handing to a thread

// f(buffers, begin, end) for the items begin..end-1.
template <class F>
std::unique_ptr<Loop> make_loop(int64_t items, int64_t grain, F f) {
  class Loop : public cvm::Loop {
   public:
    Loop(int64_t items, int64_t grain, F f) : cvm::Loop(items, grain), f_(std::move(f)) {}
    void run(const Buffers& buffers, int64_t begin, int64_t end) const override {
      f_(buffers, begin, end);
    }

   private:
    F f_;
  };
  return std::make_unique<Loop>(items, grain, std::move(f));
}

}  // namespace cvm
