// Locks of files through a mount: who is kept out by whom, how long, and who sees what then.

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tests/mount/write_rig.h"
#include "tests/support/eventually.h"
#include "tests/support/lock_checks.h"
#include "tests/support/lock_process.h"
#include "tests/support/random.h"

using test::Child;
using test::counter_text;
using test::EndOfLock;
using test::ends_of_locks;
using test::Fd;
using test::lock_options;
using test::LockCall;
using test::Locker;
using test::LockProcess;
using test::LockRange;
using test::Mount;
using test::Mounted;
using test::put_file;
using test::Remote;
using test::TempDir;
using test::text_of;
using test::wait_until;

namespace {

// A local directory with a file, and its mount.
struct LockedDir {
  explicit LockedDir(const std::string& options = {})
      : mount((put_file(native_path(), "content"), directory.path()), options) {}

  [[nodiscard]] std::string native_path() const { return directory / "file"; }
  [[nodiscard]] std::string path() const { return mount / "file"; }

  TempDir directory;
  Mount mount;
};

constexpr LockRange kLockFirstTen = {.start = 0, .length = 10};
constexpr LockRange kLockMiddle = {.start = 4, .length = 2};
constexpr LockRange kLockNextTen = {.start = 10, .length = 10};

}  // namespace

// ---- Other users of the directory ---------------------------------------------------------------

