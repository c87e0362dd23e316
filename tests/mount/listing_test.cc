// Listings through /dev/fuse: each entry once, whatever the buffer, the cookies and the changes.

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "tests/support/mount.h"
#include "tests/support/random.h"
#include "tests/support/raw_listing.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

using test::big_names;
using test::differences;
using test::list;
using test::Mount;
using test::Others;
using test::put_file;
using test::RawDir;
using test::RawEntry;
using test::TempDir;
using test::wait_until;

namespace {

bool is_dot(const RawEntry& entry) { return entry.name == "." || entry.name == ".."; }

// ---- Trap 9 -------------------------------------------------------------------------------------

void fill_directory(const std::string& path, size_t files) {
  fs::create_directory(path);
  // Links to one file cost the file system least.
  const std::vector<std::string> names = big_names(files);
  put_file(path + "/" + names[0]);
  for (size_t i = 1; i < files; ++i) {
    fs::create_hard_link(path + "/" + names[0], path + "/" + names[i]);
  }
}

// How the directory is read while it is emptied.
enum class Emptying : uint8_t { kOneHandle, kReopenAtPlace, kReopenAtStart };

// Unlinks at the source what each call returned; returns how many files that were. With
// kReopenAtStart passes are repeated until one is empty.
size_t empty_directory(const std::string& source, const std::string& listed, size_t buffer,
                       Emptying how) {
  size_t unlinked = 0;
  RawDir dir(listed);
  for (;;) {
    std::vector<RawEntry> batch;
    const int got = dir.read(buffer, &batch);
    INFO("buffer " << buffer << ", unlinked " << unlinked);
    REQUIRE(got >= 0);
    size_t progress = 0;
    for (const RawEntry& entry : batch) {
      if (is_dot(entry)) continue;
      REQUIRE(unlink((source + "/" + entry.name).c_str()) == 0);
      ++progress;
    }
    unlinked += progress;
    if (got == 0) return unlinked;
    if (how == Emptying::kOneHandle || (how == Emptying::kReopenAtStart && progress == 0)) continue;
    const int64_t place = dir.tell();
    REQUIRE(dir.open(listed) == 0);
    if (how == Emptying::kReopenAtPlace) REQUIRE(dir.seek(place) == place);
  }
}

void check_emptying(const std::string& options, Emptying how, size_t files) {
  TempDir source;
  const Mount mount(source.path(), options);
  for (const size_t buffer : {280u, 4096u, 32768u, 1048576u}) {
    const std::string name = "dir-" + std::to_string(buffer);
    fill_directory(source / name, files);
    CHECK(empty_directory(source / name, mount / name, buffer, how) == files);
    CHECK(rmdir((source / name).c_str()) == 0);
  }
}

}  // namespace

TEST_CASE("trap 9: what getdents returned is unlinked at the source, until rmdir succeeds") {
  SECTION("default ttl") { check_emptying("", Emptying::kOneHandle, 5000); }
  SECTION("ttl=0") { check_emptying("ttl=0", Emptying::kOneHandle, 1500); }
}

TEST_CASE("trap 9: the same with a new handle for every batch") {
  constexpr size_t kFiles = 1000;
  SECTION("at its place, default ttl") { check_emptying("", Emptying::kReopenAtPlace, kFiles); }
  SECTION("at its place, ttl=0") { check_emptying("ttl=0", Emptying::kReopenAtPlace, kFiles); }
  SECTION("from the start, ttl=0") { check_emptying("ttl=0", Emptying::kReopenAtStart, kFiles); }
}

// ---- Traps 10, 12, 13 ---------------------------------------------------------------------------

namespace {

constexpr uint64_t kBig = 6000;

std::string sim_source(const std::string& manners) {
  return "sim:big=" + std::to_string(kBig) + ",batch=1000" + (manners.empty() ? "" : ",") + manners;
}

// Lists `big` with several buffers, plain and with attributes, warm and cold.
void check_big(const std::string& manners, const std::string& options, Others others) {
  const Mount mount(sim_source(manners), options);
  const std::vector<std::string> expected = big_names(kBig);
  for (const size_t buffer : {1000u, 4096u, 40000u, 1048576u}) {
    INFO(manners << ", buffer " << buffer);
    CHECK(differences(list(mount / "big", buffer), expected, others).empty());
    CHECK(mount.drop() >= 0);
  }
  CHECK(differences(list(mount / "big"), expected, others).empty());
  if (others == Others::kNone) CHECK(differences(list(mount / "big"), expected).empty());
}

}  // namespace

TEST_CASE("trap 12: every cookie style lists each name exactly once") {
  for (const char* const style : {"ordered", "hashed", "descending", "huge", "index", "name"}) {
    const std::string cookies = std::string("cookies=") + style;
    check_big(cookies, "readdirplus=yes", Others::kNone);
    check_big(cookies, "readdirplus=no", Others::kNone);
  }
  for (const char* const style : {"ordered", "hashed", "descending", "huge"}) {
    const std::string cookies = std::string("cookies=") + style;
    check_big(cookies + ",eofcookie=sentinel", "", Others::kNone);
  }
}

