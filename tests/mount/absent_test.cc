// Names that are not there: what is told of them without the remote, and that it is right.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/mount/write_rig.h"
#include "tests/support/raw_listing.h"

namespace fs = std::filesystem;

using test::Fd;
using test::list;
using test::Mount;
using test::Mounted;
using test::put_file;
using test::Remote;
using test::write_file;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kProbe = 2;  // lookups that tell whether names of the other case are others

// 0, or why lstat failed.
int lstat_error(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 ? 0 : errno;
}

std::string absent(const std::string& directory, int number) {
  return directory + "/absent-" + std::to_string(number);
}

int64_t lookups(const Mount& mount) { return mount.figure("remote_latency.lookup.count"); }

}  // namespace

TEST_CASE("absent: a crowd of names that are not there is answered by one listing") {
  constexpr int kNames = 400;
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    fs::create_directory(remote / "dir");
    for (int i = 0; i < 300; ++i) put_file(remote / ("dir/file-" + std::to_string(i)));
    Mounted mount(remote, "ttl=1s");
    REQUIRE(lstat_error(mount / "dir") == 0);
    // What a directory that has just changed lists proves nothing.
    std::this_thread::sleep_for(std::chrono::milliseconds(2'100));
    const int64_t before = lookups(mount);
    for (int i = 0; i < kNames; ++i) CHECK(lstat_error(absent(mount / "dir", i)) == ENOENT);
    // Next door a listing takes longer than a few lookups: it is paid for in several goes.
    CHECK(lookups(mount) - before <= kNames * 2 / 3);
    CHECK(lstat_error(mount / "dir/file-7") == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("absent: far away four lookups pay for the listing") {
  Mount mount("sim:big=500,rtt=50ms", "ttl=1h");
  const int64_t before = lookups(mount);
  for (int i = 0; i < 100; ++i) CHECK(lstat_error(absent(mount / "big", i)) == ENOENT);
  CHECK(lookups(mount) - before <= 4 + kProbe + 1);  // and `big` itself
  CHECK(mount.end() == "");
}

TEST_CASE("absent: with ttl=0 each is asked for") {
  Mount mount("sim:big=500", "ttl=0");
  REQUIRE(list(mount / "big").size() > 500);
  const int64_t before = lookups(mount);
  for (int i = 0; i < 50; ++i) CHECK(lstat_error(absent(mount / "big", i)) == ENOENT);
  CHECK(lookups(mount) - before >= 50);
  CHECK(mount.end() == "");
}

TEST_CASE("absent: an old listing is confirmed once for all of them") {
  Mount mount("sim:big=500", "ttl=200ms");
  REQUIRE(list(mount / "big").size() > 500);
  CHECK(lstat_error(absent(mount / "big", 0)) == ENOENT);
  // By way of a descriptor: else the kernel asks for the directory itself after ttl.
  Fd big(mount / "big", O_PATH | O_DIRECTORY);
  const int64_t before = lookups(mount);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    struct stat status {};
    const std::string name = "gone-" + std::to_string(round);
    CHECK(fstatat(big.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0);
    CHECK(errno == ENOENT);
  }
  CHECK(lookups(mount) == before);
  CHECK(big.shut() == 0);
  CHECK(mount.end() == "");
}

// What is known from a listing is as old as that, and not kept for ttl beyond.
TEST_CASE(
    "absent: a name that comes elsewhere is seen ttl later, whoever said that it was absent") {
  constexpr std::chrono::seconds kTtl{3};
  const Remote remote("local");
  fs::create_directory(remote / "dir");
  put_file(remote / "dir/file");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // else its listing proves nothing
  Mounted mount(remote, "ttl=3s");
  REQUIRE(list(mount / "dir").size() == 3);
  CHECK(lstat_error(mount / "dir/asked") == ENOENT);  // now it knows that names are told apart
  const Clock::time_point listed = Clock::now();
  put_file(remote / "dir/comes");
  std::this_thread::sleep_until(listed + kTtl - std::chrono::milliseconds(500));
  lstat_error(mount / "dir/comes");  // by the listing; whatever it says
  std::this_thread::sleep_until(listed + kTtl + std::chrono::milliseconds(500));
  CHECK(lstat_error(mount / "dir/comes") == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("absent: where names are found in any case, no listing says that one is not there") {
  Mount mount("sim:big=50,fold=yes", "ttl=1h");
  const auto names = list(mount / "big");
  REQUIRE(names.size() > 50);
  for (int i = 0; i < 20; ++i) CHECK(lstat_error(absent(mount / "big", i)) == ENOENT);
  const auto in_capitals = [](std::string name) {
    for (char& c : name) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 0x20);
    }
    return name;
  };
  CHECK(lstat_error(mount / ("big/" + in_capitals(names.back().name))) == 0);
  SECTION("nor in a directory that was made here") {
    REQUIRE(mkdir((mount / "made").c_str(), 0755) == 0);
    REQUIRE(write_file(mount / "made/first", "") == 0);
    REQUIRE(write_file(mount / "made/second", "") == 0);
    CHECK(lstat_error(mount / "made/FIRST") == 0);
    CHECK(lstat_error(mount / "made/SECOND") == 0);
  }
  CHECK(mount.end() == "");
}

TEST_CASE("absent: names that listings leave out are asked for") {
  Mount mount("sim:big=50", "ttl=1h");
  REQUIRE(list(mount / "big").size() > 50);
  CHECK(lstat_error(mount / "big/none") == ENOENT);
  int64_t before = lookups(mount);
  CHECK(lstat_error(mount / "big/other") == ENOENT);
  CHECK(lookups(mount) == before);
  for (const char* const name : {".snapshot", ".zfs", "caf\xc3\xa9"}) {
    before = lookups(mount);
    CHECK(lstat_error(mount / ("big/" + std::string(name))) == ENOENT);
    CHECK(lookups(mount) == before + 1);
  }
  CHECK(mount.end() == "");
}

TEST_CASE("absent: a listing is not given up for names that it can't tell of") {
  for (const std::string source : {"sim:big=1", "sim:big=1,fold=yes"}) {
    INFO(source);
    Mount mount(source, "ttl=1h");
    REQUIRE(mkdir((mount / "made").c_str(), 0755) == 0);
    REQUIRE(write_file(mount / "made/1", "") == 0);
    REQUIRE(write_file(mount / "made/two", "") == 0);
    CHECK(lstat_error(mount / "made/none") == ENOENT);
    const int64_t forgotten = mount.figure("invalidations");
    const int64_t listed = mount.figure("remote_latency.readdir.count");
    for (int i = 0; i < 40; ++i) {
      const std::string name = (i % 2 == 0 ? "caf\xc3\xa9-" : "made-") + std::to_string(i);
      REQUIRE(write_file(mount / ("made/" + name), "") == 0);
    }
    CHECK(mount.figure("invalidations") == forgotten);
    CHECK(mount.figure("remote_latency.readdir.count") == listed);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("absent: no listing is read for names that it can't tell of") {
  Mount mount("sim:big=50,fold=yes", "ttl=1h");
  const auto read = [&] { return mount.figure("remote_latency.readdir.count"); };
  const auto ask = [&](const std::string& prefix) {
    for (int i = 0; i < 40; ++i) {
      CHECK(lstat_error(mount / ("big/" + prefix + std::to_string(i))) == ENOENT);
    }
  };
  ask("caf\xc3\xa9-");
  CHECK(read() == 0);
  ask("none-");
  const int64_t before = read();
  CHECK(before > 0);  // and now it is known that names of any case are found
  mount.invalidate(mount / "big");
  ask("other-");
  CHECK(read() == before);
  CHECK(mount.end() == "");
}

TEST_CASE("absent: what is held and complete is not read again, whoever has paid") {
  Mount mount("sim:big=50", "ttl=1h");
  for (int i = 0; i < 4; ++i) CHECK(lstat_error(absent(mount / "big", i)) == ENOENT);
  REQUIRE(list(mount / "big").size() > 50);
  REQUIRE(write_file(mount / "big/own", "") == 0);
  const int64_t forgotten = mount.figure("invalidations");
  const int64_t read = mount.figure("remote_latency.readdir.count");
  CHECK(lstat_error(mount / "big/caf\xc3\xa9") == ENOENT);
  CHECK(mount.figure("invalidations") == forgotten);
  CHECK(mount.figure("remote_latency.readdir.count") == read);
  CHECK(mount.end() == "");
}

TEST_CASE("absent: what is known of a directory holds in those that are made in it") {
  Mount mount("sim:big=1", "ttl=1h");
  REQUIRE(mkdir((mount / "top").c_str(), 0755) == 0);
  const int64_t before = lookups(mount);
  for (int i = 0; i < 10; ++i) {
    const std::string directory = mount / ("top/" + test::name_of(i));
    REQUIRE(mkdir(directory.c_str(), 0755) == 0);
    for (int j = 0; j < 5; ++j) REQUIRE(write_file(directory + "/" + test::name_of(j), "") == 0);
  }
  // The first directory had been made when nothing was known of the one above it.
  CHECK(lookups(mount) - before <= 2 * kProbe);
  CHECK(mount.end() == "");
}

// The kernel asks for the directory's attributes meanwhile, and a directory that has just changed
// proves nothing.
TEST_CASE("absent: a directory that takes longer than ttl to fill is not asked for each name") {
  constexpr std::chrono::milliseconds kTtl{500};
  for (const std::string kind : {"sim", "sftp", "nfs3"}) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=500ms");
    REQUIRE(mkdir((mount / "made").c_str(), 0755) == 0);
    const int64_t before = lookups(mount);
    const Clock::time_point start = Clock::now();
    int files = 0;
    for (; files < 200 || Clock::now() - start < 6 * kTtl; ++files) {
      REQUIRE(write_file(mount / ("made/" + test::name_of(files)), "content") == 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const int64_t times = (Clock::now() - start) / kTtl + 2;
    INFO(files << " files, " << times << " times ttl");
    CHECK(lookups(mount) - before <= kProbe + 70 * times);
    CHECK(mount.end() == "");
  }
}
