#include "fusefs/options.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <optional>
#include <string_view>
#include <system_error>

#include "fusefs/units.h"

namespace fusefs {

namespace {

// What the options are collected in, until all of them are known to be right.
struct Draft {
  Options options;
  BackendOptions others;  // the source's back end is to say whether it knows them
};

// ---- Options of our own: NAME=VALUE -------------------------------------------------------------

// Sets one option; answers what is wrong with `value`, or nothing.
using Setter = std::string (*)(Draft* draft, const std::string& value);

struct OwnOption {
  std::string_view name;
  std::string_view example;  // a value that works
  Setter set;
};

std::string format_size(uint64_t bytes) {
  constexpr std::array<char, 3> kUnits = {'G', 'M', 'K'};
  for (size_t i = 0; i < kUnits.size(); ++i) {
    const uint64_t unit = uint64_t{1} << (10 * (kUnits.size() - i));
    if (bytes >= unit && bytes % unit == 0) return std::to_string(bytes / unit) + kUnits[i];
  }
  return std::to_string(bytes);
}

std::string read_budget(const std::string& value, uint64_t* bytes) {
  const auto size = parse_size(value);
  if (!size.ok()) return "not a size";
  if (size.value() < kMinCacheSize) {
    return "a cache needs at least " + format_size(kMinCacheSize);
  }
  *bytes = size.value();
  return "";
}

// A small cache keeps room to give way.
void choose_floor(Options* options) {
  if (options->cache_min_given) return;
  options->cache_min =
      std::min(Options{}.cache_min, std::max(kMinCacheSize, options->cache_size / 4));
}

std::string set_cache_size(Draft* draft, const std::string& value) {
  draft->options.cache_size_auto = value == "auto";
  if (draft->options.cache_size_auto) return "";
  return read_budget(value, &draft->options.cache_size);
}

std::string set_cache_min(Draft* draft, const std::string& value) {
  draft->options.cache_min_given = true;
  return read_budget(value, &draft->options.cache_min);
}

std::string set_ttl(Draft* draft, const std::string& value) {
  const auto time = parse_duration(value);
  if (!time.ok()) return "not a time";
  draft->options.ttl = time.value();
  return "";
}

std::string set_timeout(Draft* draft, const std::string& value) {
  const auto time = parse_duration(value);
  if (!time.ok()) return "not a time";
  if (time.value().count() <= 0) return "the remote needs some time to answer";
  draft->options.timeout = time.value();
  return "";
}

std::string set_log_level(Draft* draft, const std::string& value) {
  constexpr std::array<std::string_view, 9> kLevels = {
      "trace", "debug", "info", "warning", "warn", "error", "err", "critical", "off"};
  if (std::find(kLevels.begin(), kLevels.end(), value) == kLevels.end()) {
    return "not one of trace, debug, info, warning, error, critical, off";
  }
  draft->options.log_level = value;
  return "";
}

std::string set_max_threads(Draft* draft, const std::string& value) {
  constexpr uint64_t kMaxThreads = 1024;
  const auto count = parse_count(value);
  if (!count.ok()) return "not a number";
  if (count.value() < 1 || count.value() > kMaxThreads) {
    return "not between 1 and " + std::to_string(kMaxThreads);
  }
  draft->options.max_threads = static_cast<uint32_t>(count.value());
  return "";
}

std::string set_walk_ahead(Draft* draft, const std::string& value) {
  constexpr uint64_t kMaxAhead = 4096;
  const auto count = parse_count(value);
  if (!count.ok()) return "not a number";
  if (count.value() > kMaxAhead) return "not between 0 and " + std::to_string(kMaxAhead);
  draft->options.walk_ahead = static_cast<uint32_t>(count.value());
  return "";
}

std::string set_readdirplus(Draft* draft, const std::string& value) {
  if (value == "yes") {
    draft->options.readdirplus = ReaddirPlus::kAlways;
  } else if (value == "no") {
    draft->options.readdirplus = ReaddirPlus::kNever;
  } else if (value == "auto") {
    draft->options.readdirplus = ReaddirPlus::kAuto;
  } else {
    return "not one of yes, no, auto";
  }
  return "";
}

std::string set_kernel_listings(Draft* draft, const std::string& value) {
  if (value != "yes" && value != "no") return "not one of yes, no";
  draft->options.kernel_listings = value == "yes";
  return "";
}

std::string set_close(Draft* draft, const std::string& value) {
  if (value != "wait" && value != "nowait") return "not one of wait, nowait";
  draft->options.close_waits = value == "wait";
  return "";
}

std::string set_locks(Draft* draft, const std::string& value) {
  if (value == "auto") {
    draft->options.remote_locks = RemoteLocks::kWherePossible;
  } else if (value == "remote") {
    draft->options.remote_locks = RemoteLocks::kAlways;
  } else if (value == "mount") {
    draft->options.remote_locks = RemoteLocks::kNever;
  } else {
    return "not one of auto, remote, mount";
  }
  return "";
}

bool is_address(const std::string& host) {
  in6_addr binary{};  // has room for either
  return inet_pton(AF_INET, host.c_str(), &binary) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &binary) == 1;
}

// PORT, ADDRESS:PORT or [ADDRESS]:PORT. Without an address this machine alone can ask.
std::string set_metrics(Draft* draft, const std::string& value) {
  const size_t colon = value.rfind(':');
  const std::string port = colon == std::string::npos ? value : value.substr(colon + 1);
  std::string host = colon == std::string::npos ? "127.0.0.1" : value.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (bracketed != (host.find(':') != std::string::npos) || !is_address(host)) {
    return "not PORT, ADDRESS:PORT or [ADDRESS]:PORT, with an address in digits";
  }
  const auto number = parse_count(port);
  if (!number.ok() || number.value() > UINT16_MAX) return "not a port between 0 and 65535";
  draft->options.metrics = ListenAddress{host, static_cast<uint16_t>(number.value())};
  return "";
}

constexpr auto kOwnOptions = std::to_array<OwnOption>({
    {"cache_size", "64M", set_cache_size},
    {"cache_min", "16M", set_cache_min},
    {"ttl", "3s", set_ttl},
    {"timeout", "60s", set_timeout},
    {"log_level", "info", set_log_level},
    {"max_threads", "64", set_max_threads},
    {"readdirplus", "auto", set_readdirplus},
    {"walk_ahead", "256", set_walk_ahead},
    {"kernel_listings", "no", set_kernel_listings},
    {"close", "wait", set_close},
    {"locks", "auto", set_locks},
    {"metrics", "127.0.0.1:9478", set_metrics},
});

// ---- Words of mount(8), fstab and libfuse -------------------------------------------------------

enum class Value : uint8_t { kNone, kRequired, kOptional };
enum class Use : uint8_t { kPass, kIgnore };

struct MountWord {
  std::string_view name;
  Value value;
  Use use;
};

constexpr auto kMountWords = std::to_array<MountWord>({
    // What libfuse and fusermount3 know.
    {"rw", Value::kNone, Use::kPass},
    {"ro", Value::kNone, Use::kPass},
    {"dev", Value::kNone, Use::kPass},
    {"nodev", Value::kNone, Use::kPass},
    {"suid", Value::kNone, Use::kPass},
    {"nosuid", Value::kNone, Use::kPass},
    {"exec", Value::kNone, Use::kPass},
    {"noexec", Value::kNone, Use::kPass},
    {"async", Value::kNone, Use::kPass},
    {"sync", Value::kNone, Use::kPass},
    {"dirsync", Value::kNone, Use::kPass},
    {"atime", Value::kNone, Use::kPass},
    {"noatime", Value::kNone, Use::kPass},
    {"allow_other", Value::kNone, Use::kPass},
    {"allow_root", Value::kNone, Use::kPass},
    {"default_permissions", Value::kNone, Use::kPass},
    {"auto_unmount", Value::kNone, Use::kPass},
    {"fsname", Value::kRequired, Use::kPass},
    {"subtype", Value::kRequired, Use::kPass},
    {"max_read", Value::kRequired, Use::kPass},
    {"context", Value::kRequired, Use::kPass},
    {"fscontext", Value::kRequired, Use::kPass},
    {"defcontext", Value::kRequired, Use::kPass},
    {"rootcontext", Value::kRequired, Use::kPass},
    // What concerns mount(8), systemd or nobody here; `nonempty` was needed before fuse 3.
    {"defaults", Value::kNone, Use::kIgnore},
    {"auto", Value::kNone, Use::kIgnore},
    {"noauto", Value::kNone, Use::kIgnore},
    {"user", Value::kOptional, Use::kIgnore},
    {"nouser", Value::kNone, Use::kIgnore},
    {"users", Value::kNone, Use::kIgnore},
    {"nousers", Value::kNone, Use::kIgnore},
    {"owner", Value::kNone, Use::kIgnore},
    {"noowner", Value::kNone, Use::kIgnore},
    {"group", Value::kNone, Use::kIgnore},
    {"nogroup", Value::kNone, Use::kIgnore},
    {"fail", Value::kNone, Use::kIgnore},
    {"nofail", Value::kNone, Use::kIgnore},
    {"_netdev", Value::kNone, Use::kIgnore},
    {"comment", Value::kOptional, Use::kIgnore},
    {"relatime", Value::kNone, Use::kIgnore},
    {"norelatime", Value::kNone, Use::kIgnore},
    {"strictatime", Value::kNone, Use::kIgnore},
    {"nostrictatime", Value::kNone, Use::kIgnore},
    {"diratime", Value::kNone, Use::kIgnore},
    {"nodiratime", Value::kNone, Use::kIgnore},
    {"lazytime", Value::kNone, Use::kIgnore},
    {"nolazytime", Value::kNone, Use::kIgnore},
    {"mand", Value::kNone, Use::kIgnore},
    {"nomand", Value::kNone, Use::kIgnore},
    {"iversion", Value::kNone, Use::kIgnore},
    {"noiversion", Value::kNone, Use::kIgnore},
    {"silent", Value::kNone, Use::kIgnore},
    {"loud", Value::kNone, Use::kIgnore},
    {"helper", Value::kRequired, Use::kIgnore},
    {"uhelper", Value::kRequired, Use::kIgnore},
    {"nonempty", Value::kNone, Use::kIgnore},
    // Ours, without a value, as users of libfuse know them; see Parser::take_word().
    {"debug", Value::kNone, Use::kIgnore},  // as -d
    {"writeback_cache", Value::kNone, Use::kIgnore},
});

// Options of other filesystems that people will try: what to do instead.
struct Foreign {
  std::string_view name;
  std::string_view instead;
};

constexpr auto kForeign = std::to_array<Foreign>({
    {"remount", "a mounted tree can't be changed; unmount it and mount it again"},
    {"uid", "owners are shown as the remote tells them; leave it out"},
    {"gid", "groups are shown as the remote tells them; leave it out"},
    {"umask", "modes are shown as the remote tells them; leave it out"},
    {"attr_timeout", "cookiefs has one limit for all it remembers; try ttl=3s"},
    {"entry_timeout", "cookiefs has one limit for all it remembers; try ttl=3s"},
    {"negative_timeout", "cookiefs has one limit for all it remembers; try ttl=3s"},
    {"dcache_timeout", "cookiefs has one limit for all it remembers; try ttl=3s"},
    {"actimeo", "cookiefs has one limit for all it remembers; try ttl=3s"},
    {"max_idle_threads", "cookiefs bounds its threads with max_threads; try max_threads=64"},
});

// ---- Unknown words ------------------------------------------------------------------------------

// Levenshtein's distance: insertions, deletions and replacements that turn one into the other.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

class Nearest {
 public:
  explicit Nearest(std::string_view word) : word_(word), best_distance_(1 + word.size() / 4) {}