TEST_CASE("traps 10 and 13: names that stay are listed once in a directory that changes") {
  for (const char* const style : {"ordered", "hashed", "descending", "huge", "name"}) {
    const std::string cookies = std::string("cookies=") + style;
    check_big(cookies + ",churn=2000", "ttl=0", Others::kAtMostOnce);
    check_big(cookies + ",churn=50,verifier=strict", "ttl=10ms", Others::kAtMostOnce);
  }
  check_big("cookies=index,churn=2", "ttl=10ms", Others::kAtMostOnce);
}

// A remote without cookies of its own calls every place bad that a change has moved. Changes that
// outrun the requests leave no place to go on from: the listing is whole, or it ends in EIO; never
// is it short without a word, and never does it repeat a name.
TEST_CASE("trap 10: places by ordinal in a directory that changes fast") {
  const std::vector<std::string> expected = big_names(kBig);
  for (const char* const manners : {"churn=2000", "churn=50,verifier=strict"}) {
    const Mount mount(sim_source(std::string("cookies=index,").append(manners)), "ttl=10ms");
    for (const size_t buffer : {1000u, 4096u, 40000u, 1048576u}) {
      INFO(manners << ", buffer " << buffer);
      RawDir dir(mount / "big");
      std::vector<RawEntry> entries;
      const int status = dir.read_all(buffer, &entries);
      INFO("status " << status);
      CHECK((status == 0 || status == -EIO));
      if (status == 0) CHECK(differences(entries, expected, Others::kAtMostOnce).empty());
      for (const auto& [name, times] : test::count_names(entries)) {
        INFO(name << " " << times);
        REQUIRE(times == 1);
      }
      CHECK(mount.drop() >= 0);
    }
  }
}

TEST_CASE("trap 16: names that no file can have are left out, and counted") {
  const Mount mount(sim_source("faults=badname:0.5"));
  CHECK(differences(list(mount / "big"), big_names(kBig)).empty());
  CHECK(mount.figure("protocol.bad_names") > 0);
}

// ---- Trap 11 ------------------------------------------------------------------------------------

namespace {

void check_entries_against_lstat(const std::string& directory) {
  std::vector<std::string> names;
  for (const RawEntry& entry : list(directory)) {
    if (directory.ends_with("/mnt") && entry.name == "..") continue;  // lies outside the mount
    struct stat status {};
    INFO(directory << "/" << entry.name);
    REQUIRE(lstat((directory + "/" + entry.name).c_str(), &status) == 0);
    CHECK(entry.type == IFTODT(status.st_mode));
    CHECK(entry.ino == status.st_ino);
    if (!is_dot(entry)) names.push_back(entry.name);
  }
  CHECK(differences(list(directory), names).empty());  // '.', '..' and each name once
}

}  // namespace

TEST_CASE("trap 11: hard links, dots, types and odd names agree with lstat") {
  for (const char* const cookies : {"ordered", "index", "name", "huge"}) {
    for (const char* const options : {"readdirplus=yes", "readdirplus=no"}) {
      const Mount mount(std::string("sim:mix,cookies=") + cookies, options);
      check_entries_against_lstat(mount / "mix");
      check_entries_against_lstat(mount / "mix/subdir");
      check_entries_against_lstat(mount / "mix/empty-directory");
      check_entries_against_lstat(mount.path());
      std::map<std::string, uint64_t> inos;
      for (const RawEntry& entry : list(mount / "mix")) inos[entry.name] = entry.ino;
      CHECK(inos.size() > 60);
      CHECK(inos.count("new\nline") == 1);
      CHECK(inos.count("\xff\xfe") == 1);
      CHECK(inos.count(std::string(255, 'n')) == 1);
      CHECK(inos["hard-link-1"] == inos["hard-link-2"]);
      CHECK(inos["hard-link-1"] == inos["hard-link-3"]);
      CHECK(inos["hard-link-1"] != inos["regular"]);
    }
  }
}

TEST_CASE("trap 11: a local tree's hard links and types agree with lstat") {
  TempDir source;
  fs::create_directory(source / "dir");
  put_file(source / "dir/file", "x");
  fs::create_hard_link(source / "dir/file", source / "dir/link");
  fs::create_hard_link(source / "dir/file", source / "other-link");
  fs::create_symlink("file", source / "dir/symlink");
  REQUIRE(mkfifo((source / "dir/fifo").c_str(), 0600) == 0);
  const Mount mount(source.path());
  check_entries_against_lstat(mount / "dir");
  check_entries_against_lstat(mount.path());
  struct stat one {};
  struct stat other {};
  REQUIRE(lstat((mount / "dir/link").c_str(), &one) == 0);
  REQUIRE(lstat((mount / "other-link").c_str(), &other) == 0);
  CHECK(one.st_ino == other.st_ino);
  CHECK(one.st_nlink == 3);
}

// ---- Trap 15 ------------------------------------------------------------------------------------

