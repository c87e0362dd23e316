#include "cache/base/mutex.h"

#include <catch2/catch.hpp>
#include <thread>

#include "tests/support/death.h"
#include "tests/support/eventually.h"

using cache::CondVar;
using cache::LockRank;
using cache::Mutex;
using cache::MutexLock;

TEST_CASE("locks are taken in the order of their ranks") {
  Mutex low(LockRank::kMapping);
  Mutex high(LockRank::kPool);
  MutexLock first(low);
  MutexLock second(high);
  SUCCEED();
}

// The rank checks need no thread-safety analysis: they are what is tested.
static void invert() NO_THREAD_SAFETY_ANALYSIS {
  Mutex low(LockRank::kMapping);
  Mutex high(LockRank::kPool);
  high.lock();
  low.lock();
}
static void nest_equals() NO_THREAD_SAFETY_ANALYSIS {
  Mutex a(LockRank::kMapping);
  Mutex b(LockRank::kMapping);
  a.lock();
  b.lock();
}
static void unlock_free() NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex(LockRank::kMapping);
  mutex.unlock();
}
static void out_of_order() NO_THREAD_SAFETY_ANALYSIS {
  Mutex a(LockRank::kMapping);
  Mutex b(LockRank::kPool);
  Mutex c(LockRank::kWait);
  a.lock();
  b.lock();
  a.unlock();  // not the last taken: allowed
  c.lock();
  c.unlock();
  b.unlock();
}

TEST_CASE("a rank inversion aborts in debug builds") {
  CHECK(test::aborts([] { invert(); }) == test::kDebugChecks);
  CHECK_FALSE(test::aborts([] { out_of_order(); }));
}

TEST_CASE("equal ranks never nest, and a lock not held is not released") {
  if (!test::kDebugChecks) return;
  CHECK(test::aborts([] { nest_equals(); }));
  CHECK(test::aborts([] { unlock_free(); }));
}

TEST_CASE("try_lock fails while another thread holds the lock") {
  Mutex mutex(LockRank::kLeaf);
  MutexLock lock(mutex);
  bool got = false;
  std::thread([&] {
    if (!mutex.try_lock()) return;
    got = true;
    mutex.unlock();
  }).join();
  CHECK_FALSE(got);
}

TEST_CASE("a scoped lock may be dropped and taken again") {
  Mutex mutex(LockRank::kLeaf);
  MutexLock lock(mutex);
  lock.unlock();
  bool free = false;
  if (mutex.try_lock()) {
    free = true;
    mutex.unlock();
  }
  CHECK(free);
  lock.lock();
}

TEST_CASE("a wait ends by its deadline, or by a notification before it") {
  Mutex mutex(LockRank::kLeaf);
  CondVar changed;
  bool ready = false;
  {
    MutexLock lock(mutex);
    bool in_time = true;
    while (in_time) in_time = changed.wait_until(mutex, std::chrono::steady_clock::now());
    CHECK_FALSE(in_time);
  }
  std::thread notifier([&] {
    MutexLock lock(mutex);
    ready = true;
    changed.notify_all();
  });
  {
    MutexLock lock(mutex);
    const auto deadline = std::chrono::steady_clock::now() + test::kDeadline;
    bool in_time = true;
    while (!ready && in_time) in_time = changed.wait_until(mutex, deadline);
    CHECK(ready);
  }
  notifier.join();
}