  // `name` is what is compared, `shown` how it would be typed.
  void offer(std::string_view name, std::string shown) {
    // A longer word than any known one is not worth the comparing.
    if (word_.size() > 64) return;
    const size_t distance = edit_distance(word_, name);
    if (distance > best_distance_ || (distance == best_distance_ && !best_.empty())) return;
    best_distance_ = distance;
    best_ = std::move(shown);
  }
  [[nodiscard]] bool found() const { return !best_.empty(); }
  [[nodiscard]] std::string advice() const {
    return best_.empty() ? "`cookiefs --help` lists what is known" : "did you mean " + best_ + "?";
  }

 private:
  std::string_view word_;
  size_t best_distance_;
  std::string best_;
};

// A word that neither cookiefs nor the source's back end knows.
std::string unknown_word(std::string_view name, BackendOptionSpecs backend) {
  for (const Foreign& foreign : kForeign) {
    if (foreign.name == name) {
      return std::string(name) + ": not an option of cookiefs: " + std::string(foreign.instead);
    }
  }
  Nearest nearest(name);
  for (const OwnOption& own : kOwnOptions) {
    nearest.offer(own.name, std::string(own.name) + "=" + std::string(own.example));
  }
  for (const MountWord& word : kMountWords) {
    nearest.offer(word.name,
                  std::string(word.name) + (word.value == Value::kRequired ? "=..." : ""));
  }
  for (const BackendOptionSpec& spec : backend) {
    nearest.offer(spec.name, std::string(spec.example));
  }
  const std::string text = std::string(name) + ": unknown option; ";
  if (nearest.found() || backend.empty()) return text + nearest.advice();
  return text + known_options_text(backend) + "; " + nearest.advice();
}

// ---- Lists of options: a,b=c\,d,e ---------------------------------------------------------------

// Splits at commas; a backslash takes the character after it literally. Empty items are skipped.
std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> items(1);
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] == ',') {
      items.emplace_back();
    } else if (list[i] == '\\' && i + 1 < list.size()) {
      items.back() += list[++i];
    } else {
      items.back() += list[i];
    }
  }
  std::erase(items, "");
  return items;
}

