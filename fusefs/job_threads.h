// JobThreads: threads for requests that may wait long, or for the kernel.
//
// Purpose:        keeps such a wait off the workers of the loop: what it waits for may need one.
// Ownership:      owns its threads; a job that has begun is ended by what interrupts it, and all
//                 are joined by stop().
// Thread-safety:  all members from any thread; stop() once.
// Locks:          a leaf, held across no job.
// Errors:         std::bad_alloc from run(): there is no thread and there can be none.
// Bounds:         kMaxThreads; kIdle of them stay for kIdleTime. Jobs beyond wait their turn, so
//                 those that may wait for one another must be fewer (FileLocks::kMaxWaiters).
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <thread>

#include "cache/base/mutex.h"

namespace fusefs {

class JobThreads {
 public:
  using Job = std::function<void()>;
  static constexpr size_t kMaxThreads = 256;
  static constexpr size_t kIdle = 4;
  static constexpr std::chrono::seconds kIdleTime{10};

  JobThreads() = default;
  ~JobThreads() { stop(); }
  JobThreads(const JobThreads&) = delete;
  JobThreads& operator=(const JobThreads&) = delete;

  // Runs it soon. False, after stop(): never.
  bool run(Job job);
  // Jobs that have not begun run still; nothing does afterwards.
  void stop();

 private:
  bool begin_thread() REQUIRES(mutex_);  // false: there can be none
  void work(std::list<std::thread>::iterator self);
  void join_ended();

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  std::list<std::thread> threads_ GUARDED_BY(mutex_);
  std::list<std::thread> ended_ GUARDED_BY(mutex_);  // to be joined
  size_t idle_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace fusefs
