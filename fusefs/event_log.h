// EventLog: what an operator wants to read of a mount, one line an event and not more than that.
//
// Purpose:        turns counters that rise (failed requests, answers that break the protocol,
//                 memory that could not be had, steps by which the cache gave way to memory
//                 pressure) into lines. The first of a kind is told at once; a flood is one line
//                 every ten seconds that says how many there were.
// Thread-safety:  bound_changed() from any thread; the rest by one.
// Errors:         none.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "cache/base/clock.h"
#include "cache/stats.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

class EventLog {
 public:
  enum class Level : uint8_t { kInfo, kWarning };
  using Write = std::function<void(Level level, const std::string& line)>;

  static constexpr std::chrono::seconds kPeriod{10};  // of a kind there is a line at most

  // `limit_bytes`: what the cache may hold when all is calm.
  EventLog(uint64_t limit_bytes, Write write);

  // The cache may hold so much from now on. Told at the next look().
  void bound_changed(uint64_t bound_bytes);

  // To be called now and then.
  void look(cache::TimePoint now, const cache::Stats& stats, const BackendCounters& remote);
  // The end: what has not been told yet, however soon after the last line.
  void finish(const cache::Stats& stats, const BackendCounters& remote);

 private:
  static constexpr size_t kKinds = 6;
  // What has happened of one kind, all in all, and what was told of it.
  struct Told {
    uint64_t count = 0;
    cache::TimePoint quiet_until = cache::TimePoint::min();
  };

  [[nodiscard]] std::string line(size_t kind, uint64_t since, uint64_t in_all) const;
  void tell_end_of_pressure();

  const uint64_t limit_bytes_;
  const Write write_;
  std::array<Told, kKinds> told_;
  bool told_pressure_ = false;
  // Relaxed: a line may be a step behind.
  std::atomic<uint64_t> bound_bytes_;
  std::atomic<uint64_t> steps_down_{0};
};

}  // namespace fusefs
