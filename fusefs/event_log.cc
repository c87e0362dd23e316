#include "fusefs/event_log.h"

#include <utility>

namespace fusefs {
namespace {

using Level = EventLog::Level;

struct Counted {
  Level level;
  const char* text;  // before ": N"
};

// In the order of counts() below. The last is told in other words.
constexpr std::array<Counted, 6> kCounted = {{
    {Level::kWarning, "requests that failed at the remote or on the way to it"},
    {Level::kWarning, "entries of the remote left out for their names"},
    {Level::kWarning, "answers of the remote that break the protocol, refused"},
    {Level::kInfo, "places in listings that the remote no longer knew"},
    {Level::kWarning, "memory that was asked for beyond cache_size, which is too small; times"},
    {Level::kInfo, "memory pressure"},
}};
constexpr size_t kPressure = 5;

std::array<uint64_t, 6> counts(const cache::Stats& stats, const BackendCounters& remote,
                               uint64_t steps_down) {
  return {remote.errors,           stats.bad_names.get(),           stats.bad_answers.get(),
          stats.bad_cookies.get(), stats.allocation_failures.get(), steps_down};
}

std::string mib(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

EventLog::EventLog(uint64_t limit_bytes, Write write)
    : limit_bytes_(limit_bytes), write_(std::move(write)), bound_bytes_(limit_bytes) {}

void EventLog::bound_changed(uint64_t bound_bytes) {
  const uint64_t before = bound_bytes_.exchange(bound_bytes, std::memory_order_relaxed);
  if (bound_bytes < before) steps_down_.fetch_add(1, std::memory_order_relaxed);
}

void EventLog::look(cache::TimePoint now, const cache::Stats& stats,
                    const BackendCounters& remote) {
  const auto current = counts(stats, remote, steps_down_.load(std::memory_order_relaxed));
  for (size_t kind = 0; kind < kKinds; ++kind) {
    Told& told = told_[kind];
    if (current[kind] <= told.count || now < told.quiet_until) continue;
    write_(kCounted[kind].level, line(kind, current[kind] - told.count, current[kind]));
    told = {.count = current[kind], .quiet_until = now + kPeriod};
    if (kind == kPressure) told_pressure_ = true;
  }
  tell_end_of_pressure();
}

void EventLog::finish(const cache::Stats& stats, const BackendCounters& remote) {
  look(cache::TimePoint::max() - kPeriod, stats, remote);
}

std::string EventLog::line(size_t kind, uint64_t since, uint64_t in_all) const {
  if (kind == kPressure) {
    const uint64_t bound = bound_bytes_.load(std::memory_order_relaxed);
    return "memory pressure: the cache gives way to " + mib(bound) + " of " + mib(limit_bytes_) +
           " (steps: " + std::to_string(since) + ")";
  }
  std::string text = std::string(kCounted[kind].text) + ": " + std::to_string(since);
  if (in_all != since) text += " more, " + std::to_string(in_all) + " in all";
  return text;
}

void EventLog::tell_end_of_pressure() {
  const bool calm = bound_bytes_.load(std::memory_order_relaxed) == limit_bytes_;
  if (!calm || !std::exchange(told_pressure_, false)) return;
  write_(Level::kInfo,
         "memory pressure is over: the cache may hold " + mib(limit_bytes_) + " again");
}

}  // namespace fusefs
