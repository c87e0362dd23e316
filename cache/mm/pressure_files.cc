#include "cache/mm/pressure_files.h"

#include <algorithm>
#include <charconv>

namespace cache {
namespace {

constexpr std::string_view kBlanks = " \t";
constexpr uint64_t kNoLimitV1 = uint64_t{1} << 62;

// The next line of `text`, which moves on; nothing at the end.
std::optional<std::string_view> next_line(std::string_view* text) {
  if (text->empty()) return std::nullopt;
  const size_t end = std::min(text->find('\n'), text->size());
  const std::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return line;
}

std::string_view next_field(std::string_view* line, std::string_view separators = kBlanks) {
  line->remove_prefix(std::min(line->find_first_not_of(separators), line->size()));
  const size_t end = std::min(line->find_first_of(separators), line->size());
  const std::string_view field = line->substr(0, end);
  line->remove_prefix(end);
  return field;
}

std::optional<uint64_t> to_number(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return number;
}

bool in_list(std::string_view list, std::string_view wanted) {
  while (!list.empty()) {
    if (next_field(&list, ",") == wanted) return true;
  }
  return false;
}

// A line of /proc/self/cgroup: 'ID:CONTROLLERS:PATH'. The path of the v1 memory hierarchy, or of
// the one v2 hierarchy.
std::optional<std::string> own_path(std::string_view text, MemoryCgroup::Version version) {
  while (const auto line = next_line(&text)) {
    const size_t first = line->find(':');
    if (first == std::string_view::npos) continue;
    const size_t second = line->find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line->substr(first + 1, second - first - 1);
    const bool match = version == MemoryCgroup::Version::kV1
                           ? in_list(controllers, "memory")
                           : line->substr(0, first) == "0" && controllers.empty();
    if (match) return std::string(line->substr(second + 1));
  }
  return std::nullopt;
}

// mountinfo writes blanks, line ends and backslashes of paths as three octal digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() ? text[at] - '0' : -1; };
    const int a = digit(i + 1);
    const int b = digit(i + 2);
    const int c = digit(i + 3);
    const auto octal = [](int d) { return d >= 0 && d <= 7; };
    if (text[i] == '\\' && octal(a) && octal(b) && octal(c)) {
      plain.push_back(static_cast<char>(a * 64 + b * 8 + c));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

struct Mount {
  std::string root;   // which part of the hierarchy is mounted
  std::string point;  // where
};

// A line of mountinfo (proc(5)): 'id parent dev ROOT POINT options [tags...] - TYPE source SUPER'.
std::optional<Mount> find_mount(std::string_view text, MemoryCgroup::Version version) {
  while (const auto whole = next_line(&text)) {
    const size_t dash = whole->find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view head = whole->substr(0, dash);
    std::string_view tail = whole->substr(dash + 3);
    const std::string_view type = next_field(&tail);
    next_field(&tail);
    const std::string_view super_options = next_field(&tail);
    const bool match = version == MemoryCgroup::Version::kV1
                           ? type == "cgroup" && in_list(super_options, "memory")
                           : type == "cgroup2";
    if (!match) continue;
    for (int skipped = 0; skipped < 3; ++skipped) next_field(&head);
    Mount mount;
    mount.root = unescape(next_field(&head));
    mount.point = unescape(next_field(&head));
    return mount;
  }
  return std::nullopt;
}

// `path` as seen from the mount: without the mounted root before it. "" for the mount's root.
std::string path_below(const std::string& path, const std::string& root) {
  const std::string prefix = root == "/" ? "" : root;
  if (path.find("..") != std::string::npos) return "";  // above what this namespace sees
  if (path.compare(0, prefix.size(), prefix) != 0) return "";
  std::string below = path.substr(prefix.size());
  if (!below.empty() && below.front() != '/') return "";
  while (!below.empty() && below.back() == '/') below.pop_back();
  return below;
}

}  // namespace

std::optional<uint64_t> keyed_value(std::string_view text, std::string_view key) {
  while (auto line = next_line(&text)) {
    if (next_field(&*line, " \t:") == key) return to_number(next_field(&*line, " \t:"));
  }
  return std::nullopt;
}

std::optional<MemoryRoom> parse_meminfo(std::string_view text) {
  const auto total = keyed_value(text, "MemTotal");
  const auto available = keyed_value(text, "MemAvailable");
  if (total.value_or(0) == 0 || !available.has_value()) return std::nullopt;
  return MemoryRoom{*total * 1024, std::min(*available, *total) * 1024};
}

std::optional<uint64_t> parse_psi_some_total(std::string_view text) {
  while (auto line = next_line(&text)) {
    if (next_field(&*line) != "some") continue;
    constexpr std::string_view kTotal = "total=";
    while (!line->empty()) {
      const std::string_view field = next_field(&*line);
      if (field.substr(0, kTotal.size()) == kTotal) return to_number(field.substr(kTotal.size()));
    }
  }
  return std::nullopt;
}

std::optional<uint64_t> parse_bytes(std::string_view text) {
  const auto number = to_number(text);
  if (!number.has_value() || *number >= kNoLimitV1) return std::nullopt;
  return number;
}

std::optional<MemoryCgroup> find_memory_cgroup(std::string_view cgroup_text,
                                               std::string_view mountinfo_text) {
  for (const auto version : {MemoryCgroup::Version::kV1, MemoryCgroup::Version::kV2}) {
    const auto path = own_path(cgroup_text, version);
    const auto mount = find_mount(mountinfo_text, version);
    if (!path.has_value() || !mount.has_value()) continue;
    MemoryCgroup cgroup;
    cgroup.version = version;
    std::string below = path_below(*path, mount->root);
    while (!below.empty()) {
      cgroup.directories.push_back(mount->point + below);
      below.resize(below.rfind('/'));
    }
    cgroup.directories.push_back(mount->point);
    return cgroup;
  }
  return std::nullopt;
}

}  // namespace cache