std::string escape_item(std::string_view item) {
  std::string escaped;
  for (const char c : item) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// Plain digits, as libfuse reads them; 0 for what can't be a size of a read request.
uint32_t read_max_read(std::string_view text) {
  constexpr uint32_t kPage = 4096;
  uint32_t bytes = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, wrong] = std::from_chars(text.data(), end, bytes);
  return wrong == std::errc() && rest == end && bytes >= kPage ? bytes : 0;
}

// ---- The command line ---------------------------------------------------------------------------

constexpr std::string_view kUsage = "usage: cookiefs [options] SOURCE MOUNTPOINT";

// True when mount(8) called us as its helper, whose flags mean something else.
bool is_mount_helper(std::string_view program) {
  const size_t slash = program.rfind('/');
  if (slash != std::string_view::npos) program.remove_prefix(slash + 1);
  return program.starts_with("mount.");
}

// Every member that takes something answers what is wrong with it, or nothing.
class Parser {
 public:
  Parser(int argc, const char* const argv[], SpecsOf specs_of)
      : args_(argv + std::min(argc, 1), argv + argc),
        helper_(argc > 0 && is_mount_helper(argv[0])),
        specs_of_(specs_of) {}

  std::string parse() {
    while (next_ < args_.size()) {
      std::string wrong = take_argument(args_[next_++]);
      if (!wrong.empty()) return wrong;
      if (draft_.options.show_help || draft_.options.show_version) return "";
    }
    return finish();
  }
  [[nodiscard]] Options result() && { return std::move(draft_.options); }

