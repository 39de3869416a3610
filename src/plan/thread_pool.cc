#include "plan/thread_pool.h"

#include <algorithm>
#include <exception>

namespace cvm {
namespace {

// Loops of one inference follow each other closely: a worker looks out for the
// next one this often, about a millisecond, before it sleeps, which saves the
// price of waking it.
constexpr int kSpins = 20000;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

template <class Ready>
bool spin_until(Ready ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return true;
    relax();
  }
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  workers_.reserve(static_cast<size_t>(threads));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::exception&) {
    // No more threads or memory for them: those that started do, with the same results.
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    ++generation_;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(const Loop& loop) {
  bool wake = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    loop_ = loop;
    next_ = 0;
    open_ = true;
    ++generation_;
    wake = asleep_ > 0;
  }
  if (wake) start_.notify_all();
  run_chunks(0);
  {
    // A worker that was too slow to join has nothing left to do: waiting for
    // it would cost more than most loops take.
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
  }
  if (spin_until([&] { return inside_ == 0; })) return;
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return inside_ == 0; });
}

void ThreadPool::run_chunks(int thread) {
  for (;;) {
    const int64_t begin = next_.fetch_add(loop_.grain);
    if (begin >= loop_.count) return;
    loop_.call(loop_.body, begin, std::min(begin + loop_.grain, loop_.count), thread);
  }
}

// Waits for an open loop after number *seen; false when the pool closes.
bool ThreadPool::join_loop(uint64_t* seen) {
  for (;;) {
    spin_until([&] { return generation_ != *seen; });
    std::unique_lock<std::mutex> lock(mutex_);
    ++asleep_;
    start_.wait(lock, [&] { return generation_ != *seen; });
    --asleep_;
    *seen = generation_;
    if (stop_) return false;
    if (!open_) continue;
    ++inside_;
    return true;
  }
}

void ThreadPool::leave_loop() {
  if (inside_.fetch_sub(1) != 1) return;
  // The lock orders this notice after a caller that is about to wait.
  std::lock_guard<std::mutex> lock(mutex_);
  done_.notify_one();
}

void ThreadPool::work(int thread) {
  for (uint64_t seen = 0; join_loop(&seen);) {
    run_chunks(thread);
    leave_loop();
  }
}

}  // namespace cvm
