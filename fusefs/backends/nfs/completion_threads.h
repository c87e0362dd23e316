// CompletionThreads: where long completions run, so that an I/O thread can receive meanwhile.
//
// Purpose:        a listing's answer is put into arrays here while the next one is decoded.
// Ownership:      owns its threads and what was posted. stop() drops what has not begun, and joins.
// Thread-safety:  post() from any thread; stop() by the owner, on no thread of these.
// Bounds:         as many tasks as calls are under way (nfs_client.h bounds those).
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "cache/base/mutex.h"

namespace fusefs::nfs {

class CompletionThreads {
 public:
  explicit CompletionThreads(size_t threads) : count_(threads) {}
  ~CompletionThreads() { stop(); }
  CompletionThreads(const CompletionThreads&) = delete;
  CompletionThreads& operator=(const CompletionThreads&) = delete;

  void start() {
    for (size_t i = 0; i < count_; ++i) threads_.emplace_back([this] { run(); });
  }
  void post(std::function<void()> task) {
    cache::MutexLock lock(mutex_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
    work_.notify_one();
  }
  void stop() {
    std::deque<std::function<void()>> dropped;  // destroyed outside the lock
    {
      cache::MutexLock lock(mutex_);
      stopping_ = true;
      dropped.swap(tasks_);
      work_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  void run() {
    cache::MutexLock lock(mutex_);
    while (!stopping_) {
      if (tasks_.empty()) {
        work_.wait(mutex_);
        continue;
      }
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
    }
  }

  const size_t count_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar work_;
  std::deque<std::function<void()>> tasks_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // the owner's
};

}  // namespace fusefs::nfs