namespace {

struct Place {
  int64_t offset;
  std::string next;  // the name that is listed there
};

// Every `step`th place of a listing, the first after '.' and '..' included.
std::vector<Place> places_of(const std::vector<RawEntry>& entries, size_t step) {
  std::vector<Place> places;
  for (size_t i = 0; i + 1 < entries.size(); i += i < 4 ? 1 : step) {
    places.push_back({entries[i].offset, entries[i + 1].name});
  }
  return places;
}

void check_places(RawDir& dir, const std::vector<Place>& places) {
  constexpr size_t kSmallBuffer = 2048;
  for (const Place& place : places) {
    REQUIRE(dir.seek(place.offset) == place.offset);
    std::vector<RawEntry> found;
    INFO("offset " << place.offset << ", expected " << place.next);
    REQUIRE(dir.read(kSmallBuffer, &found) > 0);
    CHECK(found.front().name == place.next);
  }
}

void check_remembered_places(const std::string& cookies, uint64_t files) {
  const Mount mount("sim:big=" + std::to_string(files) + ",batch=5000,cookies=" + cookies,
                    "cache_size=8M");
  RawDir dir(mount / "big");
  std::vector<RawEntry> entries;
  REQUIRE(dir.read_all(size_t{1} << 20, &entries) == 0);
  CHECK(differences(entries, big_names(files)).empty());
  std::vector<Place> places = places_of(entries, files / 40);
  std::reverse(places.begin() + 4, places.end());  // backwards, the beginning in between
  CHECK(mount.drop() > 0);
  check_places(dir, places);
  CHECK(mount.drop() > 0);
  RawDir fresh(mount / "big");  // another handle's offsets
  check_places(fresh, places);
  // The whole rest from the middle, through a small buffer.
  const size_t middle = entries.size() / 2;
  REQUIRE(fresh.seek(entries[middle].offset) >= 0);
  std::vector<RawEntry> rest;
  REQUIRE(fresh.read_all(2048, &rest) == 0);
  REQUIRE(rest.size() == entries.size() - middle - 1);
  for (size_t i = 0; i < rest.size(); ++i) {
    if (rest[i].name != entries[middle + 1 + i].name) FAIL("another order at " << i);
  }
  // rewinddir
  std::vector<RawEntry> again;
  REQUIRE(fresh.seek(0) == 0);
  REQUIRE(fresh.read_all(40000, &again) == 0);
  CHECK(differences(again, big_names(files)).empty());
}

}  // namespace

TEST_CASE("trap 15: positions outlive a long listing and an eviction") {
  for (const char* const style : {"ordered", "hashed", "descending", "huge", "index", "name"}) {
    INFO(style);
    check_remembered_places(style, test::kSanitized ? 12'000 : 50'000);
  }
}

TEST_CASE("trap 15: rewinddir sees the present state") {
  TempDir source;
  fill_directory(source / "dir", 100);
  const Mount mount(source.path(), "ttl=0");
  RawDir dir(mount / "dir");
  std::vector<RawEntry> entries;
  REQUIRE(dir.read_all(4096, &entries) == 0);
  put_file(source / "dir/new");
  REQUIRE(unlink((source / ("dir/" + big_names(100)[7])).c_str()) == 0);
  REQUIRE(dir.seek(0) == 0);
  entries.clear();
  REQUIRE(dir.read_all(4096, &entries) == 0);
  const auto counts = test::count_names(entries);
  CHECK(counts.count("new") == 1);
  CHECK(counts.count(big_names(100)[7]) == 0);
}

// ---- Sizes of replies ---------------------------------------------------------------------------

TEST_CASE("a long directory asks to be read in large pieces, and still begins at once") {
  constexpr blksize_t kLarge = 1 << 20;
  const Mount mount("sim:big=20000,tree=3x3", "readdirplus=yes,ttl=1h");
  const auto block_size = [&](const std::string& directory) {
    struct stat status {};
    REQUIRE(stat((mount / directory).c_str(), &status) == 0);
    return status.st_blksize;
  };
  CHECK(block_size("big") == 4096);
  CHECK(list(mount / "big").size() == 20'002);
  CHECK(list(mount / "tree").size() == 5);
  // The kernel is told, which takes a moment.
  CHECK(wait_until([&] { return block_size("big") == kLarge; }));
  CHECK(block_size("tree") == 4096);
  CHECK(list(mount.path()).size() == 4);  // with the directories' attributes
  CHECK(block_size("big") == kLarge);

  std::vector<RawEntry> first;
  std::vector<RawEntry> second;
  RawDir dir(mount / "big");
  REQUIRE(dir.read(kLarge, &first) > 0);
  REQUIRE(dir.read(kLarge, &second) > 0);
  CHECK(first.size() < 1000);
  CHECK(second.size() > 5000);
}

// ---- Trap 21 ------------------------------------------------------------------------------------

TEST_CASE("trap 21: a buffer of 8 MiB") {
  constexpr uint64_t kMany = test::kSanitized ? 40'000 : 200'000;
  for (const char* const options : {"readdirplus=yes", "readdirplus=no"}) {
    const Mount mount("sim:big=" + std::to_string(kMany), options);
    const std::vector<RawEntry> entries = list(mount / "big", size_t{8} << 20);
    CHECK(differences(entries, big_names(kMany)).empty());
  }
}
