// The threads of the process that help its runs with their loops.
//
// Own threads instead of OpenMP, so that ThreadSanitizer sees every
// synchronisation. Chunks of a loop write disjoint outputs, which makes results
// independent of the number of threads and of who runs which chunk.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace cvm {

// Serves any number of runs at once. Its threads start when a loop first has
// use for them, and end with the pool.
class ThreadPool {
 public:
  // At most `limit` threads compute at once, as long as no more than that call:
  // a caller computes itself, and never waits for the loop of another.
  explicit ThreadPool(int limit) : limit_(limit) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

 private:
  friend class Team;

  // Lies on its caller's stack, which is in the list of open loops meanwhile.
  struct Loop {
    void (*call)(const void* body, int64_t begin, int64_t end, int thread);
    const void* body;
    int64_t count, grain;
    int helpers;                  // workers that may join yet; under mutex_
    int threads = 1;              // that joined; under mutex_
    std::atomic<int> inside{0};   // workers in the loop; raised under mutex_
    std::atomic<int64_t> next{0};  // first index not handed out yet
    Loop* after = nullptr;        // in the list; under mutex_

    Loop(void (*f)(const void*, int64_t, int64_t, int), const void* b, int64_t n, int64_t g, int most)
        : call(f), body(b), count(n), grain(g), helpers(most) {}
    void run_chunks(int thread);
  };

  int helpers(int most) const;
  void run(Loop* loop);
  void open(Loop* loop);
  void close(Loop* loop);
  void start_workers(int most);
  void work();
  Loop* join(int* thread);
  void leave(Loop* loop);

  const int limit_;
  std::atomic<int> runs_{0};  // under way
  std::atomic<int> busy_{0};  // workers in loops; raised under mutex_

  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::vector<std::thread> workers_;     // under mutex_
  bool exhausted_ = false;               // whether the system gives no more threads; under mutex_
  int asleep_ = 0;                       // workers that need waking; under mutex_
  Loop* first_ = nullptr;                // of the open loops, the oldest first; under mutex_
  std::atomic<int> waiting_{0};          // callers that sleep until their loop is left
  // What workers look at all the time has a cache line of its own.
  alignas(64) std::atomic<int> wanted_{0};  // workers that may join open loops yet; changes under mutex_
  std::atomic<bool> stop_{false};           // changes under mutex_
};

// The threads of one run: its caller, and those of the pool that are free.
class Team {
 public:
  // Of at most `threads`. Used by the thread that makes it, and no other.
  Team(std::shared_ptr<ThreadPool> pool, int threads) : pool_(std::move(pool)), most_(threads) {
    ++pool_->runs_;
  }
  ~Team() { --pool_->runs_; }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Number that the next loop can count on.
  int threads() const { return 1 + pool_->helpers(most_ - 1); }

  // Calls f(begin, end, thread) for chunks of at most `grain` that cover
  // 0..count-1; 0 <= thread < `threads` of the constructor. Returns when all are
  // done. f must not throw.
  template <class F>
  void parallel_for(int64_t count, int64_t grain, const F& f) {
    const int helpers = count > grain ? pool_->helpers(most_ - 1) : 0;
    if (helpers == 0) {
      if (count > 0) f(int64_t{0}, count, 0);
      return;
    }
    ThreadPool::Loop loop(
        [](const void* body, int64_t begin, int64_t end, int thread) {
          (*static_cast<const F*>(body))(begin, end, thread);
        },
        &f, count, grain, helpers);
    pool_->run(&loop);
  }

 private:
  const std::shared_ptr<ThreadPool> pool_;
  const int most_;
};

}  // namespace cvm