TEST_CASE("lock: a range that is locked through the mount is locked for native programs") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker native(dir.native_path());
    REQUIRE(here.lock(F_WRLCK, kLockFirstTen) == 0);
    CHECK(native.lock(F_WRLCK, kLockMiddle) == EAGAIN);
    CHECK(native.lock(F_RDLCK, kLockMiddle) == EAGAIN);
    CHECK(native.lock_open_file(F_WRLCK, kLockMiddle) == EAGAIN);
    CHECK(native.lock_open_file(F_RDLCK, {}) == EAGAIN);
    CHECK(native.others(12) == "wwwwwwwwww--");
    CHECK(native.lock(F_WRLCK, kLockNextTen) == 0);
    CHECK(here.unlock(kLockFirstTen) == 0);
    CHECK(native.others(12) == "------------");
    CHECK(native.lock(F_WRLCK, kLockFirstTen) == 0);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: a range that a native program has locked is locked through the mount") {
  LockedDir dir;
  for (const int command : {F_SETLK, F_OFD_SETLK}) {
    INFO((command == F_SETLK ? "a process" : "an open file") << " holds it");
    Locker here(dir.path());
    Locker native(dir.native_path());
    REQUIRE(native.process.lock(native.fd, F_WRLCK, kLockFirstTen, command) == 0);
    CHECK(here.lock(F_WRLCK, kLockMiddle) == EAGAIN);
    CHECK(here.lock(F_RDLCK, {}) == EAGAIN);
    CHECK(here.others(12) == "wwwwwwwwww--");
    CHECK(here.lock(F_WRLCK, kLockNextTen) == 0);
    CHECK(native.process.lock(native.fd, F_UNLCK, kLockFirstTen, command) == 0);
    CHECK(here.lock(F_WRLCK, kLockFirstTen) == 0);
    CHECK(native.process.lock(native.fd, F_WRLCK, kLockFirstTen, command) == EAGAIN);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: readers share, and one holder's lock becomes stronger and weaker in place") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker beside(dir.path());
    Locker native(dir.native_path());
    CHECK(here.lock(F_RDLCK) == 0);
    CHECK(beside.lock(F_RDLCK) == 0);
    CHECK(native.lock(F_RDLCK) == 0);
    CHECK(here.lock(F_WRLCK) == EAGAIN);
    CHECK(beside.unlock() == 0);
    CHECK(here.lock(F_WRLCK) == EAGAIN);
    // What was refused has cost nobody what he had.
    CHECK(native.lock(F_WRLCK) == EAGAIN);
    CHECK(native.unlock() == 0);
    CHECK(here.lock(F_WRLCK) == 0);
    CHECK(beside.lock(F_RDLCK) == EAGAIN);
    CHECK(native.lock(F_RDLCK) == EAGAIN);
    CHECK(here.lock(F_RDLCK) == 0);
    CHECK(beside.lock(F_RDLCK) == 0);
    CHECK(native.lock(F_RDLCK) == 0);
    CHECK(native.lock(F_WRLCK) == EAGAIN);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: a range is split where its middle is given up or made weaker") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker beside(dir.path());
    Locker native(dir.native_path());
    REQUIRE(here.lock(F_WRLCK, kLockFirstTen) == 0);
    REQUIRE(here.unlock(kLockMiddle) == 0);
    CHECK(native.others(12) == "wwww--wwww--");
    CHECK(beside.others(12) == "wwww--wwww--");
    CHECK(native.lock(F_WRLCK, kLockMiddle) == 0);
    CHECK(here.lock(F_RDLCK, kLockFirstTen) == EAGAIN);
    CHECK(beside.others(12) == "wwwwwwwwww--");
    CHECK(native.unlock() == 0);
    CHECK(here.lock(F_RDLCK, kLockMiddle) == 0);
    CHECK(native.others(12) == "wwwwrrwwww--");
    CHECK(beside.others(12) == "wwwwrrwwww--");
    CHECK(here.lock(F_WRLCK, {.start = 8, .length = 0}) == 0);
    CHECK(native.others(12) == "wwwwrrwwwwww");
    CHECK(native.lock(F_RDLCK, {.start = 1'000'000, .length = 1}) == EAGAIN);
    CHECK(here.unlock() == 0);
    CHECK(native.others(12) == "------------");
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: flock through the mount and flock by native programs keep each other out") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker beside(dir.path(), O_RDONLY);
    Locker native(dir.native_path(), O_RDONLY);
    CHECK(here.lock_file(LOCK_EX) == 0);
    CHECK(native.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(native.lock_file(LOCK_SH) == EWOULDBLOCK);
    CHECK(beside.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(here.lock_file(LOCK_SH) == 0);
    CHECK(native.lock_file(LOCK_SH) == 0);
    CHECK(beside.lock_file(LOCK_SH) == 0);
    CHECK(here.lock_file(LOCK_UN) == 0);
    CHECK(beside.lock_file(LOCK_UN) == 0);
    CHECK(native.lock_file(LOCK_EX) == 0);
    CHECK(here.lock_file(LOCK_SH) == EWOULDBLOCK);
    CHECK(beside.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(native.process.close(native.fd) == 0);
    CHECK(beside.lock_file(LOCK_EX) == 0);
    CHECK(here.lock_file(LOCK_EX) == EWOULDBLOCK);
    // It is the open file's, which ends with its descriptor; release() is not waited for.
    CHECK(beside.process.close(beside.fd) == 0);
    CHECK(test::eventually([&] { return here.lock_file(LOCK_EX) == 0; }));
  }
  CHECK(dir.mount.end() == "");
}

// Such a lock is not the process's: it outlives the closing of another descriptor.
TEST_CASE("lock: flock belongs to the open file, and each of a process's has its own") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker native(dir.native_path());
    const int other = here.process.open(dir.path());
    REQUIRE(here.lock_file(LOCK_EX) == 0);
    CHECK(here.process.lock_file(other, LOCK_EX | LOCK_NB) == EWOULDBLOCK);
    CHECK(here.process.close(other) == 0);
    CHECK(native.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(here.lock_file(LOCK_UN) == 0);
    CHECK(native.lock_file(LOCK_EX) == 0);
  }
  CHECK(dir.mount.end() == "");
}

// The kernel tells nobody of that end but by the closing itself.
TEST_CASE("lock: a range's lock of an open file (F_OFD_SETLK) ends with that") {
  LockedDir dir;
  {
    Locker here(dir.path());
    const Locker beside(dir.path());  // the file stays open
    Locker native(dir.native_path());
    REQUIRE(here.lock_open_file(F_WRLCK, kLockFirstTen) == 0);
    CHECK(native.lock(F_WRLCK, kLockMiddle) == EAGAIN);
    CHECK(here.lock(F_WRLCK, kLockMiddle) == EAGAIN);  // of the same process, yet somebody else's
    CHECK(here.process.close(here.fd) == 0);
    CHECK(test::eventually([&] { return native.lock(F_WRLCK, kLockMiddle) == 0; }));
  }
  CHECK(dir.mount.end() == "");
}

// Both are the open file's, and so, to the daemon, one owner's.
TEST_CASE("lock: flock and F_OFD_SETLK of one open file are locks of two kinds") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker native(dir.native_path());
    REQUIRE(here.lock_file(LOCK_EX) == 0);
    REQUIRE(here.lock_open_file(F_WRLCK, kLockFirstTen) == 0);
    CHECK(native.lock_open_file(F_WRLCK, kLockNextTen) == 0);
    CHECK(here.lock_open_file(F_UNLCK) == 0);
    CHECK(native.lock_open_file(F_WRLCK, kLockFirstTen) == 0);
    CHECK(native.lock_file(LOCK_SH) == EWOULDBLOCK);
    CHECK(native.lock_open_file(F_UNLCK) == 0);
    // Another one's end is none of it.
    Locker beside(dir.path());
    CHECK(beside.lock(F_WRLCK, kLockNextTen) == 0);
    CHECK(beside.process.close(beside.fd) == 0);
    CHECK(native.lock(F_WRLCK, kLockNextTen) == 0);
    CHECK(native.lock_file(LOCK_SH) == EWOULDBLOCK);
    CHECK(here.lock_open_file(F_WRLCK, kLockFirstTen) == 0);
    CHECK(here.lock_file(LOCK_UN) == 0);
    CHECK(native.lock_file(LOCK_SH) == 0);
    CHECK(native.lock(F_WRLCK, kLockMiddle) == EAGAIN);
  }
  CHECK(dir.mount.end() == "");
}

namespace {

// The kernel's own locks of another file are the model: what four processes do there must come to
// the same as with one natively at the file, and the others at mounts of it.
class LockModel {
 public:
  LockModel(const std::vector<std::string>& paths, const std::string& model_path) {
    for (const std::string& path : paths) {
      tested_.push_back(std::make_unique<Locker>(path));
      model_.push_back(std::make_unique<Locker>(model_path));
    }
  }

