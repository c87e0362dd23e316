// Remotes that are slow, that fail, and that never answer; and what the kernel holds of a listing.

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <random>

#include "tests/support/mount.h"
#include "tests/support/raw_listing.h"

using test::big_names;
using test::Child;
using test::differences;
using test::list;
using test::Mount;
using test::RawDir;
using test::RawEntry;
using test::wait_until;

// ---- Trap 17 ------------------------------------------------------------------------------------

namespace {

// False where we may not. Remounting drops the dentries of this mount only:
// /proc/sys/vm/drop_caches would have every other mount of the machine forget its files in the
// midst of its tests.
bool drop_dentries(const Mount& mount) {
  struct statvfs now {};
  if (::statvfs((mount / "").c_str(), &now) != 0) return false;
  // ST_ and MS_ flags have the same values.
  const unsigned long flags = now.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
  return ::mount(nullptr, (mount / "").c_str(), nullptr, MS_REMOUNT | flags, nullptr) == 0;
}

// The root, and what a dentry that is just being looked at may hold.
constexpr int64_t kFewInodes = 3;

bool forgotten(const Mount& mount) {
  return wait_until(
      [&] { return drop_dentries(mount) && mount.figure("inodes.count") <= kFewInodes; });
}

}  // namespace

TEST_CASE("trap 17: lookup counts go back to nothing when the kernel forgets") {
  constexpr uint64_t kFiles = 3000;
  const Mount mount("sim:big=" + std::to_string(kFiles), "readdirplus=yes,ttl=1h");
  if (!drop_dentries(mount)) {
    WARN("may not remount: skipped");
    return;
  }
  // Buffers that no reply fits exactly: entries overflow and come again.
  for (const size_t buffer : {280u, 5000u, 65536u}) {
    CHECK(differences(list(mount / "big", buffer), big_names(kFiles)).empty());
  }
  CHECK(mount.figure("inodes.count") >= static_cast<int64_t>(kFiles));
  for (const std::string& name : big_names(200)) {
    struct stat status {};
    REQUIRE(stat((mount / ("big/" + name)).c_str(), &status) == 0);
  }
  CHECK(forgotten(mount));
  INFO(mount.figure("inodes.count"));
  CHECK(differences(list(mount / "big"), big_names(kFiles)).empty());
}

TEST_CASE("only who stats what it lists has the kernel keep the files") {
  constexpr int64_t kDirectories = 40;
  constexpr int64_t kFiles = 30;
  const Mount mount("sim:tree=40x30", "ttl=1h");
  const auto walk = [&](const std::string& program) {
    const std::string command = program + " " + (mount / "tree") + " > /dev/null";
    return std::system(command.c_str());  // NOLINT: the tests' own words
  };
  REQUIRE(walk("find") == 0);
  CHECK(mount.figure("inodes.count") <= kDirectories + kFewInodes);
  REQUIRE(walk("ls -lR") == 0);
  CHECK(mount.figure("inodes.count") >= kDirectories * kFiles);
  const int64_t requests = mount.figure("remote.requests");
  REQUIRE(walk("ls -lR") == 0);
  CHECK(mount.figure("remote.requests") == requests);
}

TEST_CASE("stats of all names of a long listing, in any order, cost few requests") {
  constexpr uint64_t kFiles = 3000;
  for (const char* const cookies : {"hashed", "huge"}) {
    for (const bool in_order : {true, false}) {
      INFO(cookies << (in_order ? ", in order" : ", in no order"));
      Mount mount("sim:big=3000,rtt=2ms,cookies=" + std::string(cookies), "ttl=1h");
      std::vector<std::string> names;
      for (const RawEntry& entry : list(mount / "big")) {
        if (entry.name != "." && entry.name != "..") names.push_back(entry.name);
      }
      REQUIRE(names.size() == kFiles);
      RawDir open;  // or the kernel forgets the directory too, and its listing goes with it
      REQUIRE(open.open(mount / "big") == 0);
      const int64_t requests = mount.figure("remote.requests");
      if (!in_order) std::shuffle(names.begin(), names.end(), std::mt19937_64(kFiles));
      const auto stat_all = [&] {
        size_t failed = 0;
        for (const std::string& name : names) {
          struct stat status {};
          failed += lstat((mount / ("big/" + name)).c_str(), &status) == 0 ? 0 : 1;
        }
        return failed;
      };
      CHECK(stat_all() == 0);
      const int64_t asked = mount.figure("remote.requests") - requests;
      CHECK(asked < (in_order ? 30 : 200));  // 3,000 without it
      if (!drop_dentries(mount)) continue;
      // All attributes have come: nothing is asked for again.
      CHECK(stat_all() == 0);
      CHECK(mount.figure("remote.requests") - requests - asked <= 20);
    }
  }
}

