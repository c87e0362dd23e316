#include "fusefs/notify.h"

#include <fuse_lowlevel.h>
#include <pthread.h>

#include <csignal>
#include <utility>

namespace fusefs {

using cache::MutexLock;

void Notifier::start(fuse_session* session) {
  session_ = session;
  {
    MutexLock lock(mutex_);
    running_ = true;
  }
  thread_ = std::thread([this] { run(); });
}

void Notifier::stop() {
  {
    MutexLock lock(mutex_);
    running_ = false;
    queue_.clear();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Notifier::inval_inode(uint64_t nodeid) { enqueue({What::kInode, nodeid}); }

void Notifier::inval_attributes(uint64_t nodeid) { enqueue({What::kAttributes, nodeid}); }

void Notifier::inval_entry(uint64_t parent, std::string name) {
  enqueue({What::kEntry, parent, std::move(name)});
  enqueue({What::kInode, parent});
}

void Notifier::enqueue(Item item) {
  MutexLock lock(mutex_);
  if (!running_ || (!queue_.empty() && queue_.back() == item)) return;
  if (queue_.size() >= kMaxQueued) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  queue_.push_back(std::move(item));
  changed_.notify_one();
}

void Notifier::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are the main thread's
  MutexLock lock(mutex_);
  while (running_) {
    if (queue_.empty()) {
      changed_.wait(mutex_);
      continue;
    }
    const Item item = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    send(item);
    lock.lock();
  }
}

void Notifier::send(const Item& item) {
  // What the kernel does not know needs no notification: errors are of no interest.
  switch (item.what) {
    case What::kInode:
      fuse_lowlevel_notify_inval_inode(session_, item.nodeid, 0, 0);
      break;
    case What::kAttributes:
      fuse_lowlevel_notify_inval_inode(session_, item.nodeid, -1, 0);
      break;
    case What::kEntry:
      fuse_lowlevel_notify_inval_entry(session_, item.nodeid, item.name.data(), item.name.size());
      break;
  }
  sent_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace fusefs
