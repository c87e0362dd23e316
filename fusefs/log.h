// Log: where spdlog's default logger writes, and from what level on.
//
// Purpose:        everything logs through spdlog::info() and its kin; main decides where it goes.
// Ownership:      made once, by main, after the fork; the logger itself belongs to spdlog.
// Thread-safety:  to_syslog() may run while other threads log.
#pragma once

#include <spdlog/sinks/dist_sink.h>

#include <memory>
#include <string>

namespace fusefs {

class Log {
 public:
  // Writes to stderr. `level` is one of those that parse_options accepts.
  explicit Log(const std::string& level);
  // From now on to the system's log instead: stderr is about to go away.
  void to_syslog();

 private:
  std::shared_ptr<spdlog::sinks::dist_sink_mt> sink_;
};

}  // namespace fusefs
