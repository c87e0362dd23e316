// cookiefsctl: asks a mounted cookiefs for its counters, or to forget what it has cached.
//
// Reaches the daemon by the ioctls of fusefs/control.h on a directory of the mount, nothing else.
// Exit status: 0, 1 failure, 2 usage. A failure is one line on stderr.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "fusefs/control.h"
#include "tools/ctl_observe.h"

namespace {

using Json = nlohmann::ordered_json;  // keeps the daemon's order

constexpr int kExitUsage = 2;

// A failure that has its line.
class Failure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string explain(const std::string& path, int error_number) {
  switch (error_number) {
    case ENOENT:
      return path + ": no such file or directory";
    case ENOTDIR:
      return path + ": not a directory; name a directory of the mount";
    case EACCES:
      return path +
             ": permission denied; FUSE shows a mount to its owner alone, even to root not " +
             "without -o allow_root or allow_other";
    case EPERM:
      return path + ": not permitted; only the user who mounted it and root may do this";
    case ENOTCONN:
    case ECONNABORTED:  // just now, with this question under way
      return path + ": its daemon has died; clear the mount away with fusermount3 -u " + path;
    // What filesystems answer to an ioctl that they don't know.
    case ENOTTY:
    case ENOSYS:
    case EINVAL:
    case EOPNOTSUPP:
      return path + ": not in a cookiefs mount; `findmnt -t fuse.cookiefs` lists them";
    default:
      return path + ": " + std::generic_category().message(error_number);
  }
}

// An open directory of the mount.
class Directory {
 public:
  explicit Directory(const std::string& path)
      : path_(path), fd_(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC)) {
    if (fd_ < 0) throw Failure(explain(path, errno));
  }
  ~Directory() { close(fd_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  void ask(unsigned long request, void* answer) const {
    if (ioctl(fd_, request, answer) < 0) throw Failure(explain(path_, errno));
  }

 private:
  const std::string path_;
  const int fd_;
};

// ---- The page for people ------------------------------------------------------------------------

std::string format(const char* pattern, double value, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, value, unit);
  return text.data();
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
}

std::string format_seconds(double seconds) {
  constexpr double kMinute = 60, kHour = 3600, kDay = 86400;
  if (seconds < 2 * kMinute) return format("%.0f %s", seconds, "s");
  if (seconds < 2 * kHour) return format("%.1f %s", seconds / kMinute, "min");
  if (seconds < 2 * kDay) return format("%.1f %s", seconds / kHour, "h");
  return format("%.1f %s", seconds / kDay, "days");
}

// 1234567 as 1,234,567.
std::string group_digits(std::string digits) {
  const size_t first = digits.starts_with('-') ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, 1, ',');
  return digits;
}

// Of one kind of requests; the middle, the slowest hundredth, the slowest.
std::string format_latency(const Json& kind) {
  if (kind.value("count", uint64_t{0}) == 0) return "-";
  const auto duration = [&](const char* name) {
    const auto us = kind.value(name, 0.0);
    if (us < 1e3) return format("%.0f %s", us, "us");
    return us < 1e6 ? format("%.1f %s", us / 1e3, "ms") : format("%.1f %s", us / 1e6, "s");
  };
  return group_digits(kind["count"].dump()) + ": p50 " + duration("p50_us") + ", p99 " +
         duration("p99_us") + ", max " + duration("max_us");
}

// The name of a counter says its unit.
std::string format_value(std::string_view name, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() && name.ends_with("bytes")) return format_bytes(value.get<double>());
  if (value.is_number() && name.ends_with("_seconds")) return format_seconds(value.get<double>());
  if (name == "port") return value.dump();
  if (value.is_number_integer()) return group_digits(value.dump());
  if (value.is_object()) return format_latency(value);
  return value.dump();
}

std::string label(std::string_view name) {
  for (const std::string_view unit : {"_bytes", "_seconds"}) {
    if (name.ends_with(unit)) name.remove_suffix(unit.size());
  }
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

void print_group(const std::string& name, const Json& group) {
  std::printf("\n%s\n", label(name).c_str());
  for (const auto& [key, value] : group.items()) {
    std::printf("  %-18s %16s\n", label(key).c_str(), format_value(key, value).c_str());
  }
}

// Single values first, then a block for every object; what the daemon adds later shows as well.
void print_page(const Json& stats) {
  for (const auto& [key, value] : stats.items()) {
    if (value.is_object()) continue;
    std::printf("%-12s %s\n", label(key).c_str(), format_value(key, value).c_str());
  }
  for (const auto& [key, value] : stats.items()) {
    if (value.is_object()) print_group(key, value);
  }
}

// ---- The commands -------------------------------------------------------------------------------

enum class Form { kPage, kJson };

void stats(const std::string& mountpoint, Form form) {
  const auto answer = std::make_unique<fusefs::ControlText>();
  Directory(mountpoint).ask(fusefs::kControlStats, answer.get());
  answer->text[fusefs::kControlTextBytes - 1] = '\0';
  if (form == Form::kJson) {
    std::puts(answer->text);
    return;
  }
  const Json json = Json::parse(answer->text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    throw Failure(mountpoint + ": the daemon's answer is not JSON; is it of another version?");
  }
  print_page(json);
}

void drop(const std::string& mountpoint) {
  fusefs::ControlCount answer{};
  Directory(mountpoint).ask(fusefs::kControlDrop, &answer);
  std::printf("%llu pages dropped\n", static_cast<unsigned long long>(answer.count));
}

// `path` itself when it is a directory, else the one that it is listed in.
std::string directory_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return path;
  // A symlink that leads nowhere is listed in its directory like a file.
  if (lstat(path.c_str(), &status) != 0) throw Failure(explain(path, errno));
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

int run(int argc, char* argv[]) {
  CLI::App app("Asks a mounted cookiefs for its counters, or to forget what it has cached.",
               "cookiefsctl");
  app.set_version_flag("-V,--version", "cookiefsctl " COOKIEFS_VERSION);
  app.require_subcommand(1);
  std::string path;
  bool json = false;

  CLI::App* stats_command = app.add_subcommand("stats", "Show the counters of a mount");
  stats_command->add_option("MOUNTPOINT", path, "Any directory of the mount")->required();
  stats_command->add_flag("--json", json, "As JSON, with exact numbers");
  stats_command->callback([&] { stats(path, json ? Form::kJson : Form::kPage); });

  CLI::App* drop_command = app.add_subcommand("drop", "Drop all clean pages of a mount");
  drop_command->add_option("MOUNTPOINT", path, "Any directory of the mount")->required();
  drop_command->callback([&] { drop(path); });

  CLI::App* invalidate_command =
      app.add_subcommand("invalidate", "Forget a directory's listing, as if it had changed");
  invalidate_command->add_option("PATH", path, "The directory, or a file in it")->required();
  invalidate_command->callback([&] { invalidate(path); });

  ctl::add_observing_commands(
      &app, [](const std::string& mountpoint, unsigned long request, void* answer) {
        Directory(mountpoint).ask(request, answer);
      });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    std::fprintf(stderr, "cookiefsctl: %s; `cookiefsctl --help` tells more\n", error.what());
    return kExitUsage;
  }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char* argv[]) {
  try {
    return run(argc, argv);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "cookiefsctl: %s\n", failure.what());
    return EXIT_FAILURE;
  }
}
