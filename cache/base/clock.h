// Clock: where the time of time-to-live checks and simulated delays comes from.
//
// Thread-safety:  all members may be called from any thread.
// Units:          steady_clock time points and durations.
#pragma once

#include <atomic>
#include <chrono>

namespace cache {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// For deadlines of the real world, which no test moves.
inline TimePoint steady_now() { return std::chrono::steady_clock::now(); }

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
};

class RealClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return std::chrono::steady_clock::now(); }
};

// Stands still until it is told to move.
class FakeClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override {
    return TimePoint(Duration(ticks_.load(std::memory_order_acquire)));
  }
  void advance(Duration by) { ticks_.fetch_add(by.count(), std::memory_order_acq_rel); }

 private:
  std::atomic<Duration::rep> ticks_{Duration(std::chrono::hours(1)).count()};
};

}  // namespace cache