 private:
  std::string take_argument(const std::string& argument) {
    if (flags_ended_ || argument.size() < 2 || argument[0] != '-') {
      positionals_.push_back(argument);
      return "";
    }
    if (argument == "--") {
      flags_ended_ = true;
      return "";
    }
    if (argument.starts_with("--")) return take_long_flag(argument);
    for (size_t i = 1; i < argument.size(); ++i) {
      if (argument[i] == 'o') return take_list(argument.substr(i + 1));
      if (helper_ && (argument[i] == 't' || argument[i] == 'N')) {
        std::string value = argument.substr(i + 1);
        if (value.empty() && next_ < args_.size()) value = args_[next_++];
        return argument[i] == 'N' ? take_namespace(std::move(value)) : "";
      }
      if (!take_flag(argument[i])) {
        return std::string("-") + argument[i] + ": unknown option; `cookiefs --help` lists " +
               "what is known";
      }
    }
    return "";
  }

  std::string take_long_flag(const std::string& argument) {
    constexpr std::array<std::pair<std::string_view, char>, 3> kLong = {
        {{"--help", 'h'}, {"--version", 'V'}, {"--debug", 'd'}}};
    Nearest nearest(argument);
    for (const auto& [name, flag] : kLong) {
      if (name == argument) {
        take_flag(flag);
        return "";
      }
      nearest.offer(name, std::string(name));
    }
    const std::string word = argument.substr(2, argument.find('=') - 2);
    for (const OwnOption& own : kOwnOptions) {
      nearest.offer("--" + std::string(own.name),
                    "-o " + std::string(own.name) + "=" + std::string(own.example));
      if (word == own.name) {
        return argument + ": unknown option; did you mean -o " + argument.substr(2) + "?";
      }
    }
    return argument + ": unknown option; " + nearest.advice();
  }

  std::string take_namespace(std::string value) {
    if (value.empty()) return "-N: needs a namespace after it; try -N /proc/1/ns/mnt";
    draft_.options.mount_namespace = std::move(value);
    return "";
  }

  bool take_flag(char flag) {
    Options& options = draft_.options;
    if (helper_ && flag == 's') sloppy_ = true;
    if (helper_ && (flag == 'n' || flag == 'v' || flag == 's')) return true;
    switch (flag) {
      case 'f':
        (helper_ ? options.check_only : options.foreground) = true;
        return true;
      case 'd':
        options.debug = options.foreground = true;
        return true;
      case 's':
        options.single_thread = true;
        return true;
      case 'h':
        options.show_help = true;
        return true;
      case 'V':
        options.show_version = true;
        return true;
      default:
        return false;
    }
  }

