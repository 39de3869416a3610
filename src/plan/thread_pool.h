// A small pool of threads that run the chunks of one loop at a time.
//
// Own threads instead of OpenMP, so that ThreadSanitizer sees every
// synchronisation. Chunks write disjoint outputs, which makes results
// independent of the number of threads and of who runs which chunk.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace cvm {

class ThreadPool {
 public:
  // Makes do with fewer threads where the system does not give that many.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(begin, end, thread) for chunks of at most `grain` that cover
  // 0..count-1, 0 <= thread < threads(). Returns when all are done. f must not
  // throw. Only one thread may call this at a time.
  template <class F>
  void parallel_for(int64_t count, int64_t grain, const F& f) {
    if (workers_.empty() || count <= grain) {
      if (count > 0) f(int64_t{0}, count, 0);
      return;
    }
    run({[](const void* body, int64_t begin, int64_t end, int thread) {
           (*static_cast<const F*>(body))(begin, end, thread);
         },
         &f, count, grain});
  }

 private:
  struct Loop {
    void (*call)(const void* body, int64_t begin, int64_t end, int thread);
    const void* body;
    int64_t count, grain;
  };

  void run(const Loop& loop);
  void work(int thread);
  void run_chunks(int thread);
  bool join_loop(uint64_t* seen);
  void leave_loop();

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  Loop loop_{};                          // written under mutex_ while nobody is in it
  bool open_ = false;                    // whether workers may join the loop; under mutex_
  bool stop_ = false;                    // under mutex_
  int asleep_ = 0;                       // workers that need waking; under mutex_
  std::atomic<int> inside_{0};           // workers in the loop; raised under mutex_
  std::atomic<int64_t> next_{0};         // first index not handed out yet
  std::atomic<uint64_t> generation_{0};  // number of the loop; changes under mutex_
};

}  // namespace cvm
