#include "cache/base/mutex.h"

#include "cache/base/check.h"

namespace cache {
namespace {

#if !defined(NDEBUG) || defined(CACHE_DCHECKS)
constexpr int kMaxHeld = 16;
struct HeldLocks {
  LockRank ranks[kMaxHeld];
  int count = 0;
};
thread_local HeldLocks locks_held;

void note_acquire(LockRank rank) {
  CACHE_CHECK(locks_held.count < kMaxHeld);
  for (int i = 0; i < locks_held.count; ++i)
    CACHE_CHECK(locks_held.ranks[i] < rank && "lock rank inversion");
  locks_held.ranks[locks_held.count++] = rank;
}
void note_release(LockRank rank) {
  for (int i = locks_held.count - 1; i >= 0; --i) {
    if (locks_held.ranks[i] != rank) continue;
    for (int j = i; j + 1 < locks_held.count; ++j) locks_held.ranks[j] = locks_held.ranks[j + 1];
    --locks_held.count;
    return;
  }
  CACHE_CHECK(false && "released a lock that this thread does not hold");
}
#else
void note_acquire(LockRank /*rank*/) {}
void note_release(LockRank /*rank*/) {}
#endif

}  // namespace

void Mutex::lock() {
  note_acquire(rank_);
  mutex_.lock();
}

void Mutex::unlock() {
  note_release(rank_);
  mutex_.unlock();
}

bool Mutex::try_lock() {
  if (!mutex_.try_lock()) return false;
  note_acquire(rank_);
  return true;
}

void CondVar::wait(Mutex& mutex) {
  std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
  cv_.wait(lock);
  lock.release();
}

bool CondVar::wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline) {
  std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
  const bool in_time = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
  lock.release();
  return in_time;
}

}  // namespace cache