  void step(test::Random& random) {
    constexpr std::array kTypes = {F_RDLCK, F_WRLCK, F_UNLCK};
    const size_t who = random.below(tested_.size());
    const int type = kTypes.at(random.below(kTypes.size()));
    const LockRange range = {.start = static_cast<off_t>(random.below(kBytes)),
                             .length = static_cast<off_t>(random.below(6))};
    INFO("process " << who << ", type " << type << ", from " << range.start << ", " << range.length
                    << " bytes");
    REQUIRE(tested_[who]->lock(type, range) == model_[who]->lock(type, range));
    const size_t asker = random.below(tested_.size());
    INFO("seen by process " << asker);
    REQUIRE(tested_[asker]->others(kBytes) == model_[asker]->others(kBytes));
  }

 private:
  static constexpr int kBytes = 12;
  std::vector<std::unique_ptr<Locker>> tested_, model_;
};

}  // namespace

TEST_CASE("lock: any locks by anybody are granted, split and joined as the kernel's own are") {
  const uint64_t seed = test::seed();
  INFO("seed " << seed);
  test::Random random(seed);
  LockedDir dir;
  Mount other(dir.directory.path());
  const TempDir model;
  put_file(model / "file");
  {
    LockModel both({dir.path(), dir.path(), other / "file", dir.native_path()}, model / "file");
    for (int i = 0; i < 300; ++i) both.step(random);
  }
  CHECK(dir.mount.end() == "");
  CHECK(other.end() == "");
}

// ---- What is in the way -------------------------------------------------------------------------

TEST_CASE("lock: F_GETLK shows what a native program holds") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker native(dir.native_path());
    CHECK(here.process.blocker(here.fd, F_WRLCK).l_type == F_UNLCK);
    REQUIRE(native.lock(F_WRLCK, kLockNextTen) == 0);
    struct flock found = here.process.blocker(here.fd, F_RDLCK);
    CHECK(found.l_type == F_WRLCK);
    CHECK(found.l_whence == SEEK_SET);
    CHECK(found.l_start == 10);
    CHECK(found.l_len == 10);
    CHECK(here.process.blocker(here.fd, F_WRLCK, kLockFirstTen).l_type == F_UNLCK);
    REQUIRE(native.unlock() == 0);
    REQUIRE(native.lock(F_RDLCK, {.start = 7, .length = 0}) == 0);
    CHECK(here.process.blocker(here.fd, F_RDLCK).l_type == F_UNLCK);
    found = here.process.blocker(here.fd, F_WRLCK);
    CHECK(found.l_type == F_RDLCK);
    CHECK(found.l_start == 7);
    CHECK(found.l_len == 0);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: F_GETLK shows what another process of the mount holds, and whose it is") {
  LockedDir dir;
  {
    Locker here(dir.path());
    Locker beside(dir.path());
    REQUIRE(beside.lock(F_RDLCK, kLockNextTen) == 0);
    const struct flock found = here.process.blocker(here.fd, F_WRLCK);
    CHECK(found.l_type == F_RDLCK);
    CHECK(found.l_start == 10);
    CHECK(found.l_len == 10);
    CHECK(found.l_pid == beside.process.pid());
    CHECK(here.process.blocker(here.fd, F_RDLCK).l_type == F_UNLCK);
    // One's own is in nobody's own way.
    CHECK(beside.process.blocker(beside.fd, F_WRLCK).l_type == F_UNLCK);
  }
  CHECK(dir.mount.end() == "");
}

// ---- Processes of one mount ---------------------------------------------------------------------

TEST_CASE("lock: a forked child has none of its parent's locks, and ends none") {
  LockedDir dir;
  {
    const Fd file(dir.path(), O_RDWR);
    struct flock whole {};
    whole.l_type = F_WRLCK;
    REQUIRE(fcntl(file.get(), F_SETLK, &whole) == 0);
    Child child([&] {
      struct flock again {};
      again.l_type = F_WRLCK;
      const int error = fcntl(file.get(), F_SETLK, &again) == 0 ? 0 : errno;
      return close(file.get()) == 0 ? error : 1;
    });
    const auto status = child.wait();
    REQUIRE(status);
    CHECK((WIFEXITED(*status) && WEXITSTATUS(*status) == EAGAIN));
    Locker native(dir.native_path());
    CHECK(native.lock(F_RDLCK) == EAGAIN);
  }
  CHECK(dir.mount.end() == "");
}

namespace {

void check_lock_wait_ends_by(LockedDir& dir, const std::string& holder_path, const EndOfLock& end) {
  Locker holder(holder_path);
  const int another = holder.process.open(holder_path, O_RDONLY);
  Locker waiter(dir.path());
  REQUIRE(holder.lock(F_WRLCK) == 0);
  CHECK(waiter.lock(F_WRLCK) == EAGAIN);
  waiter.begin_wait(F_WRLCK);
  CHECK_FALSE(waiter.process.answered());
  end(holder, another);
  CHECK(waiter.process.finish() == 0);
  Locker third(dir.native_path());
  CHECK(third.lock(F_RDLCK) == EAGAIN);
}

}  // namespace

TEST_CASE("lock: F_SETLKW waits until who holds it unlocks, closes any descriptor, or ends") {
  for (const std::string options : {"", "max_threads=1"}) {
    LockedDir dir(options);
    for (const auto& [how, end] : ends_of_locks()) {
      INFO("-o " << options << ": a process of the mount " << how);
      check_lock_wait_ends_by(dir, dir.path(), end);
    }
    CHECK(dir.mount.end() == "");
  }
}

