// What all models of the process share: the pool of threads, and the bounds
// that whoever runs the process sets.
//
// fork() copies this state in the middle of whatever other threads do with it.
// So one lock guards all of it, and what else has to be whole in a child: it is
// held for moments only, and by fork() meanwhile. A child has none of its
// parent's threads and none of its runs.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "plan/thread_pool.h"

namespace cvm {

constexpr int kMaxThreads = 256;  // that anyone may ask for

std::mutex& process_mutex();

// Counts the forks between the process that loaded the library and this one;
// with the lock held.
int64_t forks();

std::shared_ptr<ThreadPool> thread_pool();

// Threads that compute at once; 0 sets one per processor. Runs under way finish
// with the old number. Without a call of the setter the environment variable
// CVM_MAX_THREADS decides, or the number of processors.
int max_threads();
void set_max_threads(int threads);

// Contexts that a model keeps while nothing runs it: by default 1, or what the
// environment variable CVM_IDLE_CONTEXTS says.
int idle_contexts();
void set_idle_contexts(int count);

}  // namespace cvm
