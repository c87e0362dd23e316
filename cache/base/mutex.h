// Annotated mutex with a rank, its scoped lock, and a condition variable for it.
//
// Purpose:        lets Clang check which fields a lock protects, and lets debug builds abort on a
//                 rank inversion: a thread may only take a lock of a higher rank than all it holds.
// Thread-safety:  that of std::mutex and std::condition_variable.
// Ranks:          cache/LOCKING.md is the one place where the order is explained.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "cache/base/annotations.h"

namespace cache {

// The order in which locks may be taken: a lower rank first. Equal ranks never nest.
enum class LockRank : int {
  kSession = 5,        // fusefs: session-wide state
  kInodeTable = 10,    // fusefs: inode table shard
  kMovedObjects = 11,  // fusefs: inodes that a rename gave another id
  kHandle = 12,        // fusefs: an open directory's cursor
  kInode = 14,         // fusefs: an inode's attributes
  kDirectory = 20,     // dir: fills, anchors and token of one directory
  kFile = 21,          // data: fills, dirty ranges and size of one file
  kWriteBack = 23,     // data: which files are dirty, how much, and what is under way
  kBackend = 25,       // fusefs/backends: a back end's own state
  kMapping = 30,       // mm: one address space's tree
  kIndexStripe = 40,   // mm: a stripe of the page index (writers only)
  kLru = 50,           // mm: reclaim lists
  kPool = 60,          // mm: spans, descriptors
  kWait = 70,          // mm: page wait queues
  kReclaimer = 75,     // mm: the background reclaimer's wake-up
  kLeaf = 90,          // anything that takes no further lock
};

class CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex(LockRank rank) : rank_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE();
  void unlock() RELEASE();
  bool try_lock() TRY_ACQUIRE(true);

 private:
  friend class CondVar;
  std::mutex mutex_;
  const LockRank rank_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  // For the few places that must drop the lock in the middle of a scope.
  void unlock() RELEASE() {
    held_ = false;
    mutex_.unlock();
  }
  void lock() ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// Waits take the mutex that the caller holds; spurious wake-ups happen, so callers loop.
class CondVar {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex);
  // Returns false when the deadline passed.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex);
  void notify_one() { cv_.notify_one(); }
  void notify_all() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace cache
