#include "plan/thread_pool.h"

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

// Looks at most *spins times, and takes off what it needed.
template <class Ready>
bool spin_until(Ready ready, int* spins) {
  for (; *spins > 0; --*spins) {
    if (ready()) return true;
    relax();
  }
  return false;
}

}  // namespace

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// Workers for a loop that could use `most`: those that are free, or its fair
// share where others took more, which it then gets as they finish.
int ThreadPool::helpers(int most) const {
  const int runs = runs_, free = limit_ - runs - busy_;
  return std::clamp(std::max(free, limit_ / std::max(runs, 1) - 1), 0, most);
}

void ThreadPool::Loop::run_chunks(int thread) {
  for (;;) {
    const int64_t begin = next.fetch_add(grain);
    if (begin >= count) return;
    call(body, begin, std::min(begin + grain, count), thread);
  }
}

void ThreadPool::run(Loop* loop) {
  open(loop);
  loop->run_chunks(0);
  // A worker that was too slow to join has nothing left to do: waiting for it
  // would cost more than most loops take.
  close(loop);
  int spins = kSpins;
  if (spin_until([&] { return loop->inside == 0; }, &spins)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_;
  done_.wait(lock, [&] { return loop->inside == 0; });
  --waiting_;
}

void ThreadPool::open(Loop* loop) {
  int wake = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    Loop** end = &first_;
    while (*end) end = &(*end)->after;
    *end = loop;
    wanted_ += loop->helpers;
    start_workers(loop->helpers);
    const int awake = static_cast<int>(workers_.size()) - asleep_ - busy_;
    wake = std::clamp(loop->helpers - awake, 0, asleep_);
  }
  for (; wake > 0; --wake) start_.notify_one();
}

void ThreadPool::close(Loop* loop) {
  std::lock_guard<std::mutex> lock(mutex_);
  Loop** at = &first_;
  while (*at != loop) at = &(*at)->after;
  *at = loop->after;
  wanted_ -= loop->helpers;
}

// Until `most` are not in loops, or the limit is reached.
void ThreadPool::start_workers(int most) {
  const auto free = [&] { return static_cast<int>(workers_.size()) - busy_; };
  try {
    while (!exhausted_ && free() < most && static_cast<int>(workers_.size()) < limit_ - 1)
      workers_.emplace_back([this] { work(); });
  } catch (const std::exception&) {
    exhausted_ = true;  // no more threads or memory for them: those there are do, with the same results
  }
}

void ThreadPool::work() {
  int thread = 0;
  while (Loop* loop = join(&thread)) {
    loop->run_chunks(thread);
    leave(loop);
  }
}

// Waits for a loop that has work for one more; null when the pool ends.
ThreadPool::Loop* ThreadPool::join(int* thread) {
  const auto ready = [&] { return wanted_ > 0 || stop_; };
  for (int spins = kSpins;;) {
    const bool awake = spin_until(ready, &spins);
    std::unique_lock<std::mutex> lock(mutex_);
    if (!awake) {
      ++asleep_;
      start_.wait(lock, ready);
      --asleep_;
    }
    if (stop_) return nullptr;
    Loop* loop = first_;
    while (loop && loop->helpers == 0) loop = loop->after;
    if (!loop) continue;  // others were faster
    --loop->helpers;
    --wanted_;
    ++loop->inside;
    ++busy_;
    *thread = loop->threads++;
    return loop;
  }
}

void ThreadPool::leave(Loop* loop) {
  --busy_;
  if (--loop->inside != 0) return;
  // The loop may be gone by now. The lock orders this notice after a caller that is about to wait.
  if (waiting_ == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  done_.notify_all();
}

}  // namespace cvm
