// When changes made elsewhere are seen, and the control channel.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <thread>

#include "fusefs/control.h"
#include "tests/support/mount.h"
#include "tests/support/raw_listing.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

using test::Child;
using test::differences;
using test::list;
using test::Mount;
using test::put_file;
using test::RawDir;
using test::RawEntry;
using test::TempDir;
using test::wait_until;

namespace {

// 0, or why lstat failed.
int lstat_error(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 ? 0 : errno;
}

bool lists_exactly(const std::string& directory, const std::vector<std::string>& names) {
  return differences(list(directory), names).empty();
}

}  // namespace

TEST_CASE("traps 18 and 19: with ttl=0 a change elsewhere is seen at once") {
  TempDir source;
  fs::create_directory(source / "dir");
  put_file(source / "dir/stays");
  put_file(source / "dir/goes");
  for (const char* const plus : {"yes", "no", "auto"}) {
    const Mount mount(source.path(), std::string("ttl=0,readdirplus=") + plus);
    REQUIRE(lists_exactly(mount / "dir", {"stays", "goes"}));
    REQUIRE(lstat_error(mount / "dir/goes") == 0);
    REQUIRE(lstat_error(mount / "dir/comes") == ENOENT);
    put_file(source / "dir/comes");  // a name that is known to be absent
    put_file(source / "dir/unasked");
    REQUIRE(unlink((source / "dir/goes").c_str()) == 0);
    CHECK(lists_exactly(mount / "dir", {"stays", "comes", "unasked"}));
    CHECK(lstat_error(mount / "dir/goes") == ENOENT);
    CHECK(lstat_error(mount / "dir/comes") == 0);
    put_file(source / "dir/stays", "longer");
    CHECK(fs::file_size(mount / "dir/stays") == 6);
    put_file(source / "dir/stays");
    put_file(source / "dir/goes");
    fs::remove(source / "dir/comes");
    fs::remove(source / "dir/unasked");
    CHECK(lists_exactly(mount / "dir", {"stays", "goes"}));
  }
}

TEST_CASE("traps 18 and 19: a change elsewhere is seen after the ttl, in the kernel's caches too") {
  TempDir source;
  fs::create_directory(source / "dir");
  put_file(source / "dir/stays");
  put_file(source / "dir/goes");
  const Mount mount(source.path(), "ttl=300ms");
  REQUIRE(lists_exactly(mount / "dir", {"stays", "goes"}));
  REQUIRE(lstat_error(mount / "dir/goes") == 0);
  REQUIRE(lstat_error(mount / "dir/comes") == ENOENT);
  put_file(source / "dir/comes");
  put_file(source / "dir/unasked");  // never looked up
  REQUIRE(unlink((source / "dir/goes").c_str()) == 0);
  CHECK(wait_until([&] { return lists_exactly(mount / "dir", {"stays", "comes", "unasked"}); }));
  CHECK(wait_until([&] { return lstat_error(mount / "dir/goes") == ENOENT; }));
  CHECK(wait_until([&] { return lstat_error(mount / "dir/comes") == 0; }));
  CHECK(mount.figure("invalidations") > 0);
}

TEST_CASE("a listing that the kernel keeps is asked for again only when it changed") {
  TempDir source;
  fs::create_directory(source / "dir");
  put_file(source / "dir/stays");
  put_file(source / "dir/goes");
  const Mount mount(source.path(), "ttl=200ms,kernel_listings=yes");
  const auto list_all = [&](const std::vector<std::string>& names) {
    return lists_exactly(mount / "dir", names);
  };
  const auto calls_of_listing = [&] {
    const int64_t before = mount.figure("readdir.calls");
    REQUIRE(list_all({"stays", "goes"}));
    return mount.figure("readdir.calls") - before;
  };
  REQUIRE(calls_of_listing() > 0);
  // The token of a directory as young as this one was proves nothing when it is asked for again.
  REQUIRE(wait_until([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    return calls_of_listing() == 0;
  }));
  const int64_t calls = mount.figure("readdir.calls");
  for (int i = 0; i < 10; ++i) {
    // Also after ttl: the token is asked for then, the listing is not.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(calls_of_listing() == 0);
  }

  SECTION("a change elsewhere is seen after the ttl") {
    put_file(source / "dir/comes");
    REQUIRE(unlink((source / "dir/goes").c_str()) == 0);
    CHECK(wait_until([&] { return list_all({"stays", "comes"}); }));
  }
  SECTION("the same when nothing but the kernel has the listing any more") {
    REQUIRE(mount.drop() > 0);
    const auto before = fs::last_write_time(source / "dir");
    put_file(source / "dir/comes");
    REQUIRE(unlink((source / "dir/goes").c_str()) == 0);
    fs::last_write_time(source / "dir", before);  // which is all that the kernel compares itself
    CHECK(wait_until([&] { return list_all({"stays", "comes"}); }));
  }
  SECTION("what is told to be invalid is asked for") {
    REQUIRE(mount.invalidate(mount / "dir") >= 0);
    CHECK(list_all({"stays", "goes"}));
    CHECK(mount.figure("readdir.calls") > calls);
  }
}

