#include "fusefs/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <syslog.h>

#include <vector>

namespace fusefs {

Log::Log(const std::string& level) : sink_(std::make_shared<spdlog::sinks::dist_sink_mt>()) {
  sink_->add_sink(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  auto logger = std::make_shared<spdlog::logger>("cookiefs", sink_);
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::warn);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n[%P] %l: %v");
  spdlog::set_default_logger(std::move(logger));
}

void Log::to_syslog() {
  // The sinks are exchanged under dist_sink's lock; replacing the default logger would race with
  // those who use it.
  constexpr bool kFormatted = false;  // syslog puts time, name and pid in front itself
  sink_->set_sinks({std::make_shared<spdlog::sinks::syslog_sink_mt>("cookiefs", LOG_PID, LOG_DAEMON,
                                                                    kFormatted)});
}

std::string log_level() {
  const auto name = spdlog::level::to_string_view(spdlog::default_logger_raw()->level());
  return {name.data(), name.size()};
}

bool set_log_level(const std::string& level) {
  const spdlog::level::level_enum wanted = spdlog::level::from_str(level);  // unknown: off
  if (wanted == spdlog::level::off && level != "off") return false;
  spdlog::default_logger_raw()->set_level(wanted);
  return true;
}

}  // namespace fusefs
