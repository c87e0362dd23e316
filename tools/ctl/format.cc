#include "tools/ctl/format.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace ctl {
namespace {

std::string format(const char* pattern, double value, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, value, unit);
  return text.data();
}

}  // namespace

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
  if (seconds < 10) return format("%.2f %s", seconds, "s");
  if (seconds < 2 * kMinute) return format("%.0f %s", seconds, "s");
  if (seconds < 2 * kHour) return format("%.1f %s", seconds / kMinute, "min");
  if (seconds < 2 * kDay) return format("%.1f %s", seconds / kHour, "h");
  return format("%.1f %s", seconds / kDay, "days");
}

std::string format_rate(double per_second) {
  if (per_second > 0 && per_second < 10) return format("%.1f%s", per_second, "");
  return format_count(static_cast<uint64_t>(std::llround(std::max(per_second, 0.0))));
}

std::string format_percent(double part, double whole) {
  return whole > 0 ? format("%.1f %s", part * 100 / whole, "%") : "-";
}

std::string format_count(uint64_t count) { return grouped(std::to_string(count)); }

std::string grouped(std::string digits) {
  const size_t first = digits.starts_with('-') ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, 1, ',');
  return digits;
}

std::string format_microseconds(double us) {
  if (us < 1e3) return format("%.0f %s", us, "us");
  return us < 1e6 ? format("%.1f %s", us / 1e3, "ms") : format("%.1f %s", us / 1e6, "s");
}

std::string format_value(std::string_view name, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "-";
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number() && name.ends_with("bytes")) return format_bytes(value.get<double>());
  if (value.is_number() && name.ends_with("_seconds")) return format_seconds(value.get<double>());
  if (value.is_number() && name.ends_with("_us")) return format_microseconds(value.get<double>());
  if (name == "port") return value.dump();
  if (value.is_number_integer()) return grouped(value.dump());
  return value.dump();
}

std::string label(std::string_view name) {
  for (const std::string_view unit : {"_bytes", "_seconds", "_us"}) {
    if (name.ends_with(unit)) name.remove_suffix(unit.size());
  }
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string printable(std::string_view name) {
  std::string text;
  for (const char c : name) {
    const auto code = static_cast<unsigned char>(c);
    if (code >= 0x20 && code != 0x7f && c != '\\') {
      text += c;
      continue;
    }
    std::array<char, 8> escape{};
    std::snprintf(escape.data(), escape.size(), "\\%03o", code);
    text += escape.data();
  }
  return text;
}

double figure(const Json& json, std::string_view path) {
  const Json* at = &json;
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    const auto found = at->find(std::string(path.substr(0, dot)));
    if (!at->is_object() || found == at->end()) return 0;
    at = &*found;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return at->is_number() ? at->get<double>() : 0;
}

bool utf8_terminal() { return std::string_view(nl_langinfo(CODESET)) == "UTF-8"; }

int terminal_columns() {
  constexpr int kUsual = 80;
  winsize size{};
  const bool told = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return told ? size.ws_col : kUsual;
}

}  // namespace ctl
