// Log: where spdlog's default logger writes, and from what level on.
//
// Purpose:        everything logs through spdlog::info() and its kin; main decides where it goes.
// Ownership:      made once, by main, after the fork; the logger itself belongs to spdlog.
// Thread-safety:  to_syslog() and the levels may be used while other threads log.
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

// The level from which on there are lines: trace, debug, info, warning, error, critical or off.
std::string log_level();
// False: that is none of them, and nothing has changed.
bool set_log_level(const std::string& level);

}  // namespace fusefs