TEST_CASE("a kept listing that grows and shrinks all the time is never seen older than ttl") {
  TempDir source;
  fs::create_directory(source / "dir");
  const Mount mount(source.path(), "ttl=20ms,kernel_listings=yes");
  for (int i = 0; i < 50; ++i) {
    const std::string name = "new-" + std::to_string(i);
    put_file(source / ("dir/" + name));
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
    REQUIRE(lists_exactly(mount / "dir", {name}));
    fs::remove(source / ("dir/" + name));
  }
}

TEST_CASE("trap 18: changes are told to the kernel while readers wait for that directory") {
  TempDir source;
  fs::create_directory(source / "dir");
  for (const std::string& name : test::big_names(500)) put_file(source / ("dir/" + name));
  const Mount mount(source.path(), "ttl=0,max_threads=4");
  std::vector<std::unique_ptr<Child>> listers;
  for (int i = 0; i < 6; ++i) {
    listers.push_back(std::make_unique<Child>([&mount] {
      std::vector<RawEntry> entries;
      for (;;) {
        RawDir dir;
        if (dir.open(mount / "dir") != 0 || dir.read_all(700, &entries) != 0) return 1;
        entries.clear();
      }
      return 0;
    }));
  }
  for (int i = 0; i < 200; ++i) {
    const std::string name = "dir/new-" + std::to_string(i);
    put_file(source / name);
    REQUIRE(lstat_error(mount / name) == 0);
    REQUIRE(mount.invalidate(mount / "dir") >= 0);
    if (i % 2 == 0) fs::remove(source / name);
  }
  for (const auto& lister : listers) CHECK(lister->running());
  listers.clear();
  CHECK(list(mount / "dir").size() == 500 + 100 + 2);
}

TEST_CASE("a listing is kept for its ttl, and forgotten when told to") {
  TempDir source;
  fs::create_directory(source / "dir");
  put_file(source / "dir/old");
  const Mount mount(source.path(), "ttl=1h");
  REQUIRE(lists_exactly(mount / "dir", {"old"}));
  REQUIRE(lists_exactly(mount.path(), {"dir"}));
  put_file(source / "dir/new");
  CHECK(lists_exactly(mount / "dir", {"old"}));  // within its time
  CHECK(mount.invalidate(mount / "dir") == 1);   // one array
  CHECK(lists_exactly(mount / "dir", {"old", "new"}));
  CHECK(mount.figure("pages.resident") == 2);
  CHECK(mount.drop() == 2);
  CHECK(mount.figure("pages.resident") == 0);
}

TEST_CASE("a walk that stats all it lists costs few requests a directory, again when all is old") {
  constexpr int64_t kDirectories = 20;
  constexpr int64_t kFiles = 50;
  const Mount mount("sim:tree=20x50", "ttl=2s");
  const auto walk = [&] {
    int64_t files = 0;
    for (const RawEntry& directory : list(mount / "tree")) {
      if (directory.name[0] == '.') continue;
      for (const RawEntry& file : list(mount / "tree/" + directory.name)) {
        if (file.name[0] == '.') continue;
        files += lstat_error(mount / "tree/" + directory.name + "/" + file.name) == 0 ? 1 : 0;
      }
    }
    return files;
  };
  const auto requests_of_walk = [&] {
    const auto before = mount.figure("remote.requests");
    CHECK(walk() == kDirectories * kFiles);
    return mount.figure("remote.requests") - before;
  };
  CHECK(requests_of_walk() < kDirectories * 10);
  for (int again = 0; again < 2; ++again) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2100));  // the ttl, which is the matter
    CHECK(requests_of_walk() < kDirectories * 10);
  }
}

TEST_CASE("listing and statting in turn takes longer than ttl: still no request an entry") {
  constexpr uint64_t kFiles = 4000;
  const Mount mount("sim:rtt=1ms,big=" + std::to_string(kFiles), "ttl=400ms");
  const auto start = std::chrono::steady_clock::now();
  std::vector<RawEntry> entries;
  RawDir dir(mount / "big");
  for (size_t i = 0; dir.read(32768, &entries) > 0;) {
    for (; i < entries.size(); ++i) {
      struct stat status {};
      REQUIRE(lstat((mount / ("big/" + entries[i].name)).c_str(), &status) == 0);
      if (i % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(8));
    }
  }
  CHECK(entries.size() == kFiles + 2);
  CHECK(std::chrono::steady_clock::now() - start > std::chrono::milliseconds(1200));
  INFO(mount.figure("remote.requests"));
  CHECK(mount.figure("remote.requests") < static_cast<int64_t>(kFiles) / 40);
}