TEST_CASE("lock: F_SETLKW waits for native programs likewise") {
  LockedDir dir;
  for (const auto& [how, end] : ends_of_locks()) {
    INFO("it " << how);
    check_lock_wait_ends_by(dir, dir.native_path(), end);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: a lock that was made weaker lets in readers that wait, and not writers") {
  LockedDir dir;
  {
    Locker holder(dir.path());
    Locker reader(dir.path());
    Locker writer(dir.path());
    REQUIRE(holder.lock(F_WRLCK) == 0);
    reader.begin_wait(F_RDLCK);
    writer.begin_wait(F_WRLCK);
    CHECK(holder.lock(F_RDLCK) == 0);
    CHECK(reader.process.finish() == 0);
    CHECK_FALSE(writer.process.answered());
    CHECK(holder.unlock() == 0);
    CHECK_FALSE(writer.process.answered());
    CHECK(reader.unlock() == 0);
    CHECK(writer.process.finish() == 0);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: a descriptor for reading has locks for reading") {
  for (const std::string options : {"", "ro"}) {
    INFO("-o " << options);
    LockedDir dir(options);
    {
      Locker here(dir.path(), O_RDONLY);
      Locker beside(dir.path(), O_RDONLY);
      Locker native(dir.native_path());
      CHECK(here.lock(F_RDLCK, kLockFirstTen) == 0);
      CHECK(beside.lock(F_RDLCK, kLockFirstTen) == 0);
      CHECK(here.lock(F_WRLCK, kLockFirstTen) == EBADF);
      CHECK(native.others(12) == "rrrrrrrrrr--");
      CHECK(native.lock(F_WRLCK, kLockMiddle) == EAGAIN);
      CHECK(here.unlock() == 0);
      CHECK(native.lock(F_WRLCK, kLockMiddle) == EAGAIN);
      CHECK(beside.process.close(beside.fd) == 0);
      CHECK(native.lock(F_WRLCK, kLockMiddle) == 0);
      CHECK(here.lock(F_RDLCK, kLockFirstTen) == EAGAIN);
    }
    CHECK(dir.mount.end() == "");
  }
}

// A holder is a file that the daemon has open.
TEST_CASE("lock: who was refused and closes leaves nothing open in the daemon") {
  LockedDir dir;
  const auto open_files = [&dir] {
    const std::filesystem::directory_iterator all("/proc/" + std::to_string(dir.mount.pid()) +
                                                  "/fd");
    return std::distance(begin(all), end(all));
  };
  {
    Locker native(dir.native_path());
    REQUIRE(native.lock_file(LOCK_EX) == 0);
    Locker here(dir.path());  // the file stays open
    const auto before = open_files();
    for (int i = 0; i < 200; ++i) {
      const int fd = here.process.open(dir.path());
      REQUIRE(here.process.lock_file(fd, LOCK_EX | LOCK_NB) == EWOULDBLOCK);
      REQUIRE(here.process.close(fd) == 0);
    }
    // release() is not waited for.
    CHECK(test::eventually([&] { return open_files() < before + 5; }));
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: flock waits until it is free, here or natively") {
  LockedDir dir;
  for (const std::string& path : {dir.path(), dir.native_path()}) {
    INFO("held at " << path);
    Locker holder(path);
    Locker waiter(dir.path());
    REQUIRE(holder.lock_file(LOCK_EX) == 0);
    waiter.process.begin_wait_for_file(waiter.fd, LOCK_EX);
    REQUIRE(wait_until([&] { return waiter.process.waits(); }));
    CHECK_FALSE(waiter.process.answered());
    CHECK(holder.lock_file(LOCK_UN) == 0);
    CHECK(waiter.process.finish() == 0);
    CHECK(holder.lock_file(LOCK_SH) == EWOULDBLOCK);
  }
  CHECK(dir.mount.end() == "");
}

// ---- Waiting ------------------------------------------------------------------------------------

TEST_CASE("lock: a signal ends a wait with EINTR, and nothing was got by it") {
  for (const bool natively : {false, true}) {
    LockedDir dir;
    INFO("held " << (natively ? "natively" : "through the mount"));
    {
      Locker holder(natively ? dir.native_path() : dir.path());
      Locker waiter(dir.path());
      Locker third(dir.native_path());
      REQUIRE(holder.lock(F_WRLCK) == 0);
      for (int round = 0; round < 5; ++round) {
        waiter.begin_wait(F_WRLCK);
        // Again: one that comes before the call is entered interrupts nothing.
        CHECK(wait_until([&] {
          waiter.process.signal(SIGUSR1);
          return waiter.process.answered();
        }));
        CHECK(waiter.process.finish() == EINTR);
      }
      CHECK(holder.unlock() == 0);
      CHECK(third.lock(F_WRLCK) == 0);
      CHECK(third.unlock() == 0);
      CHECK(waiter.lock(F_WRLCK) == 0);
    }
    CHECK(dir.mount.end() == "");
  }
}

TEST_CASE("lock: who is killed as he waits, or as it becomes free, leaves no lock behind") {
  LockedDir dir;
  for (int round = 0; round < 10; ++round) {
    INFO("round " << round);
    Locker holder(dir.path());
    Locker waiter(dir.path());
    Locker third(dir.native_path());
    REQUIRE(holder.lock(F_WRLCK) == 0);
    waiter.begin_wait(F_WRLCK);
    if (round % 2 == 1) CHECK(holder.unlock() == 0);
    CHECK(waiter.process.kill());
    CHECK(holder.unlock() == 0);
    CHECK(third.lock(F_WRLCK) == 0);
  }
  CHECK(dir.mount.end() == "");
}

namespace {

// More than there are workers.
constexpr int kLockWaiters = 80;

using Lockers = std::vector<std::unique_ptr<Locker>>;

Lockers lock_waiters_for(const LockedDir& dir) {
  Lockers waiters;
  for (int i = 0; i < kLockWaiters; ++i) {
    waiters.push_back(std::make_unique<Locker>(dir.path()));
    waiters.back()->begin_wait(F_WRLCK);
  }
  REQUIRE(wait_until([&] { return dir.mount.figure("requests.active") >= kLockWaiters; }));
  return waiters;
}

// Whoever has got it gives it up for the next one.
void check_each_gets_lock(Lockers waiters) {
  const auto pass_on = [](const std::unique_ptr<Locker>& one) {
    if (!one->process.answered()) return false;
    CHECK(one->process.finish() == 0);
    CHECK(one->unlock() == 0);
    return true;
  };
  CHECK(wait_until([&] {
    std::erase_if(waiters, pass_on);
    return waiters.empty();
  }));
}

void check_many_lock_waiters(const std::string& options, bool natively) {
  INFO("-o " << options << ", held " << (natively ? "natively" : "through the mount"));
  LockedDir dir(options);
  put_file(dir.directory / "other", "other content");
  {
    Locker holder(natively ? dir.native_path() : dir.path());
    REQUIRE(holder.lock(F_WRLCK) == 0);
    Lockers waiters = lock_waiters_for(dir);
    // In processes of their own, whose answers are waited for with a deadline.
    Locker other(dir.mount / "other");
    CHECK(other.process.read(other.fd, 100) == "other content");
    CHECK(other.process.write(other.fd, "OTHER") == 0);
    CHECK(other.lock(F_WRLCK) == 0);
    CHECK(other.unlock() == 0);
    const int same = other.process.open(dir.path());
    CHECK(other.process.read(same, 100) == "content");
    CHECK(other.process.blocker(same, F_WRLCK).l_type == F_WRLCK);
    CHECK(other.process.lock(same, F_RDLCK) == EAGAIN);
    CHECK(holder.process.write(holder.fd, "CONTENT") == 0);
    for (const auto& one : waiters) CHECK_FALSE(one->process.answered());
    CHECK(holder.unlock() == 0);
    check_each_gets_lock(std::move(waiters));
  }
  CHECK(dir.mount.end() == "");
  CHECK(text_of(dir.directory / "other") == "OTHER content");
}

}  // namespace

TEST_CASE("lock: many that wait hold up nobody, and each gets it in the end") {
  for (const std::string options : {"", "max_threads=1"}) {
    for (const bool natively : {false, true}) check_many_lock_waiters(options, natively);
  }
}

TEST_CASE("lock: a mount ends while somebody waits for a lock") {
  const auto force = [](Mount& mount) {
    CHECK(umount2(mount.path().c_str(), MNT_FORCE | MNT_DETACH) == 0);
  };
  const auto end_by_signal = [](Mount& mount) { mount.begin_end(Mount::How::kSignal); };
  for (const bool natively : {false, true}) {
    for (const auto& begin_end :
         {std::function<void(Mount&)>(force), std::function<void(Mount&)>(end_by_signal)}) {
      LockedDir dir;
      Locker holder(natively ? dir.native_path() : dir.path());
      Locker waiter(dir.path());
      REQUIRE(holder.lock(F_WRLCK) == 0);
      waiter.begin_wait(F_WRLCK);
      begin_end(dir.mount);
      CHECK(waiter.process.finish() != 0);
      CHECK(dir.mount.finish_end() == "");
      // Nor is a lock left that was held through it.
      Locker third(dir.native_path());
      CHECK(third.lock(F_WRLCK) == (natively ? EAGAIN : 0));
    }
  }
}

TEST_CASE("lock: a mount ends when those that wait in it were killed") {
  for (const Mount::How how : {Mount::How::kUmount, Mount::How::kLazy}) {
    LockedDir dir;
    Locker holder(dir.native_path());
    REQUIRE(holder.lock(F_WRLCK) == 0);
    Locker waiter(dir.path());
    waiter.begin_wait(F_WRLCK);
    if (how == Mount::How::kLazy) dir.mount.begin_end(how);
    CHECK(waiter.process.kill());
    if (how == Mount::How::kUmount) dir.mount.begin_end(how);
    CHECK(dir.mount.finish_end() == "");
  }
}

// What the kernel is told with each lock may want pages written, which nobody does who has ended.
TEST_CASE("lock: a mount ends while what is mapped is written and locked again and again") {
  for (int round = 0; round < 5; ++round) {
    INFO("round " << round);
    LockedDir dir;
    put_file(dir.native_path(), counter_text(0));
    Child writer([path = dir.path()] {
      return test::count_mapped_under_lock(path, 1'000'000, LockCall::kFcntl);
    });
    CHECK(wait_until([&] { return text_of(dir.native_path()) >= counter_text(10 + round); }));
    CHECK(writer.running());
    dir.mount.begin_end(Mount::How::kSignal);
    CHECK(dir.mount.finish_end() == "");
    // By an error, or by what the mapping's pages come to.
    CHECK(writer.wait());
  }
}

TEST_CASE("lock: a daemon that is killed leaves no locks") {
  LockedDir dir;
  Locker here(dir.path());
  Locker native(dir.native_path());
  REQUIRE(here.lock(F_WRLCK) == 0);
  CHECK(native.lock(F_WRLCK) == EAGAIN);
  dir.mount.kill_daemon();
  CHECK(native.lock(F_WRLCK) == 0);
}

// ---- Caches that agree --------------------------------------------------------------------------

namespace {

// Two mounts of a directory with a file.
struct LockMounts {
  explicit LockMounts(const std::string& options, const std::string& content = {})
      : one((put_file(directory / "file", content), directory.path()), options),
        two(directory.path(), options) {}

  [[nodiscard]] std::vector<std::string> paths() const { return {one / "file", two / "file"}; }
  [[nodiscard]] std::string native_path() const { return directory / "file"; }
  void check_ends() {
    CHECK(one.end() == "");
    CHECK(two.end() == "");
  }

  TempDir directory;
  Mount one, two;
};

// Bytes of several pages.
std::string lock_turn_text(int round) { return test::noise(static_cast<uint64_t>(round), 12'000); }

// Shorter and longer than what was there before, by pages and by bytes.
std::string sized_lock_turn_text(int round) {
  return lock_turn_text(round).substr(0, static_cast<size_t>(1 + round * 2'711 % 12'000));
}

Lockers lockers_at(const std::vector<std::string>& paths) {
  Lockers all;
  for (const std::string& path : paths) all.push_back(std::make_unique<Locker>(path));
  return all;
}

using TurnText = std::string (*)(int round);

// Each in turn sees what the one before left, and leaves something else.
void check_lock_turns(const Lockers& all, LockCall call, int rounds, TurnText text_of_round) {
  std::string expected = text_of_round(0);
  REQUIRE(all[0]->process.wait_for(all[0]->fd, call) == 0);
  REQUIRE(all[0]->process.truncate(all[0]->fd, expected.size()) == 0);
  REQUIRE(all[0]->process.write(all[0]->fd, expected) == 0);
  REQUIRE(all[0]->process.give_up(all[0]->fd, call) == 0);
  for (int round = 1; round <= rounds; ++round) {
    INFO("round " << round);
    Locker& one = *all[static_cast<size_t>(round) % all.size()];
    REQUIRE(one.process.wait_for(one.fd, call) == 0);
    CHECK(one.process.size(one.fd) == static_cast<off_t>(expected.size()));
    const bool same = one.process.read(one.fd, LockProcess::kLargestText) == expected;
    REQUIRE(same);
    const std::string next = text_of_round(round);
    if (next.size() < expected.size()) REQUIRE(one.process.truncate(one.fd, next.size()) == 0);
    REQUIRE(one.process.write(one.fd, next) == 0);
    expected = next;
    REQUIRE(one.process.give_up(one.fd, call) == 0);
  }
}

}  // namespace

namespace {

void check_lock_turns_of(const std::string& options, LockCall call, int rounds, TurnText text) {
  LockMounts mounts(options, text(0));
  INFO("-o " << options << (call == LockCall::kFlock ? ", flock" : ""));
  check_lock_turns(lockers_at(mounts.paths()), call, rounds, text);
  CHECK(text_of(mounts.native_path()) == text(rounds));
  std::vector<std::string> paths = mounts.paths();
  paths.push_back(mounts.native_path());
  INFO("and natively");
  check_lock_turns(lockers_at(paths), call, rounds, text);
  mounts.check_ends();
}

}  // namespace

TEST_CASE("lock: who gets a lock sees what was written under the one before") {
  for (const std::string& options : lock_options()) {
    for (const LockCall call : {LockCall::kFcntl, LockCall::kFlock}) {
      check_lock_turns_of(options, call, 31, lock_turn_text);
    }
  }
}

// With writeback_cache the kernel keeps the sizes of files that it knows.
TEST_CASE("lock: who gets a lock sees the file's size as the one before left it") {
  for (const LockCall call : {LockCall::kFcntl, LockCall::kFlock}) {
    check_lock_turns_of("ttl=1h", call, 31, sized_lock_turn_text);
  }
}

// Neither size nor, within a tick of the clock, time tells that there is something new.
TEST_CASE("lock: who gets a lock sees a number that followed another at once") {
  for (const std::string& options : lock_options()) {
    check_lock_turns_of(options, LockCall::kFcntl, 300, counter_text);
  }
}

TEST_CASE("lock: what a reader gets under its shared lock is new each time") {
  for (const std::string& options : lock_options()) {
    INFO("-o " << options);
    LockMounts mounts(options, "none yet");
    {
      Locker writer(mounts.paths()[0]);
      Locker reader(mounts.paths()[1], O_RDONLY);
      for (int round = 0; round < 20; ++round) {
        INFO("round " << round);
        REQUIRE(writer.lock(F_WRLCK) == 0);
        CHECK(reader.lock(F_RDLCK) == EAGAIN);
        CHECK(writer.process.write(writer.fd, counter_text(round)) == 0);
        REQUIRE(writer.unlock() == 0);
        REQUIRE(reader.lock(F_RDLCK) == 0);
        CHECK(reader.process.read(reader.fd, 100) == counter_text(round));
        REQUIRE(reader.unlock() == 0);
      }
    }
    mounts.check_ends();
  }
}

TEST_CASE("lock: what was written is seen by the next however the lock was given up") {
  for (const std::string& options : lock_options()) {
    LockMounts mounts(options, "none yet");
    int number = 0;
    for (const auto& [how, end] : ends_of_locks()) {
      INFO("-o " << options << ": the writer " << how);
      Locker writer(mounts.paths()[0]);
      const int another = writer.process.open(mounts.paths()[0], O_RDONLY);
      Locker reader(mounts.paths()[1]);
      REQUIRE(reader.lock(F_RDLCK) == 0);
      CHECK(reader.process.read(reader.fd, 8).size() == 8);
      REQUIRE(reader.unlock() == 0);
      REQUIRE(writer.lock(F_WRLCK) == 0);
      CHECK(writer.process.write(writer.fd, counter_text(++number)) == 0);
      reader.begin_wait(F_RDLCK);
      end(writer, another);
      CHECK(reader.process.finish() == 0);
      CHECK(reader.process.read(reader.fd, 8) == counter_text(number));
    }
    mounts.check_ends();
  }
}

// The kernel appends at the size that it knows, and nobody asks for that in between.
TEST_CASE("lock: what is appended in turns follows one another") {
  LockMounts mounts("ttl=1h");
  std::string expected;
  {
    std::vector<std::unique_ptr<Locker>> all;
    for (const std::string& path : mounts.paths()) {
      all.push_back(std::make_unique<Locker>(path, O_RDWR | O_APPEND));
    }
    for (int round = 0; round < 40; ++round) {
      Locker& one = *all[static_cast<size_t>(round) % all.size()];
      const LockCall call = round < 20 ? LockCall::kFcntl : LockCall::kFlock;
      const std::string record = "record " + std::to_string(round) + "\n";
      REQUIRE(one.process.wait_for(one.fd, call) == 0);
      REQUIRE(one.process.write(one.fd, record) == 0);
      REQUIRE(one.process.give_up(one.fd, call) == 0);
      expected += record;
      CHECK(text_of(mounts.native_path()) == expected);
    }
  }
  mounts.check_ends();
}

// Pages belong to both of them.
TEST_CASE("lock: two mounts that write into ranges of their own at once do not undo each other") {
  for (const size_t size : {size_t{100}, size_t{6'000}}) {
    INFO(size << " bytes each");
    LockMounts mounts("ttl=1h", std::string(2 * size, '.'));
    {
      const auto length = static_cast<off_t>(size);
      const std::vector<LockRange> ranges = {{.start = 0, .length = length},
                                             {.start = length, .length = length}};
      const Lockers all = lockers_at(mounts.paths());
      for (int round = 0; round < 10; ++round) {
        INFO("round " << round);
        std::string expected;
        for (const size_t i : {size_t{0}, size_t{1}}) {
          REQUIRE(all[i]->lock(F_WRLCK, ranges[i]) == 0);
          expected += std::string(size, static_cast<char>('a' + 2 * round + static_cast<int>(i)));
        }
        for (const size_t i : {size_t{0}, size_t{1}}) {
          CHECK(all[i]->process.write(all[i]->fd, expected.substr(i * size, size), i * size) == 0);
        }
        const size_t first = static_cast<size_t>(round) % 2;
        for (const size_t i : {first, 1 - first}) REQUIRE(all[i]->unlock(ranges[i]) == 0);
        CHECK(text_of(mounts.native_path()) == expected);
        for (const auto& one : all) {
          REQUIRE(one->lock(F_RDLCK) == 0);
          CHECK(one->process.read(one->fd, 2 * size) == expected);
          REQUIRE(one->unlock() == 0);
        }
      }
    }
    mounts.check_ends();
  }
}

TEST_CASE("lock: who gets in as a lock is made weaker sees what was written through a mapping") {
  for (const std::string& options : lock_options()) {
    INFO("-o " << options);
    LockMounts mounts(options, counter_text(0));
    test::check_weaker_lock_shows_mapping(mounts.paths()[0], mounts.paths()[1]);
    mounts.check_ends();
  }
}

TEST_CASE("lock: what is written through a mapping is seen, and a mapping shows what is new") {
  for (const std::string& options : lock_options()) {
    INFO("-o " << options);
    LockMounts mounts(options, std::string(LockProcess::kLargestText, '.'));
    {
      const Lockers all = lockers_at(mounts.paths());
      for (const auto& one : all) REQUIRE(one->process.map(one->fd) == 0);
      std::string expected(8, '.');
      for (int round = 1; round <= 40; ++round) {
        INFO("round " << round);
        Locker& one = *all[static_cast<size_t>(round) % all.size()];
        REQUIRE(one.process.wait_for(one.fd, LockCall::kFcntl) == 0);
        CHECK(one.process.load(8) == expected);
        CHECK(one.process.read(one.fd, 8) == expected);
        expected = counter_text(round);
        // By mapping three times of four: what is written is in mappings too.
        if (round % 4 != 0) {
          one.process.store(expected);
        } else {
          CHECK(one.process.write(one.fd, expected) == 0);
        }
        REQUIRE(one.process.give_up(one.fd, LockCall::kFcntl) == 0);
        CHECK(text_of(mounts.native_path()).substr(0, 8) == expected);
      }
    }
    mounts.check_ends();
  }
}

namespace {

void check_lock_counters(const std::string& options, LockCall call,
                         int (*counter)(const std::string&, int, LockCall)) {
  INFO("-o " << options << (call == LockCall::kFlock ? ", flock" : "")
             << (counter == test::count_mapped_under_lock ? ", mapped" : ""));
  LockMounts mounts(options, counter_text(0));
  test::check_counted_once_each({mounts.paths()[0], mounts.paths()[1]}, call, counter);
  CHECK(text_of(mounts.native_path()) == counter_text(80));
  mounts.check_ends();
}

}  // namespace

TEST_CASE("lock: what is counted under a lock, by two mounts at once, is counted once each") {
  for (const std::string& options : lock_options()) {
    for (const LockCall call : {LockCall::kFcntl, LockCall::kFlock}) {
      check_lock_counters(options, call, test::count_under_lock);
      check_lock_counters(options, call, test::count_mapped_under_lock);
    }
  }
}

namespace {

// For Children; 0, or which of the calls failed.
int lock_and_close(const std::string& path, int times) {
  for (int i = 0; i < times; ++i) {
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return 1;
    struct flock whole {};
    whole.l_type = F_WRLCK;
    if (fcntl(fd, F_SETLKW, &whole) != 0) return 2;
    if (close(fd) != 0) return 3;
  }
  return 0;
}

int open_and_read(const std::string& path, int times) {
  for (int i = 0; i < times; ++i) {
    if (test::read_file(path).size() != counter_text(0).size()) return 1;
  }
  return 0;
}

}  // namespace

// The kernel, as it is told to forget pages, wants them written, and holds those that read.
TEST_CASE("lock: one worker is enough for those that map, lock, close and read at once") {
  constexpr int kTimes = 200;
  LockedDir dir("max_threads=1");
  put_file(dir.native_path(), counter_text(0));
  {
    Child counts([path = dir.path()] {
      return test::count_mapped_under_lock(path, kTimes, LockCall::kFcntl);
    });
    Child closes([path = dir.path()] { return lock_and_close(path, kTimes); });
    Child reads([path = dir.path()] { return open_and_read(path, 5 * kTimes); });
    for (Child* const one : {&counts, &closes, &reads}) CHECK(one->wait() == 0);
  }
  CHECK(dir.mount.end() == "");
  CHECK(text_of(dir.native_path()) == counter_text(kTimes));
}

// ---- The option ---------------------------------------------------------------------------------

TEST_CASE("lock: locks=mount keeps locks within the mount") {
  LockedDir dir("locks=mount");
  {
    Locker here(dir.path());
    Locker beside(dir.path());
    Locker native(dir.native_path());
    REQUIRE(here.lock(F_WRLCK, kLockFirstTen) == 0);
    CHECK(beside.lock(F_WRLCK, kLockMiddle) == EAGAIN);
    const struct flock found = beside.process.blocker(beside.fd, F_WRLCK);
    CHECK(found.l_type == F_WRLCK);
    CHECK(found.l_pid == here.process.pid());
    CHECK(native.lock(F_WRLCK, kLockFirstTen) == 0);
    beside.begin_wait(F_WRLCK);
    CHECK(here.process.kill());
    CHECK(beside.process.finish() == 0);
    CHECK(beside.lock_file(LOCK_EX) == 0);
    CHECK(native.lock_file(LOCK_EX) == 0);
  }
  CHECK(dir.mount.end() == "");
}

TEST_CASE("lock: locks=remote and locks=auto are the remote's where it has locks") {
  for (const std::string options : {"locks=remote", "locks=auto"}) {
    INFO("-o " << options);
    LockedDir dir(options);
    {
      Locker here(dir.path());
      Locker native(dir.native_path());
      CHECK(here.lock(F_WRLCK) == 0);
      CHECK(native.lock(F_WRLCK) == EAGAIN);
      CHECK(here.lock_file(LOCK_EX) == 0);
      CHECK(native.lock_file(LOCK_EX) == EWOULDBLOCK);
    }
    CHECK(dir.mount.end() == "");
  }
}

TEST_CASE("lock: a remote without locks has the kernel's, or is not mounted with locks=remote") {
  const Remote remote("sim");
  {
    Mounted mount(remote);
    REQUIRE(test::write_file(mount / "file", "content") == 0);
    {
      Locker here(mount / "file");
      Locker beside(mount / "file");
      CHECK(here.lock(F_WRLCK, kLockFirstTen) == 0);
      CHECK(beside.lock(F_WRLCK, kLockMiddle) == EAGAIN);
      CHECK(beside.lock(F_WRLCK, kLockNextTen) == 0);
      CHECK(here.process.close(here.fd) == 0);
      CHECK(beside.lock(F_WRLCK) == 0);
    }
    CHECK(mount.end() == "");
  }
  std::string said;
  try {
    const Mounted refused(remote, "locks=remote");
  } catch (const std::runtime_error& error) {
    said = error.what();
  }
  // The rig's words, and then the daemon's one line.
  INFO(said);
  CHECK(said.find("not mounted: cookiefs: locks=remote: ") == 0);
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
}
