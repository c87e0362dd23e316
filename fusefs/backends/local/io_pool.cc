#include "fusefs/backends/local/io_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace fusefs::local {

using cache::MutexLock;

IoPool::IoPool(const Options& options) : options_(options) {}

IoPool::~IoPool() {
  std::deque<TaskPtr> dropped;
  std::deque<TaskPtr> dropped_refusals;
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
    dropped_refusals.swap(refused_);
    threads.swap(threads_);
    for (auto& [id, task] : running_) task->cancelled.store(true, std::memory_order_relaxed);
  }
  work_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

uint64_t IoPool::submit(Job run, Job refuse) {
  auto task = std::make_shared<Task>();
  uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    id = task->id = next_id_++;
    const bool full = queue_.size() >= options_.queue_bound;
    task->job = std::move(full ? refuse : run);
    (full ? refused_ : queue_).push_back(std::move(task));
    start_threads_locked();
  }
  work_.notify_one();
  return id;
}

void IoPool::start_threads_locked() {
  if (!threads_.empty() || stopping_) return;
  // Signals belong to the daemon's main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (threads_.size() < options_.threads) threads_.emplace_back([this] { thread_main(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void IoPool::cancel(uint64_t id) {
  TaskPtr dropped;  // destroyed after the lock: what it captured may lock as well
  MutexLock lock(mutex_);
  for (std::deque<TaskPtr>* queue : {&queue_, &refused_}) {
    const auto found = std::find_if(queue->begin(), queue->end(),
                                    [id](const TaskPtr& task) { return task->id == id; });
    if (found == queue->end()) continue;
    dropped = std::move(*found);
    queue->erase(found);
    return;
  }
  const auto found = running_.find(id);
  if (found != running_.end()) found->second->cancelled.store(true, std::memory_order_relaxed);
}

size_t IoPool::pending() const {
  MutexLock lock(mutex_);
  return queue_.size() + refused_.size() + running_.size();
}

IoPool::TaskPtr IoPool::take_locked() {
  std::deque<TaskPtr>& queue = refused_.empty() ? queue_ : refused_;
  if (queue.empty()) return nullptr;
  TaskPtr task = std::move(queue.front());
  queue.pop_front();
  running_.emplace(task->id, task);
  return task;
}

void IoPool::thread_main() {
  pthread_setname_np(pthread_self(), "local-io");
  for (;;) {
    TaskPtr task;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && (task = take_locked()) == nullptr) work_.wait(mutex_);
      if (task == nullptr) return;
    }
    task->job(task->cancelled);
    task->job = nullptr;
    MutexLock lock(mutex_);
    running_.erase(task->id);
  }
}

}  // namespace fusefs::local
