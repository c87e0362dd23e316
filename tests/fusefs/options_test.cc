#include "fusefs/options.h"

#include <catch2/catch.hpp>
#include <initializer_list>
#include <string>
#include <vector>

using fusefs::Options;
using fusefs::ReaddirPlus;
using Specs = fusefs::BackendOptionSpec;

namespace {

std::string wrong_count(const std::string& value) { return value == "4" ? "" : "not a count"; }

constexpr Specs kSpecs[] = {
    {.name = "nconnect",
     .example = "nconnect=4",
     .value = Specs::Value::kRequired,
     .wrong = wrong_count},
    {.name = "soft", .example = "soft", .value = Specs::Value::kNone},
    {.name = "uid", .example = "uid=1000"},
};

// Only sources of this scheme have options.
fusefs::BackendOptionSpecs specs_of(const std::string& source) {
  if (source.starts_with("own:")) return kSpecs;
  return {};
}

struct Parsed {
  bool ok = false;
  Options options;
  std::string error;
};

Parsed parse_as(const char* program, std::initializer_list<const char*> arguments) {
  std::vector<const char*> argv = {program};
  argv.insert(argv.end(), arguments);
  const int argc = static_cast<int>(argv.size());
  argv.push_back(nullptr);
  Parsed parsed;
  parsed.ok = fusefs::parse_options(argc, argv.data(), specs_of, &parsed.options, &parsed.error);
  CHECK(parsed.ok == parsed.error.empty());
  CHECK(parsed.error.find('\n') == std::string::npos);
  return parsed;
}

Parsed parse(std::initializer_list<const char*> arguments) {
  return parse_as("cookiefs", arguments);
}

// With SOURCE and MOUNTPOINT in front.
Parsed with(const char* list) { return parse({"sim:big=10", "/mnt", "-o", list}); }

std::string error_of(const char* list) { return with(list).error; }

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("a source and a mount point are enough") {
  const Parsed parsed = parse({"sim:big=10,rtt=1ms", "/mnt"});
  REQUIRE(parsed.ok);
  CHECK(parsed.options.source == "sim:big=10,rtt=1ms");
  CHECK(parsed.options.mountpoint == "/mnt");
  CHECK_FALSE(parsed.options.foreground);
  CHECK(parsed.options.cache_size == uint64_t{256} << 20);
  CHECK(parsed.options.cache_min == uint64_t{16} << 20);
  CHECK(parsed.options.ttl == std::chrono::seconds(3));
  CHECK(parsed.options.fuse_args.empty());
}

TEST_CASE("flags stand before, between and after the positionals") {
  for (const Parsed& parsed :
       {parse({"-f", "-s", "a", "/m", "-o", "ttl=0"}), parse({"a", "-fs", "/m", "-ottl=0"}),
        parse({"-sfottl=0", "a", "/m"}), parse({"-o", "ttl=0", "a", "-s", "/m", "-f"})}) {
    REQUIRE(parsed.ok);
    CHECK(parsed.options.source == "a");
    CHECK(parsed.options.mountpoint == "/m");
    CHECK(parsed.options.foreground);
    CHECK(parsed.options.single_thread);
    CHECK(parsed.options.ttl.count() == 0);
  }
}

TEST_CASE("after -- everything is positional") {
  const Parsed parsed = parse({"-f", "--", "-odd", "-o"});
  REQUIRE(parsed.ok);
  CHECK(parsed.options.source == "-odd");
  CHECK(parsed.options.mountpoint == "-o");
}

TEST_CASE("debug includes the foreground, however it is spelt") {
  for (const Parsed& parsed :
       {parse({"-d", "a", "/m"}), parse({"--debug", "a", "/m"}), parse({"a", "/m", "-odebug"})}) {
    REQUIRE(parsed.ok);
    CHECK(parsed.options.debug);
    CHECK(parsed.options.foreground);
    CHECK(parsed.options.fuse_args.empty());
  }
}

TEST_CASE("help and version need no positionals") {
  CHECK(parse({"-h"}).options.show_help);
  CHECK(parse({"--help"}).options.show_help);
  CHECK(parse({"-V"}).options.show_version);
  CHECK(parse({"--version", "a"}).options.show_version);
  CHECK(fusefs::help_text().find("cache_size=SIZE") != std::string::npos);
  CHECK(fusefs::version_text().starts_with("cookiefs "));
}

TEST_CASE("our own options take units") {
  const Parsed parsed = with(
      "cache_size=1GiB,cache_min=512M,ttl=1.5s,timeout=500ms,log_level=debug,"
      "max_threads=8,readdirplus=no");
  REQUIRE(parsed.ok);
  CHECK(parsed.options.cache_size == uint64_t{1} << 30);
  CHECK(parsed.options.cache_min == uint64_t{512} << 20);
  CHECK(parsed.options.ttl == std::chrono::milliseconds(1500));
  CHECK(parsed.options.timeout == std::chrono::milliseconds(500));
  CHECK(parsed.options.log_level == "debug");
  CHECK(parsed.options.max_threads == 8);
  CHECK(parsed.options.readdirplus == ReaddirPlus::kNever);
  CHECK(with("readdirplus=yes").options.readdirplus == ReaddirPlus::kAlways);
  CHECK(with("readdirplus=auto").options.readdirplus == ReaddirPlus::kAuto);
}

TEST_CASE("the last of a repeated option counts") {
  CHECK(parse({"a", "/m", "-ottl=1", "-ottl=2,ttl=7"}).options.ttl == std::chrono::seconds(7));
}

TEST_CASE("what mount.fuse3 and fstab pass is taken") {
  const Parsed parsed = with(
      "rw,noexec,nosuid,nodev,ttl=0,defaults,noauto,user,users,user=joe,nofail,_netdev,relatime,"
      "x-systemd.automount,x-gvfs-name=a,comment=any thing,nonempty");
  REQUIRE(parsed.ok);
  CHECK(parsed.options.fuse_args == Strings{"-orw", "-onoexec", "-onosuid", "-onodev"});
}

TEST_CASE("words of FUSE are passed on, with their commas escaped again") {
  const Parsed parsed = with(
      "allow_other,default_permissions,fsname=a\\,b\\\\c,subtype=x,max_read=65536,auto_unmount,");
  REQUIRE(parsed.ok);
  CHECK(parsed.options.allow_other);
  CHECK(parsed.options.default_permissions);
  CHECK(parsed.options.fuse_args == Strings{"-oallow_other", "-odefault_permissions",
                                            "-ofsname=a\\,b\\\\c", "-osubtype=x",
                                            "-omax_read=65536", "-oauto_unmount"});
  CHECK(parsed.options.max_read == 65536);
  CHECK(with("allow_root").options.allow_other);
}

TEST_CASE("sizes that can't work are refused with one that does") {
  CHECK(error_of("cache_size=0") == "cache_size=0: a cache needs at least 1M; try cache_size=64M");
  CHECK(error_of("cache_size=1023k") ==
        "cache_size=1023k: a cache needs at least 1M; try cache_size=64M");
  CHECK(error_of("cache_size=abc") == "cache_size=abc: not a size; try cache_size=64M");
  CHECK(error_of("cache_size=-1") == "cache_size=-1: not a size; try cache_size=64M");
  CHECK(error_of("cache_size=") == "cache_size=: needs a value; try cache_size=64M");
  CHECK(error_of("cache_size") == "cache_size: needs a value; try cache_size=64M");
  CHECK(error_of("cache_min=0") == "cache_min=0: a cache needs at least 1M; try cache_min=16M");
  CHECK(error_of("cache_size=64M,cache_min=128M") ==
        "cache_min=128M: more than cache_size=64M; try cache_min=64M or less");
  CHECK(with("cache_size=1M,cache_min=1M").ok);
}

TEST_CASE("a size of auto is a quarter of the tightest memory") {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  const auto chosen = [](const char* words, const std::vector<cache::MemoryRoom>& rooms) {
    Parsed parsed = with(words);
    REQUIRE(parsed.ok);
    fusefs::choose_cache_size(rooms, &parsed.options);
    return parsed.options;
  };
  const cache::MemoryRoom machine = {.limit = 24'000 * kMiB + 4095, .free = kMiB};
  const cache::MemoryRoom group = {.limit = 128 * kMiB, .free = 0};
  CHECK(chosen("cache_size=auto", {machine}).cache_size == 6'000 * kMiB);
  CHECK(chosen("cache_size=auto", {group, machine}).cache_size == 32 * kMiB);
  CHECK(chosen("cache_size=auto", {group, machine}).cache_min == 8 * kMiB);
  CHECK(chosen("cache_size=auto", {{.limit = 2 * kMiB, .free = 0}}).cache_size == kMiB);
  CHECK(chosen("cache_size=auto", {{.limit = uint64_t{1} << 60, .free = 0}}).cache_size ==
        fusefs::kMaxAutoCacheSize);
  CHECK(chosen("cache_size=auto", {}).cache_size == 256 * kMiB);
  // A floor that was given stays, up to the size.
  CHECK(chosen("cache_min=20M,cache_size=auto", {group}).cache_min == 20 * kMiB);
  CHECK(chosen("cache_min=1G,cache_size=auto", {group}).cache_min == 32 * kMiB);
  CHECK(chosen("cache_size=auto,cache_size=64M", {group}).cache_size == 64 * kMiB);
  CHECK(error_of("cache_size=automatic") == "cache_size=automatic: not a size; try cache_size=64M");
}

TEST_CASE("a small cache has a small floor unless told otherwise") {
  CHECK(with("cache_size=8M").options.cache_min == uint64_t{2} << 20);
  CHECK(with("cache_size=1M").options.cache_min == uint64_t{1} << 20);
  CHECK(with("cache_size=4G").options.cache_min == uint64_t{16} << 20);
  CHECK(with("cache_min=16M,cache_size=20M").options.cache_min == uint64_t{16} << 20);
}

TEST_CASE("close=") {
  CHECK(with("ttl=1s").options.close_waits);
  CHECK(with("close=nowait,close=wait").options.close_waits);
  CHECK_FALSE(with("close=nowait").options.close_waits);
}

TEST_CASE("other values that can't work are refused") {
  CHECK(error_of("ttl=soon") == "ttl=soon: not a time; try ttl=3s");
  CHECK(error_of("timeout=0") ==
        "timeout=0: the remote needs some time to answer; try timeout=60s");
  CHECK(error_of("walk_ahead=-1") == "walk_ahead=-1: not a number; try walk_ahead=256");
  CHECK(error_of("walk_ahead=4097") ==
        "walk_ahead=4097: not between 0 and 4096; try walk_ahead=256");
  CHECK(error_of("max_threads=0") == "max_threads=0: not between 1 and 1024; try max_threads=64");
  CHECK(error_of("max_threads=4294967297") ==
        "max_threads=4294967297: not between 1 and 1024; try max_threads=64");
  CHECK(error_of("readdirplus=maybe") ==
        "readdirplus=maybe: not one of yes, no, auto; try readdirplus=auto");
  CHECK(error_of("kernel_listings=auto") ==
        "kernel_listings=auto: not one of yes, no; try kernel_listings=no");
  CHECK(error_of("close=yes") == "close=yes: not one of wait, nowait; try close=wait");
  CHECK(error_of("log_level=loud").starts_with("log_level=loud: not one of trace, debug"));
  CHECK(error_of("writeback_cache=yes") ==
        "writeback_cache=yes: takes no value; try writeback_cache");
  CHECK(with("writeback_cache").options.writeback_cache);
  CHECK(with("writeback_cache").options.fuse_args.empty());
  CHECK(error_of("ro=1") == "ro=1: takes no value; try ro");
  CHECK(error_of("fsname") == "fsname: needs a value; try fsname=...");
  for (const std::string value : {"1M", "0", "4095", "4294967296", "-1"}) {
    CHECK(error_of(("max_read=" + value).c_str()) ==
          "max_read=" + value + ": not a number of bytes from 4096 on; try max_read=131072");
  }
}

TEST_CASE("metrics= takes a port, and an address in front of it") {
  const auto metrics = [](const std::string& value) {
    const Parsed parsed = with(("metrics=" + value).c_str());
    REQUIRE(parsed.error.empty());
    return parsed.options.metrics->host + " " + std::to_string(parsed.options.metrics->port);
  };
  CHECK(metrics("9478") == "127.0.0.1 9478");
  CHECK(metrics("0") == "127.0.0.1 0");
  CHECK(metrics("localhost:1") == "127.0.0.1 1");
  CHECK(metrics("0.0.0.0:65535") == "0.0.0.0 65535");
  CHECK(metrics("[::1]:9478") == "::1 9478");
  for (const std::string value :
       {":9478", "::1:9478", "[127.0.0.1]:1", "[::1]", "a.example:1", "1.2:1"}) {
    CHECK(error_of(("metrics=" + value).c_str()) ==
          "metrics=" + value + ": not PORT, ADDRESS:PORT or [ADDRESS]:PORT, with an address in " +
              "digits; try metrics=127.0.0.1:9478");
  }
  for (const std::string value : {"65536", "-1", "127.0.0.1:", "[::1]:x"}) {
    CHECK(error_of(("metrics=" + value).c_str()) ==
          "metrics=" + value + ": not a port between 0 and 65535; try metrics=127.0.0.1:9478");
  }
}

TEST_CASE("an unknown option is named, with the nearest known one") {
  CHECK(error_of("cachesize=64M") == "cachesize: unknown option; did you mean cache_size=64M?");
  CHECK(error_of("alow_other") == "alow_other: unknown option; did you mean allow_other?");
  CHECK(error_of("reconnect") ==
        "reconnect: unknown option; `cookiefs --help` lists what is known");
  CHECK(error_of("uid=1000").starts_with("uid: not an option of cookiefs"));
  CHECK(error_of("attr_timeout=5").find("try ttl=3s") != std::string::npos);
  CHECK(parse({"-x", "a", "/m"}).error.starts_with("-x: unknown option"));
  CHECK(parse({"--cache_size=64M", "a", "/m"}).error ==
        "--cache_size=64M: unknown option; did you mean -o cache_size=64M?");
  CHECK(parse({"--hepl"}).error == "--hepl: unknown option; did you mean --help?");
  CHECK(error_of(std::string(100000, 'a').c_str()).ends_with("lists what is known"));
}

TEST_CASE("what the source's back end knows is handed to it, in order") {
  const Parsed parsed =
      parse({"-o", "nconnect=4,soft,ttl=0,rw,_netdev", "own:x", "/m", "-o", "soft,uid=5\\,6"});
  INFO(parsed.error);
  REQUIRE(parsed.ok);
  CHECK(parsed.options.backend_options ==
        fusefs::BackendOptions{
            {"nconnect", "4"}, {"soft", std::nullopt}, {"soft", std::nullopt}, {"uid", "5,6"}});
  CHECK(parsed.options.fuse_args == Strings{"-orw"});
  CHECK(parse_as("mount.fuse.cookiefs", {"own:x", "/m", "-o", "rw,soft"}).ok);
}

TEST_CASE("wrong options of a back end: one line that says what would be right") {
  const auto own_error = [](const char* list) { return parse({"own:x", "/m", "-o", list}).error; };
  CHECK(own_error("nconnect=many") == "nconnect=many: not a count; try nconnect=4");
  CHECK(own_error("nconnect") == "nconnect: needs a value; try nconnect=4");
  CHECK(own_error("soft=1") == "soft=1: takes no value; try soft");
  CHECK(own_error("nconect=4") == "nconect: unknown option; did you mean nconnect=4?");
  CHECK(own_error("elephant") ==
        "elephant: unknown option; this source knows nconnect=4, soft, uid=1000; "
        "`cookiefs --help` lists what is known");
  CHECK(error_of("nconnect=4").starts_with("nconnect: unknown option"));
}

TEST_CASE("positionals that are missing, empty or too many are named") {
  const std::string usage = "; usage: cookiefs [options] SOURCE MOUNTPOINT";
  CHECK(parse({}).error == "SOURCE and MOUNTPOINT are missing" + usage);
  CHECK(parse({"a"}).error == "MOUNTPOINT is missing after 'a'" + usage);
  CHECK(parse({"a", "/m", "c"}).error == "'c' is one argument too many" + usage);
  CHECK(parse({"", "/m"}).error == "SOURCE is empty" + usage);
  CHECK(parse({"a", ""}).error == "MOUNTPOINT is empty" + usage);
  CHECK(parse({"a", "/m", "-o"}).error.starts_with("-o: needs an option after it"));
}

TEST_CASE("an empty argument vector is an error, not a crash") {
  Options options;
  std::string error;
  const char* const argv[] = {nullptr};
  CHECK_FALSE(fusefs::parse_options(0, argv, specs_of, &options, &error));
}

TEST_CASE("called as mount.fuse.cookiefs it takes mount's own flags") {
  const Parsed parsed = parse_as("/sbin/mount.fuse.cookiefs",
                                 {"a", "/m", "-n", "-v", "-s", "-o", "ro", "-t", "fuse.cookiefs"});
  REQUIRE(parsed.ok);
  CHECK_FALSE(parsed.options.single_thread);
  CHECK_FALSE(parsed.options.foreground);
  CHECK(parsed.options.fuse_args == Strings{"-oro"});
  CHECK(parse_as("mount.fuse.cookiefs", {"a", "/m", "-f"}).options.check_only);
  CHECK(parse_as("mount.cookiefs", {"a", "/m", "-fnv"}).options.check_only);
  CHECK(parse({"a", "/m", "-n"}).error.starts_with("-n: unknown option"));
}

TEST_CASE("called as mount.cookiefs it takes what mount passes on from fstab") {
  const Parsed parsed =
      parse_as("/sbin/mount.cookiefs",
               {"sim:big=10", "/m", "-o",
                "ro,noexec,nosuid,nodev,noatime,_netdev,nofail,noauto,user=joe,allow_other,ttl=5s,"
                "x-systemd.automount,x-systemd.idle-timeout=1min,nogroup,noowner,silent,nomand"});
  INFO(parsed.error);
  REQUIRE(parsed.ok);
  CHECK(parsed.options.ttl == std::chrono::seconds(5));
  CHECK(parsed.options.fuse_args ==
        Strings{"-oro", "-onoexec", "-onosuid", "-onodev", "-onoatime", "-oallow_other"});
}

TEST_CASE("called as a mount helper, -N names the namespace to mount in") {
  CHECK(parse_as("mount.cookiefs", {"a", "/m", "-N", "/proc/7/ns/mnt", "-o", "ro"})
            .options.mount_namespace == "/proc/7/ns/mnt");
  CHECK(parse_as("mount.cookiefs", {"a", "/m", "-nN/proc/7/ns/mnt"}).options.mount_namespace ==
        "/proc/7/ns/mnt");
  CHECK(parse_as("mount.cookiefs", {"a", "/m", "-N"}).error ==
        "-N: needs a namespace after it; try -N /proc/1/ns/mnt");
  CHECK(parse({"-N", "/proc/7/ns/mnt", "a", "/m"}).error.starts_with("-N: unknown option"));
}

TEST_CASE("called as a mount helper, -s skips options that nobody knows, not wrong values") {
  const Parsed parsed = parse_as("mount.cookiefs", {"own:x", "/m", "-s", "-o", "elephant,soft"});
  REQUIRE(parsed.ok);
  CHECK(parsed.options.backend_options == fusefs::BackendOptions{{"soft", std::nullopt}});
  CHECK(parse_as("mount.cookiefs", {"own:x", "/m", "-s", "-o", "nconnect=many"})
            .error.starts_with("nconnect=many: not a count"));
  CHECK_FALSE(parse_as("mount.cookiefs", {"own:x", "/m", "-o", "elephant"}).ok);
}