  // `attached` is what follows "-o" in the same argument; empty: the next argument is the list.
  std::string take_list(const std::string& attached) {
    if (attached.empty() && next_ == args_.size()) {
      return "-o: needs an option after it; try -o cache_size=256M";
    }
    const std::string list = attached.empty() ? args_[next_++] : attached;
    for (const std::string& item : split_list(list)) {
      std::string wrong = take_item(item);
      if (!wrong.empty()) return wrong;
    }
    return "";
  }

  std::string take_item(const std::string& item) {
    if (item.starts_with("x-") || item.starts_with("X-")) return "";
    const size_t equals = item.find('=');
    const std::string name = item.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = item.substr(equals + 1);
    for (const OwnOption& own : kOwnOptions) {
      if (own.name == name) return take_own(own, item, value.value_or(""));
    }
    for (const MountWord& word : kMountWords) {
      if (word.name == name) return take_word(word, item, value);
    }
    draft_.others.push_back({name, value});
    return "";
  }

  std::string take_own(const OwnOption& own, const std::string& item, const std::string& value) {
    std::string wrong = value.empty() ? "needs a value" : own.set(&draft_, value);
    if (wrong.empty()) return "";
    return item + ": " + wrong + "; try " + std::string(own.name) + "=" + std::string(own.example);
  }

  std::string take_word(const MountWord& word, const std::string& item,
                        const std::optional<std::string>& value) {
    const std::string name(word.name);
    if (word.value == Value::kNone && value) return item + ": takes no value; try " + name;
    if (word.value == Value::kRequired && value.value_or("").empty()) {
      return item + ": needs a value; try " + name + "=...";
    }
    Options& options = draft_.options;
    if (name == "max_read" && (options.max_read = read_max_read(*value)) == 0) {
      return item + ": not a number of bytes from 4096 on; try max_read=131072";
    }
    if (name == "debug") take_flag('d');
    if (name == "writeback_cache") options.writeback_cache = true;
    if (word.use == Use::kIgnore) return "";
    if (name == "default_permissions") options.default_permissions = true;
    if (name == "allow_other" || name == "allow_root") options.allow_other = true;
    options.fuse_args.push_back("-o" + escape_item(item));
    return "";
  }

  // What can be said only when everything has been read.
  std::string finish() {
    Options& options = draft_.options;
    if (positionals_.empty()) return "SOURCE and MOUNTPOINT are missing; " + std::string(kUsage);
    if (positionals_.size() == 1) {
      return "MOUNTPOINT is missing after '" + positionals_[0] + "'; " + std::string(kUsage);
    }
    if (positionals_.size() > 2) {
      return "'" + positionals_[2] + "' is one argument too many; " + std::string(kUsage);
    }
    if (positionals_[0].empty()) return "SOURCE is empty; " + std::string(kUsage);
    if (positionals_[1].empty()) return "MOUNTPOINT is empty; " + std::string(kUsage);
    options.source = positionals_[0];
    options.mountpoint = positionals_[1];
    std::string wrong = give_to_backend();
    if (!wrong.empty()) return wrong;
    if (options.cache_size_auto) {
      options.cache_size = Options{}.cache_size;  // until choose_cache_size()
      return "";
    }
    choose_floor(&options);
    if (options.cache_min > options.cache_size) {
      const std::string size = format_size(options.cache_size);
      return "cache_min=" + format_size(options.cache_min) + ": more than cache_size=" + size +
             "; try cache_min=" + size + " or less";
    }
    return "";
  }

  std::string give_to_backend() {
    const BackendOptionSpecs known = specs_of_(draft_.options.source);
    if (sloppy_) {
      std::erase_if(draft_.others, [&](const BackendOption& option) {
        return find_option(known, option.name) == nullptr;
      });
    }
    for (const BackendOption& option : draft_.others) {
      if (find_option(known, option.name) == nullptr) return unknown_word(option.name, known);
      std::string wrong = wrong_option(known, option);
      if (!wrong.empty()) return wrong;
    }
    draft_.options.backend_options = std::move(draft_.others);
    return "";
  }

