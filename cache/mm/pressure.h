// Memory pressure from outside: how far the cache gives way, and when it may grow back.
//
// Purpose:        keeps the cache from pushing its neighbours, or its own memory cgroup, into
//                 reclaim or the OOM killer. PressurePolicy decides, PressureWatcher asks and
//                 tells; the machine's state comes in through PressureSampler (pressure_sampler.h
//                 has the real one).
// Ownership:      a watcher owns its thread and its sampler.
// Thread-safety:  the policy: none, one thread. The watcher: stated below.
// Units:          bytes; shares of time and of memory in percent.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "cache/base/clock.h"

namespace cache {

// Memory that has a bound: a cgroup's, or the machine's.
struct MemoryRoom {
  uint64_t limit = 0;  // bytes; never 0
  uint64_t free = 0;   // bytes that can be had without pushing anything useful out; <= limit
};

// What is known at one moment. What is absent, this machine does not tell.
struct PressureSample {
  std::vector<MemoryRoom> rooms;  // the memory cgroups above this process, and the machine
  // Share of the time since the last sample in which some task stood still for want of memory
  // (PSI 'some'), of the cgroup or the machine, whichever is higher. Percent.
  std::optional<double> stalled_percent;
  bool held_at_limit = false;  // since the last sample the kernel held a cgroup at its limit
  bool killed = false;         // since the last sample the OOM killer struck in a cgroup
};

struct PressureOptions {
  uint64_t limit_bytes = 0;  // the bound when all is calm
  uint64_t min_bytes = 0;    // the floor under pressure; above limit_bytes it means limit_bytes

  // Low water: the free memory below which the cache gives way; of each room its share, but no
  // more than the cap. Half of it is urgent; twice is enough to grow; four times is ample.
  uint64_t low_percent = 10;
  uint64_t low_cap_bytes = uint64_t{1} << 30;

  double stalled_percent = 10;  // from here on stalls are pressure, unless memory is ample
  double calm_percent = 2;      // above it stalls forbid growth, unless memory is ample

  Duration step_time = std::chrono::milliseconds(100);  // at least this long between two steps
  Duration calm_time = std::chrono::seconds(10);        // without pressure before growth begins
  Duration growth_time = std::chrono::seconds(60);  // from the floor to the limit, at the fastest

  // Bytes a second that others can take: how soon a room could be down at its low water.
  uint64_t fastest_taker = uint64_t{2} << 30;
};

enum class PressureLevel : uint8_t {
  kCalm,     // may grow
  kSteady,   // between the marks: neither
  kPressed,  // a quarter of the bound is given up; half, if the last step was a second ago or less
  kUrgent,   // half of it
};

// Pure: the bound follows from the samples and the times alone.
//
//   kPressed, kUrgent: shrinks by a step, at once and then every step_time, down to min_bytes.
//   kSteady:           stays, and the calm time begins anew.
//   kCalm:             stays for calm_time, then grows by an even rate up to limit_bytes.
class PressurePolicy {
 public:
  static constexpr std::chrono::milliseconds kCalmPeriod{1000};
  static constexpr std::chrono::milliseconds kTightPeriod{250};
  static constexpr std::chrono::milliseconds kPressedPeriod{100};

  explicit PressurePolicy(const PressureOptions& options);

  // The next sample, `elapsed` after the last. Returns the bound in bytes, in
  // [min_bytes, limit_bytes]. A long gap (a suspended machine) counts as one second of growth.
  uint64_t update(const PressureSample& sample, Duration elapsed);

  [[nodiscard]] uint64_t bound_bytes() const { return bound_; }
  [[nodiscard]] PressureLevel level() const { return level_; }
  // How soon to look again: kPressedPeriod under pressure and until calm_time after it, for who
  // has taken what was given up may want more. Else as soon as the tightest room could be down at
  // its low water, between kTightPeriod and kCalmPeriod.
  [[nodiscard]] std::chrono::milliseconds period() const;

 private:
  [[nodiscard]] PressureLevel judge(const PressureSample& sample) const;
  void shrink(uint64_t divisor, Duration elapsed);
  void grow(Duration elapsed);

  const PressureOptions options_;
  uint64_t bound_;
  PressureLevel level_ = PressureLevel::kCalm;
  Duration since_step_;  // time since the last step
  Duration calm_for_;    // time since anything but calm was seen
  Duration since_pressure_;
  uint64_t above_low_;  // bytes free above the low water of the tightest room
};

// The machine as the watcher sees it.
// Thread-safety: sample() and wait() are called by one thread; wake() by any.
class PressureSampler {
 public:
  enum class Listen : uint8_t { kEvents, kWakeOnly };
  enum class Woken : uint8_t { kTimeout, kEvent, kStop };

  virtual ~PressureSampler() = default;
  virtual PressureSample sample() = 0;
  // Until the time is over, the kernel reports pressure (kEvents only), or wake() was called:
  // then, and from then on, at once.
  virtual Woken wait(std::chrono::milliseconds timeout, Listen listen) = 0;
  virtual void wake() = 0;
};

// A thread that samples as often as the policy wants, and at once when the kernel reports pressure,
// and tells each new bound.
//
// Thread-safety:  construction and destruction on one thread. `tell` runs on the watcher's, with
//                 no lock held, never after the destructor has returned; it may take its time
//                 (reclaim), nothing else waits for it but the destructor.
class PressureWatcher {
 public:
  using Tell = std::function<void(uint64_t bound_bytes)>;

  // Starts the thread. The bound is limit_bytes until something else is told. `clock` outlives
  // the watcher.
  PressureWatcher(const PressureOptions& options, std::unique_ptr<PressureSampler> sampler,
                  const Clock& clock, Tell tell);
  ~PressureWatcher();
  PressureWatcher(const PressureWatcher&) = delete;
  PressureWatcher& operator=(const PressureWatcher&) = delete;

 private:
  void thread_main();

  // Constant after construction, or the thread's own.
  const std::unique_ptr<PressureSampler> sampler_;
  const Clock& clock_;
  const Tell tell_;
  PressurePolicy policy_;  // the thread's
  std::thread thread_;     // last: uses all of the above
};

}  // namespace cache