TEST_CASE("trap 17: the same when listers are killed in the middle") {
  const Mount mount("sim:big=3000,rtt=2ms,batch=100", "readdirplus=yes,ttl=1h");
  if (!drop_dentries(mount)) {
    WARN("may not remount: skipped");
    return;
  }
  for (int round = 0; round < 12; ++round) {
    std::vector<std::unique_ptr<Child>> listers;
    for (int i = 0; i < 4; ++i) {
      listers.push_back(std::make_unique<Child>([&mount] {
        std::vector<RawEntry> entries;
        RawDir dir(mount / "big");
        while (dir.read(3000, &entries) >= 0) {
          if (entries.size() > 3000) dir.seek(0);
        }
        return 1;
      }));
    }
    const int64_t calls = mount.figure("readdir.calls");
    REQUIRE(wait_until([&] { return mount.figure("readdir.calls") > calls + 20; }));
    for (const auto& lister : listers) lister->signal(SIGKILL);
    for (const auto& lister : listers) REQUIRE(lister->wait());
    CHECK(mount.drop() >= 0);
  }
  CHECK(forgotten(mount));
}

// ---- Trap 20 ------------------------------------------------------------------------------------

namespace {

// What waits: a listing of the root, or the lookup of a name in it.
enum class Waits : uint8_t { kListing, kLookup };

int wait_for_remote(const Mount& mount, Waits what) {
  signal(SIGINT, SIG_DFL);
  if (what == Waits::kLookup) {
    struct stat status {};
    return stat((mount / "big").c_str(), &status) == 0 ? 0 : errno;
  }
  std::vector<RawEntry> entries;
  RawDir dir(mount.path());
  return -dir.read_all(4096, &entries);
}

void check_killed_lister(const std::string& source, int signal_number, Waits what) {
  Mount mount(source, "timeout=1h");
  {
    INFO(source << ", signal " << signal_number);
    Child lister([&] { return wait_for_remote(mount, what); });
    REQUIRE(wait_until([&] { return mount.figure("requests.active") > 0; }));
    lister.signal(signal_number);
    const auto status = lister.wait(std::chrono::seconds(20));
    REQUIRE(status);
    CHECK(WIFSIGNALED(*status));
    CHECK(mount.figure("cache.limit_bytes") > 0);  // it still serves
    CHECK(wait_until([&] { return mount.figure("requests.active") == 0; }));
  }
  CHECK(mount.end() == "");
}

}  // namespace

TEST_CASE("trap 20: a lister on a dead remote can be killed, and the mount survives") {
  for (const int number : {SIGKILL, SIGINT}) {
    check_killed_lister("sim:big=1000,faults=timeout:1", number, Waits::kListing);
    check_killed_lister("sim:big=1000,faults=timeout:1", number, Waits::kLookup);
  }
}

TEST_CASE("trap 20: a dead remote is ETIMEDOUT, and the mount can be unmounted meanwhile") {
  Mount mount("sim:big=1000,faults=timeout:1", "timeout=1s");
  std::vector<RawEntry> entries;
  RawDir dir(mount.path());
  CHECK(dir.read_all(4096, &entries) == -ETIMEDOUT);
  dir.close();
  struct stat status {};
  CHECK(stat((mount / "big").c_str(), &status) == -1);
  CHECK(errno == ETIMEDOUT);
  Child lister([&] { return wait_for_remote(mount, Waits::kListing); });
  CHECK(mount.end(Mount::How::kLazy) == "");
  CHECK(lister.wait());
}

// ---- Errors -------------------------------------------------------------------------------------