  const std::vector<std::string> args_;  // without the program's name
  const bool helper_;
  const SpecsOf specs_of_;
  size_t next_ = 0;  // the first of args_ that has not been looked at
  bool flags_ended_ = false;
  bool sloppy_ = false;  // `mount -s`: options that nobody knows are skipped
  std::vector<std::string> positionals_;
  Draft draft_;
};

}  // namespace

bool parse_options(int argc, const char* const argv[], SpecsOf specs_of, Options* options,
                   std::string* error) {
  Parser parser(argc, argv, specs_of);
  *error = parser.parse();
  if (!error->empty()) return false;
  *options = std::move(parser).result();
  return true;
}

void choose_cache_size(const std::vector<cache::MemoryRoom>& rooms, Options* options) {
  if (!options->cache_size_auto || rooms.empty()) return;
  const auto tightest = std::min_element(
      rooms.begin(), rooms.end(), [](const auto& a, const auto& b) { return a.limit < b.limit; });
  constexpr uint64_t kStep = uint64_t{1} << 20;
  options->cache_size =
      std::clamp(tightest->limit / 4 / kStep * kStep, kMinCacheSize, kMaxAutoCacheSize);
  choose_floor(options);
  options->cache_min = std::min(options->cache_min, options->cache_size);
}

std::string help_text() {
  return std::string(kUsage) + R"(

Mounts a remote directory tree; listings are cached, exact and small in memory.

SOURCE
    file:///PATH, /PATH      a local directory
    nfs://HOST/EXPORT[/DIR]  a directory of an NFS server, version 3; ?version=4
    sftp://[USER@]HOST[:PORT]/PATH
                             a directory of a host that ssh reaches; /~/PATH: below the
                             login's own directory
    sim:KEY=VALUE,...        a simulated remote, such as sim:big=1000000,rtt=10ms

options
    -f                       stay in the foreground
    -d, --debug, -o debug    stay in the foreground and trace every request
    -s                       one thread only
    -o OPTION[,OPTION...]    mount options; a comma inside a value is written \,
    -h, --help               this page
    -V, --version            versions

mount options of cookiefs
    cache_size=SIZE|auto     memory for all that is cached, a hard bound (256M); auto: a quarter
                             of what the memory cgroup or the machine has, at most 8G
    cache_min=SIZE           what stays of it under memory pressure from outside
                             (16M, or a quarter of a smaller cache)
    ttl=TIME                 age at which attributes and listings are checked again (3s);
                             0 checks at every opendir
    timeout=TIME             for the remote to answer; then ETIMEDOUT (60s)
    max_threads=N            requests served side by side (64)
    readdirplus=yes|no|auto  attributes along with listings (auto)
    walk_ahead=N             directories fetched ahead of a program that walks the tree (256);
                             0: none
    kernel_listings=yes|no   let the kernel keep listings too (no)
    writeback_cache          let the kernel collect writes; changes of a file made elsewhere
                             are then not seen while it is known here
    close=wait|nowait        whether close() waits until the remote has what was written (wait)
    locks=auto|remote|mount  who keeps locks of files; auto: the remote, where it has any (auto)
    metrics=[ADDRESS:]PORT   answer Prometheus at http://ADDRESS:PORT/metrics (no); without
                             ADDRESS at 127.0.0.1; PORT 0: any that is free
    log_level=LEVEL          trace, debug, info, warning, error, critical or off (info)

mount options of nfs:// (the README explains them)
    version=3|4, port=N, mountport=N, nconnect=N, hard, soft, timeo=N, retrans=N,
    sec=sys|none, uid=N, gid=N, squash, resvport, noresvport, rsize=SIZE

mount options of sftp://
    port=N, ssh_command=COMMAND, sftp_server=NAME|PATH, ssh_config=FILE, compression=yes|no,
    ssh_option=NAME=VALUE and the usual options of ssh_config(5) by their own names, such as
    IdentityFile=FILE, ProxyJump=HOST, StrictHostKeyChecking=WHAT

mount options of FUSE
    allow_other, allow_root, default_permissions, auto_unmount, fsname=NAME, subtype=TYPE,
    max_read=BYTES, ro, rw, [no]dev, [no]suid, [no]exec, [no]atime, [a]sync; those that
    concern mount(8) and fstab alone (noauto, user, nofail, _netdev, x-..., ...) are ignored

A SIZE takes K, M, G or T (powers of 1024), a TIME ms, s, m or h (a bare number: seconds).

To unmount: fusermount3 -u MOUNTPOINT, or umount MOUNTPOINT.
)";
}

std::string version_text() { return "cookiefs " COOKIEFS_VERSION "\n"; }

}  // namespace fusefs