TEST_CASE("READDIRPLUS does not link again what the kernel still has") {
  constexpr int64_t kFiles = 2000;
  const Mount mount("sim:big=2000", "readdirplus=yes,ttl=1h");
  const auto linked_by = [&](const auto& listing) {
    const int64_t before = mount.figure("inodes.linked");
    listing();
    return mount.figure("inodes.linked") - before;
  };
  const auto list_all = [&] { CHECK(list(mount / "big").size() == kFiles + 2); };
  CHECK(linked_by([&] {
          std::vector<RawEntry> entries;  // not to the end: nothing is known of the rest
          RawDir(mount / "big").read(4096, &entries);
        }) > 0);
  CHECK(linked_by(list_all) == kFiles);
  CHECK(linked_by(list_all) == 0);
  CHECK(mount.invalidate(mount / "big") > 0);
  CHECK(linked_by(list_all) == kFiles);
}

TEST_CASE("a long listing whose files are used comes with them, whatever was listed in between") {
  constexpr int64_t kFiles = 3000;
  const Mount mount("sim:big=3000,tree=100x1", "ttl=300ms");
  const auto list_and_stat = [&] {
    const int64_t before = mount.figure("inodes.linked");
    std::vector<RawEntry> entries;
    RawDir dir(mount / "big");
    for (size_t i = 0; dir.read(32768, &entries) > 0;) {
      for (; i < entries.size(); ++i) {
        REQUIRE(lstat_error(mount / ("big/" + entries[i].name)) == 0);
      }
    }
    CHECK(entries.size() == kFiles + 2);
    return mount.figure("inodes.linked") - before;
  };
  CHECK(list_and_stat() > kFiles / 2);
  // The kernel never asks for attributes again by itself once it has to look up what it knew.
  SECTION("what one walk did not use says nothing of this directory") {
    for (const RawEntry& directory : list(mount / "tree")) list(mount / "tree/" + directory.name);
    std::this_thread::sleep_for(std::chrono::milliseconds(400));  // the ttl, which is the matter
    CHECK(list_and_stat() > kFiles / 2);
  }
  SECTION("the first entries are still believed, and expire on the way") {
    int64_t linked = 0;
    for (int i = 0; i < 8; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // a third of the ttl
      linked += list_and_stat();
    }
    CHECK(linked > kFiles);
  }
}

TEST_CASE("lookups of what is not there are no reason to fetch a listing again") {
  const Mount mount("sim:tree=1x50", "ttl=200ms");
  const std::string directory = mount / "tree/" + list(mount / "tree").back().name;
  const auto names = list(directory);
  CHECK(wait_until([&] {  // attributes in the arrays grow old
    const auto before = mount.figure("remote.requests");
    return lstat_error(directory + "/" + names.back().name) == 0 &&
           mount.figure("remote.requests") > before;
  }));
  const auto before = mount.figure("invalidations");
  for (int i = 0; i < 40; ++i)
    CHECK(lstat_error(directory + "/none-" + std::to_string(i)) == ENOENT);
  CHECK(mount.figure("invalidations") == before);
}

TEST_CASE("the control channel is the owner's and root's alone") {
  if (geteuid() != 0) {
    WARN("not root: skipped");
    return;
  }
  const Mount mount("sim:big=10", "allow_other");
  Child stranger([&mount] {
    constexpr uid_t kNobody = 65534;
    if (setgid(kNobody) != 0 || setuid(kNobody) != 0) return 100;
    const int fd = open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 101;
    static fusefs::ControlText text;
    fusefs::ControlCount count{};
    if (ioctl(fd, fusefs::kControlStats, &text) == 0 || errno != EPERM) return 1;
    if (ioctl(fd, fusefs::kControlDrop, &count) == 0 || errno != EPERM) return 2;
    if (ioctl(fd, fusefs::kControlInvalidate, &count) == 0 || errno != EPERM) return 3;
    if (ioctl(fd, _IO('c', 1), nullptr) == 0 || errno != ENOTTY) return 4;
    std::vector<RawEntry> entries;
    RawDir dir(mount / "big");
    return dir.read_all(4096, &entries) == 0 && entries.size() == 12 ? 0 : 5;
  });
  const auto status = stranger.wait();
  REQUIRE(status);
  CHECK(*status == 0);
}

TEST_CASE("the statistics have every figure") {
  const Mount mount("sim:big=1000");
  REQUIRE(list(mount / "big").size() == 1002);
  for (const char* const key :
       {"cache.limit_bytes",    "cache.bytes",    "cache.peak_bytes", "pages.resident",
        "pages.pinned",         "names.bytes",    "entries.resident", "readdir.calls",
        "readdir.hits",         "readdir.misses", "readdir.uncached", "remote.requests",
        "remote.inflight_peak", "remote.errors",  "reclaim.pages",    "reclaim.refaults",
        "free_page.calls",      "invalidations",  "inodes.count",     "inodes.linked"}) {
    CHECK_NOTHROW(mount.figure(key));
  }
  CHECK(mount.figure("entries.resident") == 1000);
  CHECK(mount.figure("names.bytes") >= 24 * 1000);
  CHECK(mount.figure("pages.resident") >= 5);
  CHECK(mount.figure("pages.pinned") == 0);
  CHECK(mount.figure("remote.requests") >= 2);
  CHECK(mount.figure("cache.bytes") <= mount.figure("cache.limit_bytes"));
}
