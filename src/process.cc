#include "process.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <thread>

#include "error.h"

namespace cvm {
namespace {

struct Process {
  std::mutex mutex;  // guards the others
  std::shared_ptr<ThreadPool> pool;
  int64_t forks = 0;
  std::optional<int> max_threads;  // as set
};

// Never destroyed: threads may run models until the very end of the process.
alignas(Process) char memory[sizeof(Process)];
Process& process = *new (memory) Process;

constexpr int kNotSet = -1;
std::atomic<int> idle_contexts_set{kNotSet};

// The threads end where the library is closed, or the process.
struct Ending {
  ~Ending() {
    std::shared_ptr<ThreadPool> pool;  // ends without the lock
    const std::lock_guard<std::mutex> lock(process.mutex);
    pool.swap(process.pool);
  }
} ending;

void begin_child() {
  // The threads of the parent's pool are not here, nor can its locks be trusted: it is left as it is.
  new (&process.pool) std::shared_ptr<ThreadPool>;
  ++process.forks;
  process.mutex.unlock();
}

[[maybe_unused]] const int handles_forks =
    pthread_atfork([] { process.mutex.lock(); }, [] { process.mutex.unlock(); }, begin_child);

int from_environment(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 0 || value > std::numeric_limits<int>::max())
    runtime_error(name, " is ", quoted(text), ", expected an integer of at least 0");
  return static_cast<int>(value);
}

int processors() { return static_cast<int>(std::thread::hardware_concurrency()); }

// With the lock held.
int thread_limit() {
  if (!process.max_threads) process.max_threads = from_environment("CVM_MAX_THREADS", 0);
  return std::clamp(*process.max_threads ? *process.max_threads : processors(), 1, kMaxThreads);
}

void check_count(const char* what, int value) {
  if (value < 0) logic_error("the number of ", what, " is ", value, ", expected 0 or more");
}

}  // namespace

std::mutex& process_mutex() { return process.mutex; }

int64_t forks() { return process.forks; }

std::shared_ptr<ThreadPool> thread_pool() {
  const std::lock_guard<std::mutex> lock(process.mutex);
  if (!process.pool) process.pool = std::make_shared<ThreadPool>(thread_limit());
  return process.pool;
}

int max_threads() {
  const std::lock_guard<std::mutex> lock(process.mutex);
  return thread_limit();
}

void set_max_threads(int threads) {
  check_count("threads", threads);
  std::shared_ptr<ThreadPool> old;  // whose threads end without the lock
  const std::lock_guard<std::mutex> lock(process.mutex);
  process.max_threads = threads;
  old.swap(process.pool);
}

int idle_contexts() {
  const int count = idle_contexts_set;
  return count != kNotSet ? count : idle_contexts_set = from_environment("CVM_IDLE_CONTEXTS", 1);
}

void set_idle_contexts(int count) {
  check_count("contexts", count);
  idle_contexts_set = count;
}

}  // namespace cvm
