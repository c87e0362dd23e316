#include "fusefs/job_threads.h"

#include <csignal>
#include <new>
#include <system_error>
#include <utility>

namespace fusefs {

using cache::MutexLock;

bool JobThreads::run(Job job) {
  join_ended();
  MutexLock lock(mutex_);
  if (stopping_) return false;
  if (idle_ <= jobs_.size() && threads_.size() < kMaxThreads && !begin_thread() &&
      threads_.empty()) {
    throw std::bad_alloc();
  }
  jobs_.push_back(std::move(job));
  changed_.notify_one();
  return true;
}

bool JobThreads::begin_thread() {
  const auto self = threads_.emplace(threads_.end());
  // Signals are the main thread's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  bool begun = true;
  try {
    *self = std::thread([this, self] { work(self); });
  } catch (const std::system_error&) {
    threads_.erase(self);
    begun = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return begun;
}

void JobThreads::work(std::list<std::thread>::iterator self) {
  MutexLock lock(mutex_);
  for (;;) {
    if (!jobs_.empty()) {
      {
        const Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
      }
      lock.lock();
      continue;
    }
    if (stopping_ || idle_ >= kIdle) break;
    ++idle_;
    const bool woken = changed_.wait_until(mutex_, std::chrono::steady_clock::now() + kIdleTime);
    --idle_;
    if (!woken && jobs_.empty()) break;
  }
  ended_.splice(ended_.end(), threads_, self);
  changed_.notify_all();
}

void JobThreads::join_ended() {
  std::list<std::thread> ended;
  {
    MutexLock lock(mutex_);
    ended.swap(ended_);
  }
  for (std::thread& thread : ended) thread.join();
}

void JobThreads::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    while (!threads_.empty()) changed_.wait(mutex_);
  }
  join_ended();
}

}  // namespace fusefs
