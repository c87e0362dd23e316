// IoPool: a few threads that work off a bounded queue of requests that may be cancelled.
//
// Purpose:        directory listings block on the disk; they run here, not in the caller.
// Ownership:      owns its threads, started with the first job (a daemon forks before that), and
//                 every job; the destructor drops the jobs that have not started and joins.
// Thread-safety:  all members may be called from any thread, except the destructor, which must
//                 not run on a thread of the pool.
// Locks:          jobs run, and are destroyed, with no lock of the pool's held.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/base/mutex.h"

namespace fusefs::local {

class IoPool {
 public:
  // True once the request was cancelled: a hint to stop early. Relaxed: it carries no data.
  using Cancelled = std::atomic<bool>;
  using Job = std::function<void(const Cancelled&)>;

  struct Options {
    size_t threads = 2;
    size_t queue_bound = 4096;  // jobs that wait; above it their `refuse` runs instead
  };

  explicit IoPool(const Options& options);
  ~IoPool();
  IoPool(const IoPool&) = delete;
  IoPool& operator=(const IoPool&) = delete;

  // Queues `run`; when the queue is full, `refuse` in its place, ahead of the queue (it must be
  // short, and hold little). Exactly one of them runs, on a thread of the pool, unless the job is
  // cancelled before it starts. Returns its number, never 0.
  uint64_t submit(Job run, Job refuse);

  // Drops a job that waits; tells one that runs. Unknown numbers are ignored.
  void cancel(uint64_t id);

  // Jobs that wait or run.
  [[nodiscard]] size_t pending() const;

 private:
  struct Task {
    uint64_t id = 0;
    Job job;
    Cancelled cancelled{false};
  };
  using TaskPtr = std::shared_ptr<Task>;

  void thread_main();
  TaskPtr take_locked() REQUIRES(mutex_);
  void start_threads_locked() REQUIRES(mutex_);

  const Options options_;
  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  cache::CondVar work_;  // with mutex_: a task was queued, or the end has come
  std::deque<TaskPtr> refused_ GUARDED_BY(mutex_);
  std::deque<TaskPtr> queue_ GUARDED_BY(mutex_);  // cancelled tasks leave it at once
  std::unordered_map<uint64_t, TaskPtr> running_ GUARDED_BY(mutex_);
  uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ GUARDED_BY(mutex_);
};

}  // namespace fusefs::local
