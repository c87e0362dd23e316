// Who sees what when: own changes in listings, another mount's after its close, and what others do
// to files that are open or mapped here.

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <set>
#include <thread>

#include "tests/mount/write_rig.h"
#include "tests/support/random.h"
#include "tests/support/raw_listing.h"

namespace fs = std::filesystem;

using namespace std::chrono_literals;
using test::differences;
using test::Fd;
using test::list;
using test::Mounted;
using test::noise;
using test::put_file;
using test::read_file;
using test::Remote;
using test::status_of;
using test::wait_until;
using test::write_file;

namespace {

std::vector<std::string> words(const std::set<std::string>& names) {
  return {names.begin(), names.end()};
}

// One change of a directory's names, of every kind; 0 or an errno.
int change_names(test::Random& random, const std::string& directory, std::set<std::string>* names) {
  const std::string fresh = "new-" + std::to_string(random.below(1'000'000));
  const std::string path = directory + "/" + fresh;
  const std::string old =
      *std::next(names->begin(), static_cast<std::ptrdiff_t>(random.below(names->size())));
  const std::string old_path = directory + "/" + old;
  if (names->contains(fresh)) return 0;
  int result = 0;
  switch (random.below(5)) {
    case 0:
      result = write_file(path, "content");
      break;
    case 1:
      result = mkdir(path.c_str(), 0755) == 0 ? 0 : errno;
      break;
    case 2:
      result = symlink("target", path.c_str()) == 0 ? 0 : errno;
      break;
    case 3:
      result = rename(old_path.c_str(), path.c_str()) == 0 ? 0 : errno;
      names->erase(old);
      break;
    default:
      result = remove(old_path.c_str()) == 0 ? 0 : errno;
      names->erase(old);
      return result;
  }
  names->insert(fresh);
  return result;
}

void check_own_changes(const std::string& kind, const std::string& options) {
  const uint64_t seed = test::seed();
  INFO(kind << ", -o " << options << ", seed " << seed);
  test::Random random(seed);
  const Remote remote(kind);
  Mounted mount(remote, options);
  const std::string directory = mount / "d";
  REQUIRE(mkdir(directory.c_str(), 0755) == 0);
  std::set<std::string> names;
  // More than one array holds.
  for (int i = 0; i < 400; ++i) {
    const std::string name = "a-name-of-usual-size-" + std::to_string(i);
    names.insert(name);
    REQUIRE(write_file(directory + "/" + name, "") == 0);
  }
  for (uint64_t i = 0; i < test::scaled(60); ++i) {
    REQUIRE(change_names(random, directory, &names) == 0);
    const size_t buffer = random.one_in(2) ? 500 : 32'768;
    REQUIRE(differences(list(directory, buffer), words(names)) == "");
  }
  CHECK(mount.end() == "");
}

// A file whose content another program is to see, of a length of its own: SFTP's times are seconds.
std::string version_of(uint64_t round) { return noise(round, 5'000 + 137 * round); }

void check_close_to_open(const std::string& kind, const std::string& options, bool at_once) {
  INFO(kind << ", -o " << options);
  const Remote remote(kind);
  Mounted writer(remote, options);
  Mounted reader(remote, options);
  const Fd kept(reader / "none", O_RDONLY);
  CHECK(kept.error() == ENOENT);
  for (uint64_t round = 1; round <= 6; ++round) {
    const std::string text = version_of(round);
    Mounted& from = round % 2 == 0 ? reader : writer;
    Mounted& to = round % 2 == 0 ? writer : reader;
    REQUIRE(write_file(from / "file", text) == 0);
    INFO("round " << round);
    if (at_once) {
      const bool same = read_file(to / "file") == text;
      CHECK(same);
    } else {
      CHECK(wait_until([&] { return read_file(to / "file") == text; }));
    }
    // Neither had to let go of what it has itself.
    const bool own = read_file(from / "file") == text;
    CHECK(own);
  }
  CHECK(writer.end() == "");
  CHECK(reader.end() == "");
}

void touch_later(const std::string& path, int seconds) {
  struct stat status {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  const timespec times[2] = {status.st_atim,
                             {status.st_mtim.tv_sec + seconds, status.st_mtim.tv_nsec}};
  REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

}  // namespace

TEST_CASE("write: own changes are in the next listing, each once") {
  for (const std::string& kind : test::remote_kinds()) check_own_changes(kind, "ttl=1h");
  check_own_changes("sim", "cache_size=1M,readdirplus=yes");
  check_own_changes("sftp", "cache_size=1M,ttl=0");
}

// The kernel tells a time only where it is another one than it knew: not that of a write in the
// tick in which the file was made.
TEST_CASE("write: the kernel's write-back leaves the time of the write, not of the writing back") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "writeback_cache");
    for (int i = 0; i < 20; ++i) {
      const std::string name = "file-" + std::to_string(i);
      Fd file(mount / name, O_WRONLY | O_CREAT);
      REQUIRE(file.write("content") == 0);
      std::this_thread::sleep_for(20ms);  // the tick is over
      REQUIRE(file.shut() == 0);
      struct stat here {};
      struct stat there {};
      REQUIRE(stat((mount / name).c_str(), &here) == 0);
      REQUIRE(stat((remote / name).c_str(), &there) == 0);
      CHECK(here.st_mtim.tv_sec == there.st_mtim.tv_sec);
      if (kind != "sftp") CHECK(here.st_mtim.tv_nsec == there.st_mtim.tv_nsec);
    }
    CHECK(mount.end() == "");
  }
}

namespace {

int set_mtime(const Fd& file, time_t seconds) {
  const timespec times[] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                            {.tv_sec = seconds, .tv_nsec = 0}};
  return futimens(file.get(), times);
}

}  // namespace

