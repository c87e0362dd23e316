// NFS through the whole daemon: large listings, changes by another client, servers and networks
// that come and go.

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "tests/nfs/nfs_writer.h"
#include "tests/support/delay_proxy.h"
#include "tests/support/ganesha.h"
#include "tests/support/mount.h"
#include "tests/support/random.h"
#include "tests/support/raw_listing.h"

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Child;
using test::DelayProxy;
using test::differences;
using test::Ganesha;
using test::list;
using test::Mount;
using test::NfsWriter;
using test::Others;
using test::put_file;
using test::RawDir;
using test::RawEntry;
using test::wait_until;

namespace {

Ganesha& mount_server() {
  static Ganesha instance;
  return instance;
}

std::string file_name(uint64_t i) {
  std::string number = std::to_string(i);
  return "file_" + std::string(12 - number.size(), '0') + number;
}

std::vector<std::string> make_files(const std::string& directory, uint64_t count) {
  std::filesystem::create_directories(directory);
  std::vector<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    names.push_back(file_name(i));
    put_file(directory + "/" + names.back());
  }
  return names;
}

// A directory of the export /plain, filled once: many answers, and many arrays, long.
constexpr size_t kMany = 30'000;
const std::vector<std::string>& many_names() {
  static const std::vector<std::string> names =
      make_files(mount_server().directory("plain") + "/many", kMany);
  return names;
}

DelayProxy::Options proxy_options(std::chrono::nanoseconds rtt) {
  return {.target_host = "127.0.0.1",
          .target_port = mount_server().nfs_port(),
          .listen_port = 0,
          .rtt = rtt,
          .seed = 1};
}

seconds long_cut() {
  // The gate's patience is shorter than a network's; COOKIEFS_NFS_CUT=60 is the whole.
  const char* const given = std::getenv("COOKIEFS_NFS_CUT");
  return seconds(given != nullptr ? std::atoi(given) : 8);
}

}  // namespace

