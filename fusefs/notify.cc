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

bool Notifier::inval_inode_now(uint64_t nodeid) { return send_now(What::kInode, nodeid); }

bool Notifier::inval_attributes_now(uint64_t nodeid) { return send_now(What::kAttributes, nodeid); }

bool Notifier::idle() {
  MutexLock lock(mutex_);
  return queue_.empty() && !sending_;
}

bool Notifier::send_now(What what, uint64_t nodeid) {
  MutexLock lock(mutex_);
  if (!running_) return false;
  const uint64_t ticket = ++tickets_;
  queue_.push_back({what, nodeid, {}, ticket});
  changed_.notify_all();
  while (running_ && served_ < ticket) changed_.wait(mutex_);
  return served_ >= ticket;
}

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
  changed_.notify_all();
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
    sending_ = true;
    lock.unlock();
    send(item);
    lock.lock();
    sending_ = false;
    if (item.ticket == 0) continue;
    served_ = item.ticket;
    changed_.notify_all();
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
