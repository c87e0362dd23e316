// What the kernel's files say about memory, parsed. Pure functions of their text.
//
// Errors:  text that is not as expected gives nothing; nothing here aborts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/mm/pressure.h"

namespace cache {

// The value after `key` and blanks or a colon at the beginning of a line, as in meminfo
// ('MemTotal:  123 kB'), memory.stat and memory.events ('oom_kill 0'). The unit is not looked at.
std::optional<uint64_t> keyed_value(std::string_view text, std::string_view key);

// MemTotal and MemAvailable of /proc/meminfo.
std::optional<MemoryRoom> parse_meminfo(std::string_view text);

// The 'some' line's total of a PSI file: microseconds since boot.
std::optional<uint64_t> parse_psi_some_total(std::string_view text);

// A limit or usage file: one number. 'max', and v1's number near 2^63, are no limit: nothing.
std::optional<uint64_t> parse_bytes(std::string_view text);

// Where this process's memory cgroup lies.
struct MemoryCgroup {
  enum class Version : uint8_t { kV1, kV2 };
  Version version = Version::kV2;
  // Directories that hold limit files, the process's own first, up to the mount's root.
  std::vector<std::string> directories;
  bool operator==(const MemoryCgroup&) const = default;
};

// From /proc/self/cgroup and /proc/self/mountinfo. Where v1 has the memory controller, v2 does
// not. A cgroup outside what is mounted here (a container's view) gives the mount's root.
std::optional<MemoryCgroup> find_memory_cgroup(std::string_view cgroup_text,
                                               std::string_view mountinfo_text);

}  // namespace cache