TEST_CASE(
    "write: attributes of a file that is being made are shown at once, and told by its close") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    const std::string here = mount / "file";
    const std::string there = remote / "file";
    {
      const Fd file(here, O_RDWR | O_CREAT | O_EXCL, 0600);
      REQUIRE(file.write("content") == 0);
      REQUIRE(set_mtime(file, 1'000'000'000) == 0);
      REQUIRE(fchmod(file.get(), 0644) == 0);
      CHECK((status_of(here).st_mode & 07777) == 0644);
      CHECK(status_of(here).st_mtim.tv_sec == 1'000'000'000);
      CHECK(status_of(here).st_size == 7);
    }
    CHECK((status_of(there).st_mode & 07777) == 0644);
    CHECK(status_of(there).st_mtim.tv_sec == 1'000'000'000);
    CHECK(status_of(there).st_size == 7);
    CHECK(status_of(here).st_mtim.tv_sec == 1'000'000'000);
    {
      INFO("what is written later has a later time");
      REQUIRE(unlink(here.c_str()) == 0);
      const Fd file(here, O_RDWR | O_CREAT | O_EXCL, 0600);
      REQUIRE(set_mtime(file, 1'000'000'000) == 0);
      REQUIRE(file.write("content") == 0);
      CHECK(status_of(here).st_mtim.tv_sec > 1'500'000'000);
      CHECK(file.sync() == 0);
      CHECK(status_of(here).st_mtim.tv_sec > 1'500'000'000);
      CHECK(status_of(there).st_mtim.tv_sec > 1'500'000'000);
      INFO("fsync tells them");
      REQUIRE(set_mtime(file, 1'200'000'000) == 0);
      CHECK(file.sync() == 0);
      CHECK(status_of(there).st_mtim.tv_sec == 1'200'000'000);
      INFO("another opening tells them");
      REQUIRE(fchmod(file.get(), 0640) == 0);
      CHECK(Fd(here, O_RDONLY).error() == 0);
      CHECK((status_of(there).st_mode & 07777) == 0640);
      INFO("what could be refused is told at once, and what was held before it");
      REQUIRE(set_mtime(file, 1'300'000'000) == 0);
      REQUIRE(fchmod(file.get(), 04711) == 0);
      CHECK((status_of(there).st_mode & 07777) == 04711);
      CHECK(status_of(there).st_mtim.tv_sec == 1'300'000'000);
      REQUIRE(fchmod(file.get(), 0600) == 0);
      REQUIRE(fchown(file.get(), 12345, 12346) == 0);
      CHECK(status_of(there).st_uid == 12345);
      CHECK((status_of(there).st_mode & 07777) == 0600);
      CHECK(status_of(here).st_gid == 12346);
      REQUIRE(fchmod(file.get(), 0666) == 0);
    }
    CHECK((status_of(there).st_mode & 07777) == 0666);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: what one mount has closed another one opens") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    check_close_to_open(kind, "ttl=0", true);
    check_close_to_open(kind, "ttl=200ms", false);
  }
}

// Trap 30, the first half; the second is file_exerciser's.
TEST_CASE("write: trap 30: mapped and open files show what another wrote, once it is known") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    const std::string before = noise(1, 50'000);
    const std::string after = noise(2, 50'000);
    put_file(remote / "file", before);
    Mounted mount(remote, "ttl=100ms");
    const Fd file(mount / "file", O_RDONLY);
    REQUIRE(file.error() == 0);
    void* const memory = mmap(nullptr, before.size(), PROT_READ, MAP_SHARED, file.get(), 0);
    REQUIRE(memory != MAP_FAILED);
    const auto mapped = [&] {
      return std::string_view(static_cast<const char*>(memory), before.size());
    };
    const bool same_before = file.read() == before && mapped() == before;
    CHECK(same_before);
    put_file(remote / "file", after);
    touch_later(remote / "file", 5);
    CHECK(wait_until([&] { return file.read() == after; }));
    CHECK(wait_until([&] {
      struct stat status {};
      return stat((mount / "file").c_str(), &status) == 0 && mapped() == after;
    }));
    munmap(memory, before.size());
  }
}

TEST_CASE("write: a file that is truncated or grows elsewhere") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    const std::string whole = noise(3, 100'000);
    put_file(remote / "file", whole);
    Mounted mount(remote, "ttl=100ms");
    const Fd file(mount / "file", O_RDWR);
    REQUIRE(file.error() == 0);
    const auto shows = [&](const std::string& text) {
      struct stat status {};
      return fstat(file.get(), &status) == 0 &&
             static_cast<size_t>(status.st_size) == text.size() && file.read() == text;
    };
    CHECK(shows(whole));
    fs::resize_file(remote / "file", 5'000);
    std::string text = whole.substr(0, 5'000);
    CHECK(wait_until([&] { return shows(text); }));
    // Nothing of what was beyond comes back.
    fs::resize_file(remote / "file", 9'000);
    text.resize(9'000, '\0');
    CHECK(wait_until([&] { return shows(text); }));
    // And own writes go on from there.
    REQUIRE(file.write("own", 9'000) == 0);
    text += "own";
    CHECK(shows(text));
    REQUIRE(file.sync() == 0);
    const bool same = read_file(remote / "file") == text;
    CHECK(same);
  }
}

// Of the same size, and before anything here could have told: its page must not be taken for part
// of what is changed here next.
TEST_CASE("write: what another wrote before is not taken for an own change") {
  enum class Own { kWrite, kMode, kTimes, kSize };
  for (const std::string& kind : test::shared_remote_kinds()) {
    for (const std::string options : {"ttl=1h", "ttl=1h,close=nowait"}) {
      for (const Own own : {Own::kWrite, Own::kMode, Own::kTimes, Own::kSize}) {
        INFO(kind << " " << options << " " << static_cast<int>(own));
        const Remote remote(kind);
        std::string text = noise(1, 20'000);
        put_file(remote / "file", text);
        Mounted mount(remote, options);
        Fd file(mount / "file", O_RDWR);
        const bool before = file.read() == text;
        CHECK(before);
        const std::string others = noise(2, 4096);
        text.replace(8192, others.size(), others);
        { REQUIRE(Fd(remote / "file", O_WRONLY).write(others, 8192) == 0); }
        touch_later(remote / "file", 5);
        if (own == Own::kWrite) {
          REQUIRE(file.write("own") == 0);
          text.replace(0, 3, "own");
          CHECK(file.sync() == 0);
        } else if (own == Own::kMode) {
          REQUIRE(fchmod(file.get(), 0640) == 0);
        } else if (own == Own::kTimes) {
          REQUIRE(futimens(file.get(), nullptr) == 0);
        } else {
          text.resize(15'000);
          REQUIRE(ftruncate(file.get(), 15'000) == 0);
        }
        CHECK(file.shut() == 0);
        const bool after = read_file(mount / "file") == text;
        CHECK(after);
        const bool there = read_file(remote / "file") == text;
        CHECK(there);
        CHECK(mount.end() == "");
      }
    }
  }
}

TEST_CASE("write: own changes drop nothing of what is cached") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=1h");
    std::string text = noise(1, 400'000);
    REQUIRE(write_file(mount / "file", text) == 0);
    Fd file(mount / "file", O_RDWR);
    const bool before = file.read() == text;
    CHECK(before);
    const auto reads = mount.figure("remote_latency.read.count");
    for (size_t i = 0; i < 30; ++i) {
      REQUIRE(file.write("own", 1000 * i) == 0);
      text.replace(1000 * i, 3, "own");
      CHECK(file.sync() == 0);
      if (i % 3 == 0) REQUIRE(fchmod(file.get(), i % 2 == 0 ? 0600 : 0640) == 0);
      // Asking before it is no use where requests of a file may pass each other.
      if (i % 5 == 0 && !kind.starts_with("nfs")) REQUIRE(futimens(file.get(), nullptr) == 0);
    }
    CHECK(posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
    const bool after = file.read() == text;
    CHECK(after);
    CHECK(mount.figure("remote_latency.read.count") == reads);
    CHECK(file.shut() == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: what is dirty here stays when another changes the file") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    put_file(remote / "file", std::string(20'000, 'a'));
    Mounted mount(remote, "ttl=0");
    const Fd file(mount / "file", O_RDWR);
    REQUIRE(file.error() == 0);
    CHECK(file.read().size() == 20'000);
    REQUIRE(file.write("dirty", 8'192) == 0);
    put_file(remote / "file", std::string(30'000, 'b'));
    struct stat status {};
    CHECK(stat((mount / "file").c_str(), &status) == 0);
    CHECK(file.read(5, 8'192) == "dirty");
    REQUIRE(file.sync() == 0);
    CHECK(read_file(remote / "file").substr(8'192, 5) == "dirty");
    CHECK(wait_until([&] { return file.read().substr(0, 5) == "bbbbb"; }));
  }
}
