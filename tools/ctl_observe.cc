#include "tools/ctl_observe.h"

#include <cstdio>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>

#include "fusefs/control.h"

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

void metrics(const Ask& ask, const std::string& mountpoint, const std::string& label) {
  const auto page = std::make_unique<fusefs::ControlPage>();
  std::string text;  // whole, before any of it is printed: half of it would be taken for all
  do {
    const uint64_t place = page->next;
    ask(mountpoint, fusefs::kControlMetrics, page.get());
    page->text[fusefs::kControlTextBytes - 1] = '\0';
    text += page->text;
    if (page->next != 0 && page->next <= place) throw std::runtime_error("the answer has no end");
  } while (page->next != 0);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) std::puts(labelled(line, label).c_str());
}

void log_level(const Ask& ask, const std::string& mountpoint, const std::string& level) {
  fusefs::ControlLevel answer{};
  level.copy(answer.level, sizeof answer.level - 1);
  ask(mountpoint, fusefs::kControlLogLevel, &answer);
  answer.level[sizeof answer.level - 1] = '\0';
  std::puts(answer.level);
}

struct Words {
  std::string path;
  std::string label;
  std::string level;
};

}  // namespace

void add_observing_commands(CLI::App* app, const Ask& ask) {
  const auto words = std::make_shared<Words>();

  CLI::App* metrics_command =
      app->add_subcommand("metrics", "Print the counters as Prometheus reads them");
  metrics_command->add_option("MOUNTPOINT", words->path, "Any directory of the mount")->required();
  metrics_command->add_option("--label", words->label,
                              "NAME=VALUE to tell the series of several mounts apart");
  metrics_command->callback([words, ask] {
    metrics(ask, words->path, words->label.empty() ? "" : read_label(words->label));
  });

  CLI::App* level_command =
      app->add_subcommand("log-level", "Show from which level on the daemon logs, or set it");
  level_command->add_option("MOUNTPOINT", words->path, "Any directory of the mount")->required();
  level_command
      ->add_option("LEVEL", words->level, "trace, debug, info, warning, error, critical or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "critical", "off"}));
  level_command->callback([words, ask] { log_level(ask, words->path, words->level); });
}

}  // namespace ctl
