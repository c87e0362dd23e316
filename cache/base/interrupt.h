// Interrupt: lets one thread end another's wait.
//
// Purpose:        a signal to the calling program (FUSE_INTERRUPT) or an unmount ends a wait early.
// Ownership:      whoever handles the request owns it and keeps it alive until the wait is over.
// Thread-safety:  trigger() from any thread, any number of times; one waiter at a time.
// Locks:          trigger() runs the waker under a leaf lock: a waker may notify a condition
//                 variable under a mutex of its own, which must not be held when set_waker() is
//                 called with another waker or none.
#pragma once

#include <atomic>
#include <functional>
#include <utility>

#include "cache/base/mutex.h"

namespace cache {

class Interrupt {
 public:
  void trigger() {
    triggered_.store(true, std::memory_order_release);
    std::function<void()> waker;
    {
      MutexLock lock(mutex_);
      waker = waker_;
    }
    if (waker) waker();
  }
  [[nodiscard]] bool triggered() const { return triggered_.load(std::memory_order_acquire); }

  // Called after every trigger() from now on, and at once when one has been; it may outlive the
  // wait by a moment, so what it captures is shared.
  void set_waker(std::function<void()> waker) {
    std::function<void()> now;
    {
      MutexLock lock(mutex_);
      waker_ = std::move(waker);
      if (triggered()) now = waker_;
    }
    if (now) now();
  }

 private:
  std::atomic<bool> triggered_{false};
  Mutex mutex_{LockRank::kLeaf};
  std::function<void()> waker_ GUARDED_BY(mutex_);
};

}  // namespace cache
