// The figures of one mount, and their JSON: what `cookiefsctl stats --json` prints.
//
// Shape:          {"source": "...", "cache": {"limit_bytes": N, ...}, ...}: objects of numbers
//                 (those of latencies: an object for each kind), and never an array. Keys are
//                 stable: scripts read them.
// Thread-safety:  pure functions.
// Errors:         none; text that is not UTF-8 is shown with U+FFFD for what is wrong in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "cache/stats.h"
#include "fusefs/ahead_window.h"
#include "fusefs/backends/backend.h"
#include "fusefs/latency.h"

namespace fusefs {

struct DaemonFigures {
  std::string source;
  std::string mountpoint;
  double uptime_seconds = 0;
  uint64_t limit_bytes = 0, bytes = 0, peak_bytes = 0, pressure_bound_bytes = 0;
  uint64_t pages_pinned = 0;
  uint64_t inodes = 0;
  uint64_t linked = 0;           // entries of READDIRPLUS that got a node of the kernel's
  uint64_t requests_active = 0;  // of the kernel, being served
  uint64_t notifications = 0, notifications_dropped = 0;
  BackendCounters remote;
  WalkFigures walk;
  uint16_t metrics_port = 0;  // of `metrics=`; 0: not asked for
  LatencyFigures latency;
};

// At most `max_bytes` long: should the names not fit, they are cut.
std::string stats_json(const DaemonFigures& figures, const cache::Stats& stats, size_t max_bytes);

// `text` as a JSON string with its quotes, at most `max_bytes` long (which is at least 16).
std::string json_string(std::string_view text, size_t max_bytes);

}  // namespace fusefs
