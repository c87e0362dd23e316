// metrics, log-level: what looks into a running daemon.

#include <cstdio>
#include <memory>
#include <sstream>
#include <string>

#include "fusefs/control.h"
#include "tools/ctl/channel.h"
#include "tools/ctl/commands.h"

namespace ctl {
namespace {

// NAME=VALUE, into NAME="VALUE"; throws what CLI11 shows as wrong usage.
std::string read_label(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const bool sound =
      equals != std::string::npos && !name.empty() && (name[0] < '0' || name[0] > '9') &&
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
          std::string::npos;
  if (!sound) throw CLI::ValidationError("--label", text + ": not NAME=VALUE; try mount=data");
  std::string label = name + "=\"";
  for (const char c : text.substr(equals + 1)) {
    if (c == '"' || c == '\\') label += '\\';
    c == '\n' ? label += "\\n" : label += c;
  }
  return label + '"';
}

// Puts `label` into a line of the exposition that has a value.
std::string labelled(const std::string& line, const std::string& label) {
  if (label.empty() || line.starts_with('#')) return line;
  const size_t end = line.find_first_of("{ ");
  if (end == std::string::npos) return line;
  if (line[end] == '{') return line.substr(0, end + 1) + label + "," + line.substr(end + 1);
  return line.substr(0, end) + "{" + label + "}" + line.substr(end);
}

void metrics(const std::string& mountpoint, const std::string& label) {
  const Directory directory(mountpoint);
  const auto page = std::make_unique<fusefs::ControlPage>();
  std::string text;  // whole, before any of it is printed: half of it would be taken for all
  do {
    const uint64_t place = page->next;
    directory.ask(fusefs::kControlMetrics, page.get());
    page->text[fusefs::kControlTextBytes - 1] = '\0';
    text += page->text;
    if (page->next != 0 && page->next <= place) throw Failure("the answer has no end");
  } while (page->next != 0);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) std::puts(labelled(line, label).c_str());
}

void log_level(const std::string& mountpoint, const std::string& level) {
  fusefs::ControlLevel answer{};
  level.copy(answer.level, sizeof answer.level - 1);
  Directory(mountpoint).ask(fusefs::kControlLogLevel, &answer);
  answer.level[sizeof answer.level - 1] = '\0';
  std::puts(answer.level);
}

}  // namespace

void add_metrics(CLI::App& app) {
  const auto path = std::make_shared<std::string>();
  const auto label = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("metrics", "Print the counters as Prometheus reads them");
  command->add_option("MOUNTPOINT", *path, "Any directory of the mount")->required();
  command->add_option("--label", *label, "NAME=VALUE to tell the series of several mounts apart");
  command->callback([=] { metrics(*path, label->empty() ? "" : read_label(*label)); });
}

void add_log_level(CLI::App& app) {
  const auto path = std::make_shared<std::string>();
  const auto level = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("log-level", "Show from which level on the daemon logs, or set it");
  command->add_option("MOUNTPOINT", *path, "Any directory of the mount")->required();
  command->add_option("LEVEL", *level, "trace, debug, info, warning, error, critical or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "critical", "off"}));
  command->callback([=] { log_level(*path, *level); });
}

}  // namespace ctl