namespace {

// Opens and lists however often it fails; `allowed` are the errors that may be met.
void check_listing_with_retries(const Mount& mount, const std::vector<std::string>& expected,
                                const std::vector<int>& allowed, int* failures) {
  RawDir dir;
  std::vector<RawEntry> entries;
  const auto met = [&](int status) {
    if (status >= 0) return false;
    ++*failures;
    INFO("error " << -status);
    REQUIRE(std::find(allowed.begin(), allowed.end(), -status) != allowed.end());
    REQUIRE(*failures < 10'000);
    return true;
  };
  while (met(dir.open(mount / "big"))) {
  }
  while (met(dir.read_all(40'000, &entries))) {
  }
  CHECK(differences(entries, expected).empty());
}

}  // namespace

TEST_CASE("a remote that fails now and then: an errno at the point, and the listing goes on") {
  constexpr uint64_t kFiles = 10'000;
  for (const char* const style : {"ordered", "hashed", "huge", "index", "name"}) {
    const Mount mount("sim:big=" + std::to_string(kFiles) +
                          ",batch=500,faults=error:0.3+disconnect:0.1,cookies=" + style,
                      "cache_size=8M");
    int failures = 0;
    for (int round = 0; round < 2; ++round) {
      INFO(style << ", round " << round);
      check_listing_with_retries(mount, big_names(kFiles), {EIO, ENOTCONN}, &failures);
      mount.drop();
    }
    CHECK(failures > 0);
    CHECK(mount.figure("remote.errors") > 0);
  }
}

TEST_CASE("trap 20: a remote that comes back is listed on from the same place") {
  constexpr uint64_t kFiles = 8000;
  const Mount mount("sim:big=" + std::to_string(kFiles) + ",batch=1000,faults=timeout:0.3,seed=3",
                    "timeout=300ms");
  int failures = 0;
  check_listing_with_retries(mount, big_names(kFiles), {ETIMEDOUT}, &failures);
  CHECK(failures > 0);
}

// ---- Trap 22 ------------------------------------------------------------------------------------

// libfuse before 3.16.2 asks for parallel directory operations and does not tell the kernel.
TEST_CASE("lookups in one directory, and listings of it, wait for the remote side by side") {
  constexpr int kAtOnce = 8;
  Mount mount("sim:tree=8x5,rtt=500ms", "readdirplus=no");
  REQUIRE(access((mount / "tree").c_str(), F_OK) == 0);
  std::vector<std::unique_ptr<Child>> walkers;
  for (int i = 0; i < kAtOnce; ++i) {
    walkers.push_back(std::make_unique<Child>([&mount, i] {
      return access((mount / ("tree/dir-" + std::to_string(i))).c_str(), F_OK) == 0 ? 0 : errno;
    }));
  }
  walkers.push_back(std::make_unique<Child>([&mount] {
    std::vector<RawEntry> entries;
    RawDir dir(mount / "tree");
    return -dir.read_all(4096, &entries);
  }));
  for (const auto& walker : walkers) CHECK(walker->wait() == 0);
  // All nine on an idle machine; a busy one starts them one by one. It was one.
  CHECK(mount.figure("remote.inflight_peak") > kAtOnce / 2);
}

TEST_CASE("trap 22: a creator is not held up by two listers of a slow remote") {
  // A listing takes 200 s; the creator waits for a partial reply and its own round trips.
  const Mount mount("sim:big=1000000,rtt=200ms,batch=1000", "rw,timeout=1h");
  std::vector<std::unique_ptr<Child>> listers;
  for (int i = 0; i < 2; ++i) {
    listers.push_back(std::make_unique<Child>([&mount] {
      std::vector<RawEntry> entries;
      RawDir dir(mount / "big");
      return -dir.read_all(size_t{1} << 20, &entries);
    }));
  }
  REQUIRE(wait_until([&] { return mount.figure("entries.resident") > 1000; }));
  Child creator([&mount] { return mkdir((mount / "big/new").c_str(), 0755) == 0 ? 0 : errno; });
  const auto status = creator.wait();
  REQUIRE(status);
  CHECK(*status == 0);
  for (const auto& lister : listers) CHECK(lister->running());
}
