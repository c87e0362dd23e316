// SystemPressureSampler: memory pressure as this machine reports it.
//
// Purpose:        reads /proc/meminfo, /proc/pressure/memory and the files of the memory cgroups
//                 above this process (v2 or v1), and listens for the kernel's own reports: PSI
//                 triggers, memory.events (v2), memory.pressure_level (v1). What is missing or
//                 not permitted is done without.
// Ownership:      owns its descriptors.
// Thread-safety:  sample() and wait(): one thread. wake(): any.
// Usage of a cgroup includes file pages; those not used lately (inactive_file) count as free.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cache/base/clock.h"
#include "cache/mm/pressure.h"
#include "cache/mm/pressure_files.h"

namespace cache {

class SystemPressureSampler final : public PressureSampler {
 public:
  // `root` stands before every path: "" is this machine; a test gives a directory of its own,
  // where nothing is listened for. `clock` outlives the sampler.
  explicit SystemPressureSampler(const Clock& clock, std::string root = "");
  ~SystemPressureSampler() override;
  SystemPressureSampler(const SystemPressureSampler&) = delete;
  SystemPressureSampler& operator=(const SystemPressureSampler&) = delete;

  PressureSample sample() override;
  Woken wait(std::chrono::milliseconds timeout, Listen listen) override;
  void wake() override;

 private:
  // A descriptor that poll() watches, and what makes it quiet again after an event.
  struct Source {
    enum class Kind : uint8_t { kTrigger, kEventsFile, kEventFd };
    int fd = -1;
    Kind kind = Kind::kTrigger;
  };
  // Counters whose growth means something, as they stood at the last sample.
  struct Totals {
    std::optional<uint64_t> stalled_machine, stalled_group;  // microseconds
    std::optional<uint64_t> held, killed;
    TimePoint at;
  };

  [[nodiscard]] std::string read_file(const std::string& path) const;
  // The process may be moved to another cgroup at any time.
  void follow_cgroup();
  [[nodiscard]] std::optional<MemoryRoom> group_room(const std::string& directory) const;
  [[nodiscard]] Totals read_totals() const;

  void listen_anew();
  void close_sources();
  void add_trigger(const std::string& path);
  void add_events_file(const std::string& path);
  void add_pressure_level(const std::string& directory);
  // True: something was reported. A source that broke is closed.
  bool settle(Source* source, short events);

  const Clock& clock_;
  const std::string root_;
  const int wake_fd_;  // an eventfd, never read: once woken, always woken
  std::string cgroup_text_;
  std::optional<MemoryCgroup> cgroup_;
  std::vector<Source> sources_;
  Totals last_;
};

}  // namespace cache
