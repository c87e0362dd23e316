// Events at their time: real, or virtual, in which time jumps instead of passing.
//
// Purpose:        one thread that runs events in order of their due time. In virtual time it never
//                 sleeps: when it has nothing to do now, it moves the clock to the next event, so
//                 a test runs at once and reads how long it would have taken.
// Ownership:      events belong to the scheduler until they run; stop() drops the rest.
// Thread-safety:  all members may be called from any thread; stop(), wait_until() and the
//                 destructor not from inside an event.
// Locks:          no lock is held while an event runs or is destroyed. Its own is a leaf.
// Bound:          as many events as its users have requests under way.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"

namespace fusefs {

class SimScheduler final : public cache::Clock {
 public:
  enum class Mode : uint8_t { kReal, kVirtual };
  using Duration = cache::Duration;
  // `due` is when it should run; in real time it runs a little later.
  using Event = std::function<void(Duration due)>;
  // When it is due, and a number that tells apart what is due at once.
  using EventId = std::pair<Duration, uint64_t>;

  explicit SimScheduler(Mode mode);
  ~SimScheduler() override;
  SimScheduler(const SimScheduler&) = delete;
  SimScheduler& operator=(const SimScheduler&) = delete;

  // The clock: for time-to-live checks that should pass with the simulated time.
  [[nodiscard]] cache::TimePoint now() const override { return start_ + elapsed(); }
  // Since the scheduler was made.
  [[nodiscard]] Duration elapsed() const;

  // Times that have passed mean now. Events due at once run in the order in which they were given.
  EventId call_at(Duration when, Event event);
  // The event will not run, unless it runs now or has run.
  void cancel(EventId id);
  // Ends and joins the thread. Later calls of call_at() do nothing.
  void stop();

  // Keeps the scheduler from running anything (and virtual time from moving) while it lives, so
  // that a test can start several requests at one moment.
  class Hold {
   public:
    explicit Hold(SimScheduler& scheduler) : scheduler_(scheduler) { scheduler_.hold(1); }
    ~Hold() { scheduler_.hold(-1); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    SimScheduler& scheduler_;
  };

  // Lets everything run that is due up to `when`, then returns; virtual time is then at least
  // `when`. False when that took longer than 30 s of real time beyond `when`.
  bool wait_until(Duration when);

 private:
  void hold(int by);
  void run();
  // True when the first event is to run now; otherwise waits for a change or for its time.
  bool ready() REQUIRES(mutex_);

  const Mode mode_;
  const cache::TimePoint start_;
  // Virtual time. Written by the thread under mutex_, read anywhere: release and acquire, so that
  // who sees a time sees what was done before it.
  std::atomic<Duration::rep> ticks_{0};

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  std::map<EventId, Event> events_ GUARDED_BY(mutex_);
  uint64_t next_serial_ GUARDED_BY(mutex_) = 1;
  int holds_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: runs as soon as it is made
};

}  // namespace fusefs
