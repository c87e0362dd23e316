#include "fusefs/file_locks.h"

#include <algorithm>
#include <cerrno>

namespace fusefs {

using cache::MutexLock;

// ---- Turns --------------------------------------------------------------------------------------

FileLocks::Turn::~Turn() {
  MutexLock lock(locks_.mutex_);
  holder_->busy_ = false;
  --holder_->users_;
  locks_.erase_ended(holder_);
  locks_.changed_.notify_all();
}

// The caller refers to him still.
void FileLocks::erase_ended(const HolderPtr& holder) {
  if (holder->users_ > 0 || !holder->ended_) return;
  const auto found = holders_.find(holder->key_);
  if (found != holders_.end() && found->second == holder) holders_.erase(found);
  count_.store(holders_.size(), std::memory_order_relaxed);
}

std::function<void()> FileLocks::waker() {
  return [this] {
    MutexLock lock(mutex_);
    changed_.notify_all();
  };
}

Result<FileLocks::TurnPtr> FileLocks::take_turn(const Key& key, const CallerPtr& opener,
                                                uint64_t handle, const Patience& patience) {
  HolderPtr holder;
  {
    MutexLock lock(mutex_);
    HolderPtr& known = holders_[key];
    if (known == nullptr || known->ended_) known = std::make_shared<Holder>(*this, opener, key);
    known->handle_ = handle;
    ++known->users_;
    holder = known;
    count_.store(holders_.size(), std::memory_order_relaxed);
  }
  Result<TurnPtr> turn = take_turn(holder, patience);
  MutexLock lock(mutex_);
  --holder->users_;
  erase_ended(holder);
  return turn;
}

Result<FileLocks::TurnPtr> FileLocks::take_turn(HolderPtr holder, const Patience& patience) {
  cache::Interrupt* const interrupt = patience.interrupt;
  if (interrupt != nullptr) interrupt->set_waker(waker());
  Status status;
  {
    MutexLock lock(mutex_);
    bool in_time = true;
    while (holder->busy_ && in_time && !(interrupt != nullptr && interrupt->triggered())) {
      in_time = changed_.wait_until(mutex_, patience.deadline);
    }
    if (holder->busy_) {
      status = Status::error(in_time ? EINTR : ETIMEDOUT);
    } else {
      holder->busy_ = true;
      ++holder->users_;
    }
  }
  if (interrupt != nullptr) interrupt->set_waker(nullptr);
  if (!status.ok()) return status;
  return std::make_shared<Turn>(*this, std::move(holder));
}

// ---- Holders ------------------------------------------------------------------------------------

FileLocks::HolderPtr FileLocks::find(const Key& key) {
  if (count_.load(std::memory_order_relaxed) == 0) return nullptr;
  MutexLock lock(mutex_);
  const auto found = holders_.find(key);
  return found == holders_.end() ? nullptr : found->second;
}

void FileLocks::remove_idle(uint64_t nodeid) {
  if (count_.load(std::memory_order_relaxed) == 0) return;
  std::vector<HolderPtr> removed;  // let go without the lock
  MutexLock lock(mutex_);
  for (auto at = holders_.lower_bound({.nodeid = nodeid});
       at != holders_.end() && at->first.nodeid == nodeid;) {
    if (at->second->users_ > 0 || !at->second->ranges_.empty()) {
      ++at;
      continue;
    }
    removed.push_back(std::move(at->second));
    at = holders_.erase(at);
  }
  count_.store(holders_.size(), std::memory_order_relaxed);
}

std::vector<FileLocks::HolderPtr> FileLocks::of_handle(uint64_t nodeid, uint64_t handle) {
  std::vector<HolderPtr> found;
  if (count_.load(std::memory_order_relaxed) == 0) return found;
  MutexLock lock(mutex_);
  for (auto at = holders_.lower_bound({.nodeid = nodeid});
       at != holders_.end() && at->first.nodeid == nodeid; ++at) {
    if (at->second->handle_ == handle) found.push_back(at->second);
  }
  return found;
}

void FileLocks::remove(const HolderPtr& holder) {
  MutexLock lock(mutex_);
  holder->ended_ = true;
  holder->ranges_.clear();
  erase_ended(holder);
  note_change(holder->key_.nodeid);
}

void FileLocks::clear() {
  {
    std::map<Key, HolderPtr> removed;
    MutexLock lock(mutex_);
    removed.swap(holders_);
    lock.unlock();
    removed.clear();
    lock.lock();
  }
  closed_.store(true);
}

// ---- What they hold -----------------------------------------------------------------------------

std::optional<FileLock> FileLocks::conflict(const Key& key, const FileLock& lock) {
  MutexLock held(mutex_);
  for (auto at = holders_.lower_bound({.nodeid = key.nodeid});
       at != holders_.end() && at->first.nodeid == key.nodeid; ++at) {
    // Whether locks of ranges and those of whole files heed each other the remote decides.
    if (at->first.owner == key.owner || at->first.kind != key.kind) continue;
    std::optional<FileLock> met = at->second->ranges_.conflict(lock);
    if (!met) continue;
    met->pid = at->second->pid_;
    return met;
  }
  return std::nullopt;
}

void FileLocks::note_set(const HolderPtr& holder, const FileLock& lock) {
  MutexLock held(mutex_);
  if (holder->ended_) return;
  holder->ranges_.set(lock);
  if (lock.type != LockType::kNone) holder->pid_ = lock.pid;
  // Also a lock that was made weaker.
  if (lock.type != LockType::kWrite) note_change(holder->key_.nodeid);
}

std::vector<FileLock> FileLocks::held_of(const HolderPtr& holder, const FileLock& range) {
  MutexLock lock(mutex_);
  return holder->ranges_.pieces(range);
}

void FileLocks::note_lost(const HolderPtr& holder) {
  MutexLock lock(mutex_);
  holder->ranges_.clear();
  note_change(holder->key_.nodeid);
}

bool FileLocks::holds_any(const HolderPtr& holder) {
  MutexLock lock(mutex_);
  return !holder->ranges_.empty();
}

bool FileLocks::holds_write(const HolderPtr& holder) {
  MutexLock lock(mutex_);
  const std::vector<FileLock>& held = holder->ranges_.held();
  return std::any_of(held.begin(), held.end(),
                     [](const FileLock& one) { return one.type == LockType::kWrite; });
}

bool FileLocks::any_range(uint64_t nodeid) {
  if (count_.load(std::memory_order_relaxed) == 0) return false;
  MutexLock lock(mutex_);
  for (auto at = holders_.lower_bound({.nodeid = nodeid});
       at != holders_.end() && at->first.nodeid == nodeid; ++at) {
    const std::vector<FileLock>& held = at->second->ranges_.held();
    if (std::any_of(held.begin(), held.end(), [](const FileLock& one) {
          return one.start != 0 || one.end != FileLock::kToTheEnd;
        })) {
      return true;
    }
  }
  return false;
}

// ---- Waiting ------------------------------------------------------------------------------------

void FileLocks::note_change(uint64_t nodeid) {
  ++counter(nodeid);
  changed_.notify_all();
}

uint64_t FileLocks::changes(uint64_t nodeid) {
  MutexLock lock(mutex_);
  return counter(nodeid);
}

Status FileLocks::wait(uint64_t nodeid, uint64_t seen, cache::TimePoint until,
                       cache::Interrupt& interrupt) {
  interrupt.set_waker(waker());
  Status status;
  {
    MutexLock lock(mutex_);
    if (waiters_ >= kMaxWaiters) {
      status = Status::error(ENOLCK);
    } else {
      ++waiters_;
      while (counter(nodeid) == seen && !interrupt.triggered() &&
             changed_.wait_until(mutex_, until)) {
      }
      --waiters_;
      if (interrupt.triggered()) status = Status::error(EINTR);
    }
  }
  interrupt.set_waker(nullptr);
  return status;
}

}  // namespace fusefs
