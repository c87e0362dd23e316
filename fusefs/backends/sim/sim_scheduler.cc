#include "fusefs/backends/sim/sim_scheduler.h"

#include <algorithm>
#include <memory>

namespace fusefs {
namespace {

using cache::MutexLock;

// Virtual time starts like FakeClock's: late enough for 'an hour ago' to exist.
cache::TimePoint start_of(SimScheduler::Mode mode) {
  if (mode == SimScheduler::Mode::kReal) return std::chrono::steady_clock::now();
  return cache::TimePoint(std::chrono::hours(1));
}

}  // namespace

SimScheduler::SimScheduler(Mode mode)
    : mode_(mode), start_(start_of(mode)), thread_([this] { run(); }) {}

SimScheduler::~SimScheduler() { stop(); }

SimScheduler::Duration SimScheduler::elapsed() const {
  if (mode_ == Mode::kReal) return std::chrono::steady_clock::now() - start_;
  return Duration(ticks_.load(std::memory_order_acquire));
}

SimScheduler::EventId SimScheduler::call_at(Duration when, Event event) {
  MutexLock lock(mutex_);
  const EventId id(std::max(when, elapsed()), next_serial_++);
  if (stopping_) return id;
  const auto place = events_.emplace(id, std::move(event)).first;
  if (place == events_.begin()) changed_.notify_all();
  return id;
}

void SimScheduler::cancel(EventId id) {
  std::map<EventId, Event>::node_type dropped;  // destroyed after the lock is
  MutexLock lock(mutex_);
  dropped = events_.extract(id);
}

void SimScheduler::stop() {
  std::map<EventId, Event> dropped;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    dropped.swap(events_);
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void SimScheduler::hold(int by) {
  MutexLock lock(mutex_);
  holds_ += by;
  changed_.notify_all();
}

bool SimScheduler::ready() {
  if (holds_ > 0 || events_.empty()) {
    changed_.wait(mutex_);
    return false;
  }
  const Duration due = events_.begin()->first.first;
  if (due <= elapsed()) return true;
  if (mode_ == Mode::kReal) {
    changed_.wait_until(mutex_, start_ + due);
    return false;
  }
  ticks_.store(due.count(), std::memory_order_release);
  return true;
}

void SimScheduler::run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (!ready()) continue;
    auto first = events_.extract(events_.begin());
    lock.unlock();
    first.mapped()(first.key().first);
    first = decltype(first)();  // what it captured goes before the lock is taken again
    lock.lock();
  }
}

bool SimScheduler::wait_until(Duration when) {
  struct Arrival {
    cache::Mutex mutex{cache::LockRank::kLeaf};
    cache::CondVar changed;
    bool arrived GUARDED_BY(mutex) = false;
  };
  const auto arrival = std::make_shared<Arrival>();
  call_at(when, [arrival](Duration) {
    MutexLock lock(arrival->mutex);
    arrival->arrived = true;
    arrival->changed.notify_all();
  });
  const Duration ahead =
      mode_ == Mode::kReal ? std::max(when - elapsed(), Duration(0)) : Duration(0);
  const auto deadline = std::chrono::steady_clock::now() + ahead + std::chrono::seconds(30);
  MutexLock lock(arrival->mutex);
  while (!arrival->arrived) {
    if (!arrival->changed.wait_until(arrival->mutex, deadline)) return arrival->arrived;
  }
  return true;
}

}  // namespace fusefs
