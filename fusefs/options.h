// The command line of cookiefs: `cookiefs [options] SOURCE MOUNTPOINT`.
//
// Purpose:  understands what users of sshfs type, `mount -t cookiefs` passes and fstab holds.
// Errors:   parse_options fills `error`, one line that says what is wrong and what would be right,
//           without the program's name in front.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/mm/pressure.h"
#include "fusefs/backends/backend_options.h"

namespace fusefs {

// Who keeps the locks of files.
enum class RemoteLocks : uint8_t { kWherePossible, kAlways, kNever };
enum class ReaddirPlus : uint8_t { kNever, kAuto, kAlways };

// Where a server listens.
struct ListenAddress {
  std::string host;   // an IPv4 or IPv6 address, without brackets
  uint16_t port = 0;  // 0: any that is free
};

struct Options {
  std::string source;
  std::string mountpoint;
  bool foreground = false;      // -f
  bool debug = false;           // -d: foreground, and libfuse's own tracing
  bool single_thread = false;   // -s
  bool show_help = false;       // -h
  bool show_version = false;    // -V
  bool check_only = false;      // `mount -f` through a mount helper: all but the mounting
  std::string mount_namespace;  // `mount -N` through mount.cookiefs: a file of it; empty: our own

  uint64_t cache_size = uint64_t{256} << 20;              // bytes, hard
  bool cache_size_auto = false;                           // choose_cache_size() is to set it
  uint64_t cache_min = uint64_t{16} << 20;                // bytes that pressure from outside leaves
  bool cache_min_given = false;                           // else a small cache has a smaller one
  std::chrono::nanoseconds ttl{std::chrono::seconds(3)};  // attributes and listings
  std::chrono::nanoseconds timeout{std::chrono::seconds(60)};  // for the remote to answer
  std::string log_level = "info";                              // spdlog's names
  uint32_t max_threads = 64;                                   // FUSE workers
  uint32_t walk_ahead = 256;  // directories fetched ahead of a walk
  ReaddirPlus readdirplus = ReaddirPlus::kAuto;
  bool writeback_cache = false;  // the kernel collects what programs write
  bool close_waits = true;       // until the remote has what was written
  RemoteLocks remote_locks = RemoteLocks::kWherePossible;
  bool kernel_listings = false;          // the kernel keeps listings too, beyond cache_size
  std::optional<ListenAddress> metrics;  // where Prometheus finds them, if anywhere

  // What is neither of the above nor of the below: options that the source's back end knows.
  BackendOptions backend_options;

  // What goes to libfuse / fusermount3 unchanged, each as "-oNAME[=VALUE]", with commas and
  // backslashes in VALUE escaped again. Holds default_permissions and allow_other too: the flags
  // below only tell the session that they are set. fsname= and subtype= only where the user gave
  // them.
  std::vector<std::string> fuse_args;
  bool default_permissions = false;
  bool allow_other = false;  // also set by allow_root, which includes it
  uint32_t max_read = 0;     // bytes; libfuse wants it again in INIT; 0: not given
};

// The smallest cache that can work: one array a worker, with its names.
constexpr uint64_t kMinCacheSize = uint64_t{1} << 20;

// The options that the back end of a source knows.
using SpecsOf = BackendOptionSpecs (*)(const std::string& source);

// True when `options` can be acted on (which includes -h and -V). A repeated option: the last one
// counts. Called as mount.cookiefs or mount.fuse.cookiefs it takes mount(8)'s helper flags: -f -n
// -s -v -N NAMESPACE -t TYPE. -s skips options that nobody knows.
bool parse_options(int argc, const char* const argv[], SpecsOf specs_of, Options* options,
                   std::string* error);

// Sets cache_size, and cache_min where it would be more, for cache_size=auto: a quarter of the
// tightest of `rooms` (the memory cgroups above this process, and the machine), in whole MiB, at
// least kMinCacheSize, at most kMaxAutoCacheSize. Without rooms, and for a size that was given,
// nothing changes.
constexpr uint64_t kMaxAutoCacheSize = uint64_t{8} << 30;
void choose_cache_size(const std::vector<cache::MemoryRoom>& rooms, Options* options);

std::string help_text();
std::string version_text();

}  // namespace fusefs