TEST_CASE("many entries: each once, by both versions, with attributes and without", "[mount]") {
  const std::string version = GENERATE("3", "4");
  const std::string plus = GENERATE("no", "yes");
  INFO("version " << version << ", readdirplus=" << plus);
  const auto& names = many_names();
  Mount mount(mount_server().url("/plain", 0, version), "readdirplus=" + plus);
  CHECK(differences(list(mount / "many"), names).empty());
  CHECK(differences(list(mount / "many"), names).empty());
  CHECK(mount.figure("remote.errors") == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("many more entries than the cache has room for, once each", "[mount]") {
  const size_t count = test::kSanitized ? 50'000 : 200'000;
  const auto names = make_files(mount_server().directory("plain") + "/m1", count);
  {
    Mount mount(mount_server().url("/plain"), "cache_size=2M");
    CHECK(differences(list(mount / "m1"), names).empty());
    CHECK(mount.figure("reclaim.pages") > 0);
    CHECK(mount.end() == "");
  }
  std::filesystem::remove_all(mount_server().directory("plain") + "/m1");
}

TEST_CASE("a listing with attributes is few requests, and what it told needs none", "[mount]") {
  many_names();
  const DelayProxy proxy(proxy_options(milliseconds(10)));
  Mount mount(mount_server().url("/plain", proxy.port()), "readdirplus=yes,ttl=1h,cache_size=512M");
  REQUIRE(list(mount / "many").size() == kMany + 2);
  const int64_t after_listing = mount.figure("remote.requests");
  // A request for each thousand entries would be thirty.
  CHECK(after_listing < 25);
  for (uint64_t i = 0; i < 1000; ++i) {
    struct stat status {};
    REQUIRE(stat((mount / ("many/" + file_name(i * 29))).c_str(), &status) == 0);
    REQUIRE(S_ISREG(status.st_mode));
  }
  CHECK(mount.figure("remote.requests") - after_listing < 100);
  CHECK(mount.end() == "");
}

// As find does: what has no type is asked about. The number of files.
size_t files_below(const std::string& path) {
  size_t files = 0;
  for (const auto& entry : list(path)) {
    if (entry.name == "." || entry.name == "..") continue;
    struct stat status {};
    if (entry.type == DT_UNKNOWN) REQUIRE(lstat((path + "/" + entry.name).c_str(), &status) == 0);
    const bool directory = entry.type == DT_DIR || S_ISDIR(status.st_mode);
    files += directory ? files_below(path + "/" + entry.name) : 1;
  }
  return files;
}

TEST_CASE("a walk through 500 directories waits for few of them", "[mount]") {
  const std::string version = GENERATE("3", "4");
  INFO("version " << version);
  const std::string top = mount_server().directory("plain") + "/walk" + version;
  for (int i = 0; i < 500; ++i) make_files(top + "/d" + std::to_string(i), 3);
  // Directories that have just changed are not trusted for long.
  std::this_thread::sleep_for(std::chrono::seconds(2));
  {
    const DelayProxy proxy(proxy_options(milliseconds(3)));
    Mount mount(mount_server().url("/plain", proxy.port(), version), "ttl=1h");
    CHECK(files_below(mount / ("walk" + version)) == 1500);
    CHECK(mount.figure("walk_ahead.fetched") >= 400);
    CHECK(mount.figure("walk_ahead.wasted") == 0);
    CHECK(mount.figure("readdir.misses") <= 60);
    CHECK(mount.end() == "");
  }
  std::filesystem::remove_all(top);
}

// What is fetched ahead goes by the handle, which a renamed directory keeps: that its attributes
// are young says nothing of its name.
TEST_CASE(
    "a name that was gone for longer than ttl is gone, though its directory was fetched ahead",
    "[mount]") {
  const std::string top = mount_server().directory("plain") + "/renamed";
  for (int i = 100; i < 140; ++i) make_files(top + "/d" + std::to_string(i), 1);
  {
    Mount mount(mount_server().url("/plain"), "ttl=1s,readdirplus=yes");
    std::vector<std::string> names;  // in the order of the listing
    for (const auto& entry : list(mount / "renamed")) {
      if (entry.name[0] == 'd') names.push_back(entry.name);
    }
    REQUIRE(names.size() == 40);
    const std::string gone = names[7];
    // From the open directory, as fts does it: nothing asks for the directory itself on the way.
    test::RawDir open(mount / "renamed");
    const std::string here = "/proc/self/fd/" + std::to_string(open.fd()) + "/";
    std::filesystem::rename(top + "/" + gone, top + "/moved");
    std::this_thread::sleep_for(milliseconds(1300));
    for (size_t i = 0; i < 6; ++i) CHECK(list(here + names[i]).size() == 1 + 2);
    CHECK(mount.figure("walk_ahead.fetched") > 0);
    struct stat status {};
    CHECK(stat((here + gone).c_str(), &status) != 0);
    CHECK(stat((here + "moved").c_str(), &status) == 0);
    open.close();
    CHECK(mount.end() == "");
  }
  std::filesystem::remove_all(top);
}

TEST_CASE("a small file is written, and made durable, in one request", "[mount]") {
  const std::string version = GENERATE("3", "4");
  const std::string path = mount_server().directory("plain") + "/small" + version;
  {
    Mount mount(mount_server().url("/plain", 0, version));
    const int fd = open((mount / ("small" + version)).c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, "first", 5) == 5);
    CHECK(fsync(fd) == 0);
    CHECK(test::text_of(path) == "first");
    REQUIRE(write(fd, " second", 7) == 7);
    CHECK(close(fd) == 0);
    CHECK(test::text_of(path) == "first second");
    CHECK(mount.figure("data.writes") == 2);
    CHECK(mount.figure("data.commits") == 0);
    CHECK(mount.end() == "");
  }
  std::filesystem::remove(path);
}

TEST_CASE("cookies at and above 2^63: a directory in the server's memory", "[mount]") {
  const std::string version = GENERATE("3", "4");
  NfsWriter writer(mount_server().url("/mem"));
  const std::string name = "mem" + version;
  writer.mkdir("/" + name);
  std::vector<std::string> names;
  for (uint64_t i = 0; i < 3000; ++i) {
    names.push_back(file_name(i));
    writer.create("/" + name + "/" + names.back());
  }
  {
    Mount mount(mount_server().url("/mem", 0, version));
    for (const size_t buffer : {500u, 32768u}) {
      CHECK(differences(list(mount / name, buffer), names).empty());
    }
    // Places that a program keeps are valid over an eviction.
    std::vector<RawEntry> half;
    RawDir dir(mount / name);
    while (half.size() < 1500) REQUIRE(dir.read(4096, &half) > 0);
    REQUIRE(mount.drop() >= 0);
    std::vector<RawEntry> rest;
    REQUIRE(dir.read_all(4096, &rest) == 0);
    half.insert(half.end(), rest.begin(), rest.end());
    CHECK(differences(half, names).empty());
    dir.close();
    CHECK(mount.end() == "");
  }
}

TEST_CASE("changes by another client during listings: what stays is listed once", "[mount]") {
  const std::string exported = GENERATE("plain", "strict");
  const std::string directory = mount_server().directory(exported) + "/churn";
  std::filesystem::remove_all(directory);
  const std::vector<std::string> names = make_files(directory, 5000);
  Mount mount(mount_server().url("/" + exported), "ttl=0");
  NfsWriter writer(mount_server().url("/" + exported));
  for (int round = 0; round < 5; ++round) {
    std::vector<RawEntry> entries;
    RawDir dir(mount / "churn");
    uint64_t made = 0;
    int result = 1;
    while ((result = dir.read(16384, &entries)) > 0) {
      // Others come and go between any two reads.
      const std::string extra = "/churn/extra_" + std::to_string(made++ % 7);
      if (!writer.unlink(extra)) writer.create(extra);
      if (made % 3 == 0) mount.drop();
    }
    INFO(exported << ", round " << round << ": " << std::strerror(-result));
    CHECK(result == 0);
    CHECK(differences(entries, names, Others::kAtMostOnce).empty());
  }
  CHECK(mount.end() == "");
}

TEST_CASE("a change by another client shows at the next opening, once ttl is over", "[mount]") {
  std::filesystem::create_directories(mount_server().directory("plain") + "/fresh");
  NfsWriter writer(mount_server().url("/plain"));
  Mount mount(mount_server().url("/plain"), "ttl=0");
  CHECK(differences(list(mount / "fresh"), {}).empty());
  writer.create("/fresh/a");
  CHECK(differences(list(mount / "fresh"), {"a"}).empty());
  writer.create("/fresh/b");
  CHECK(differences(list(mount / "fresh"), {"a", "b"}).empty());
  writer.unlink("/fresh/a");
  CHECK(differences(list(mount / "fresh"), {"b"}).empty());
  writer.unlink("/fresh/b");
  CHECK(mount.end() == "");
}

TEST_CASE("the server restarts in mid-listing: the listing goes on", "[mount]") {
  const std::string version = GENERATE("3", "4");
  Ganesha own;
  const std::vector<std::string> names = make_files(own.directory("plain") + "/many", 20000);
  Mount mount(own.url("/plain", 0, version), "cache_size=2M");
  std::vector<RawEntry> entries;
  RawDir dir(mount / "many");
  while (entries.size() < 5000) REQUIRE(dir.read(8192, &entries) > 0);
  own.restart();
  REQUIRE(mount.drop() >= 0);
  CHECK(dir.read_all(8192, &entries) == 0);
  CHECK(differences(entries, names).empty());
  dir.close();
  CHECK(mount.end() == "");
}

TEST_CASE("the server is away while a listing waits: hard goes on when it is back", "[mount]") {
  Ganesha own;
  const std::vector<std::string> names = make_files(own.directory("plain") + "/many", 5000);
  Mount mount(own.url("/plain"), "timeout=2m");
  own.stop();
  Child lister([&] {
    std::vector<RawEntry> entries;
    RawDir dir(mount / "many");
    if (dir.read_all(32768, &entries) != 0) return 1;
    return differences(entries, names).empty() ? 0 : 2;
  });
  REQUIRE(wait_until([&] { return mount.figure("remote.inflight") > 0; }));
  CHECK(lister.running());
  own.start();
  CHECK(lister.wait(seconds(60)) == 0);
  CHECK(mount.end() == "");
}

namespace {

enum class Break : uint8_t { kCut, kStall };

// A listing whose network is away from its middle on.
struct Interrupted {
  Interrupted(Break how, seconds length)
      : away(length),
        proxy(proxy_options(milliseconds(1))),
        mount(mount_server().url("/plain", proxy.port()), "timeout=5m,timeo=20,cache_size=2M"),
        dir(mount / "many") {
    while (entries.size() < kMany / 5) REQUIRE(dir.read(32768, &entries) > 0);
    how == Break::kCut ? proxy.cut() : proxy.stall();
    REQUIRE(mount.drop() >= 0);
    network = std::thread([this] {
      std::this_thread::sleep_for(away);  // what is tested: time without a network
      proxy.resume();
    });
    lister = std::thread([this] { result = dir.read_all(32768, &entries); });
  }
  ~Interrupted() {
    if (network.joinable()) network.join();
    if (lister.joinable()) lister.join();
  }
  Interrupted(const Interrupted&) = delete;
  Interrupted& operator=(const Interrupted&) = delete;

  const seconds away;
  DelayProxy proxy;
  Mount mount;
  RawDir dir;
  std::vector<RawEntry> entries;
  int result = 1;
  std::thread network, lister;
};

}  // namespace

TEST_CASE("hard: a network away for a second, five, and long is waited for", "[mount]") {
  many_names();
  std::vector<std::unique_ptr<Interrupted>> all;  // side by side
  for (const seconds away : {seconds(1), seconds(5), long_cut()}) {
    for (const Break how : {Break::kCut, Break::kStall}) {
      all.push_back(std::make_unique<Interrupted>(how, away));
    }
  }
  for (const auto& one : all) {
    INFO(one->away.count() << " s");
    one->network.join();
    one->lister.join();
    CHECK(one->result == 0);
    CHECK(differences(one->entries, many_names()).empty());
    one->dir.close();
    CHECK(one->mount.end() == "");
  }
}

TEST_CASE("soft: a network away is an error, and the listing goes on from there when it is back",
          "[mount]") {
  const Break how = GENERATE(Break::kCut, Break::kStall);
  many_names();
  DelayProxy proxy(proxy_options(milliseconds(1)));
  Mount mount(mount_server().url("/plain", proxy.port()), "soft,timeo=10,retrans=1,cache_size=2M");
  std::vector<RawEntry> entries;
  RawDir dir(mount / "many");
  int result = 1;
  // A machine with other work is a remote that is away, as far as so short a timeout can tell.
  const auto some_more = [&] { return (result = dir.read(32768, &entries)) > 0; };
  while (entries.size() < kMany / 5) REQUIRE(wait_until(some_more));
  how == Break::kCut ? proxy.cut() : proxy.stall();
  REQUIRE(mount.drop() >= 0);
  while (result > 0) result = dir.read(32768, &entries);
  CHECK(result == -ETIMEDOUT);
  CHECK(entries.size() < kMany);
  struct stat status {};
  CHECK(stat((mount / "none").c_str(), &status) == -1);
  CHECK(errno == ETIMEDOUT);
  proxy.resume();
  while (result != 0) {
    REQUIRE(wait_until([&] { return some_more() || result == 0; }));
  }
  CHECK(differences(entries, many_names()).empty());
  dir.close();
  CHECK(mount.end() == "");
}

TEST_CASE("a lister on a dead network can be killed, and the mount be unmounted", "[mount]") {
  DelayProxy proxy(proxy_options(milliseconds(1)));
  Mount mount(mount_server().url("/plain", proxy.port()), "timeout=1h");
  proxy.stall();
  Child lister([&] {
    std::vector<RawEntry> entries;
    RawDir dir(mount.path());
    return -dir.read_all(4096, &entries);
  });
  REQUIRE(wait_until([&] { return mount.figure("remote.inflight") > 0; }));
  lister.signal(SIGKILL);
  const auto status = lister.wait(seconds(20));
  REQUIRE(status);
  CHECK(WIFSIGNALED(*status));
  CHECK(mount.end() == "");
}

TEST_CASE("a file that is closed while it is being hidden leaves nothing behind", "[mount]") {
  // Version 3 forgets what is unlinked: it gets another name, until its last close.
  const std::string directory = mount_server().directory("plain") + "/hidden";
  std::filesystem::create_directories(directory);
  put_file(directory + "/file");
  DelayProxy proxy(proxy_options(milliseconds(1)));
  Mount mount(mount_server().url("/plain/hidden", proxy.port()), "ttl=1h");
  const int fd = open((mount / "file").c_str(), O_RDONLY);
  REQUIRE(fd >= 0);
  // Who has the listing need not ask which file the name leads to.
  CHECK(!list(mount.path()).empty());
  proxy.stall();
  int removed = -1;
  std::thread remover([&] { removed = unlink((mount / "file").c_str()); });
  const bool renaming = wait_until([&] { return mount.figure("remote.inflight") > 0; });
  close(fd);
  // Of the last close the daemon is told some time after; if it is not by now, this tests nothing.
  std::this_thread::sleep_for(milliseconds(100));
  proxy.resume();
  remover.join();
  CHECK(renaming);
  CHECK(removed == 0);
  CHECK(wait_until([&] { return std::filesystem::is_empty(directory); }));
  CHECK(mount.end() == "");
}

TEST_CASE("different directories are listed side by side when callers do", "[mount]") {
  const std::string tree = mount_server().directory("plain") + "/tree";
  for (int d = 0; d < 64; ++d) make_files(tree + "/dir" + std::to_string(d), 50);
  const DelayProxy proxy(proxy_options(milliseconds(20)));
  Mount mount(mount_server().url("/plain", proxy.port()));
  REQUIRE(list(mount / "tree").size() == 66);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      for (int d = t; d < 64; d += 16) {
        if (list(mount / ("tree/dir" + std::to_string(d))).size() != 52) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(mount.figure("remote.inflight_peak") >= 8);
  std::filesystem::remove_all(tree);
  CHECK(mount.end() == "");
}

TEST_CASE("callers are told apart through the mount", "[mount]") {
  const std::string directory = mount_server().directory("plain") + "/callers";
  std::filesystem::create_directories(directory);
  put_file(directory + "/own", "mine");
  REQUIRE(chown((directory + "/own").c_str(), 1000, 1000) == 0);
  REQUIRE(chmod((directory + "/own").c_str(), 0600) == 0);
  Mount mount(mount_server().url("/plain"), "allow_other");
  const auto opens_as = [&](uid_t uid) {
    Child child([&] {
      if (setgid(uid) != 0 || setuid(uid) != 0) return 99;
      const int fd = open((mount / "callers/own").c_str(), O_RDONLY | O_CLOEXEC);
      return fd >= 0 ? 0 : errno;
    });
    const auto status = child.wait();
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  };
  CHECK(opens_as(1000) == 0);
  CHECK(opens_as(1001) == EACCES);
  CHECK(opens_as(1000) == 0);
  CHECK(mount.end() == "");
}
