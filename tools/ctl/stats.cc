// stats: the counters of a mount. drop, invalidate: what makes it forget.

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tools/ctl/commands.h"
#include "tools/ctl/format.h"

namespace ctl {
namespace {

enum class Form { kPage, kJson };

// ---- The page for people ------------------------------------------------------------------------

void print_figure(const char* name, const std::string& value) {
  std::printf("  %-20s %16s\n", name, value.c_str());
}

// Nested objects take a line each.
void print_figures(const Json& group) {
  for (const auto& [key, value] : group.items()) {
    std::string text;
    if (value.is_object() && value.value("count", 1) == 0) {
      print_figure(label(key).c_str(), "-");
    } else if (value.is_object()) {
      for (const auto& [inner, figure] : value.items()) {
        text += (text.empty() ? "" : "  ") + label(inner) + " " + format_value(inner, figure);
      }
      std::printf("  %-20s %s\n", label(key).c_str(), text.c_str());
    } else {
      std::printf("  %-20s %16s\n", label(key).c_str(), format_value(key, value).c_str());
    }
  }
}

// What follows from the counters and is what people look for.
void print_derived(const std::string& group, const Json& stats) {
  const auto at = [&](std::string_view path) { return figure(stats, path); };
  const auto ratio = [&](const char* name, double part, double whole) {
    if (whole > 0) print_figure(name, format_percent(part, whole));
  };
  if (group == "cache") {
    ratio("used", at("cache.bytes"), at("cache.limit_bytes"));
  } else if (group == "entries") {
    const double entries = at("entries.resident");
    if (entries > 0) print_figure("bytes each", format_bytes(at("cache.bytes") / entries));
  } else if (group == "readdir") {
    const double hits = at("readdir.hits");
    ratio("hit ratio", hits, hits + at("readdir.misses") + at("readdir.uncached"));
  } else if (group == "walk_ahead") {
    ratio("of use", at("walk_ahead.used"), at("walk_ahead.fetched"));
  } else if (group == "remote") {
    const double uptime = at("uptime_seconds");
    if (uptime > 0) print_figure("requests a second", format_rate(at("remote.requests") / uptime));
  }
}

void print_group(const std::string& name, const Json& stats) {
  std::printf("\n%s\n", label(name).c_str());
  print_figures(stats[name]);
  print_derived(name, stats);
}

// Groups of one figure or two share a block.
constexpr std::array<const char*, 8> kHeld = {"pages",   "entries",    "names",      "attrs",
                                              "anchors", "name_index", "data_pages", "inodes"};

bool is_held(std::string_view name) {
  return std::find(kHeld.begin(), kHeld.end(), name) != kHeld.end();
}

void print_held(const Json& stats) {
  std::printf("\nheld\n");
  for (const char* const name : kHeld) {
    if (!stats.contains(name) || !stats[name].is_object()) continue;
    for (const auto& [key, value] : stats[name].items()) {
      const bool plain = key == "bytes" || key == "count" || key == "resident";
      const std::string text = plain ? label(name) : label(name) + ", " + label(key);
      print_figure(text.c_str(), format_value(key, value));
    }
    print_derived(name, stats);
  }
}

// Single values first, then a block for every object; what the daemon adds later shows as well.
void print_page(const Json& stats) {
  for (const auto& [key, value] : stats.items()) {
    if (value.is_object()) continue;
    std::printf("%-14s %s\n", label(key).c_str(), format_value(key, value).c_str());
  }
  bool held = false;
  for (const auto& [key, value] : stats.items()) {
    if (!value.is_object()) continue;
    if (!is_held(key)) {
      print_group(key, stats);
    } else if (!std::exchange(held, true)) {
      print_held(stats);
    }
  }
}

void stats(const std::string& mountpoint, Form form) {
  const Directory directory(mountpoint);
  if (form == Form::kJson) {
    std::puts(directory.ask_text(fusefs::kControlStats).c_str());
  } else {
    print_page(directory.ask_json(fusefs::kControlStats));
  }
}

// ---- What makes it forget -----------------------------------------------------------------------

void drop(const std::string& mountpoint) {
  fusefs::ControlCount answer{};
  Directory(mountpoint).ask(fusefs::kControlDrop, &answer);
  std::printf("%llu pages dropped\n", static_cast<unsigned long long>(answer.count));
}

// ---- What makes it write ------------------------------------------------------------------------

void sync(const std::string& mountpoint) {
  fusefs::ControlCount answer{};
  Directory(mountpoint).ask(fusefs::kControlSync, &answer);
  if (answer.count == 0) return;
  const std::string files = answer.count == 1
                                ? "a file that was closed has"
                                : std::to_string(answer.count) + " files that were closed have";
  throw Failure(mountpoint + ": " + files +
                    " lost something that was written or set; the daemon's log tells what the "
                    "remote said",
                EIO);
}

// `path` itself when it is a directory, else the one that it is listed in.
std::string directory_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return path;
  // A symlink that leads nowhere is listed in its directory like a file.
  if (lstat(path.c_str(), &status) != 0) throw Failure(explain(path, errno), errno);
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void invalidate(const std::string& path) {
  const std::string directory = directory_of(path);
  fusefs::ControlCount answer{};
  Directory(directory).ask(fusefs::kControlInvalidate, &answer);
  std::printf("%llu arrays of %s invalidated\n", static_cast<unsigned long long>(answer.count),
              directory.c_str());
}

// ---- Commands -----------------------------------------------------------------------------------

struct PathArgument {
  const char* name;
  const char* help;
};
constexpr PathArgument kMountpoint{"MOUNTPOINT", "Any directory of the mount"};

// A command that takes a path, and nothing else.
void add_of_path(CLI::App* command, const PathArgument& argument,
                 void (*run)(const std::string& path)) {
  const auto path = std::make_shared<std::string>();
  command->add_option(argument.name, *path, argument.help)->required();
  command->callback([=] { run(*path); });
}

}  // namespace

void add_stats(CLI::App& app) {
  const auto path = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  CLI::App* const command = app.add_subcommand("stats", "Show the counters of a mount");
  command->add_option(kMountpoint.name, *path, kMountpoint.help)->required();
  command->add_flag("--json", *json, "As JSON, with exact numbers");
  command->callback([=] { stats(*path, *json ? Form::kJson : Form::kPage); });
}

void add_drop(CLI::App& app) {
  add_of_path(app.add_subcommand("drop", "Drop all clean pages of a mount"), kMountpoint, drop);
}

void add_sync(CLI::App& app) {
  add_of_path(app.add_subcommand("sync", "Wait until the remote has all that was written"),
              kMountpoint, sync);
}

void add_invalidate(CLI::App& app) {
  add_of_path(
      app.add_subcommand("invalidate", "Forget a directory's listing, as if it had changed"),
      {"PATH", "The directory, or a file in it"}, invalidate);
}

}  // namespace ctl
