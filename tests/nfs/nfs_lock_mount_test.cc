// Locks of files on an NFS version 4 server: between mounts, over its restarts, and what is seen
// under them.

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/delay_proxy.h"
#include "tests/support/eventually.h"
#include "tests/support/ganesha.h"
#include "tests/support/lock_checks.h"
#include "tests/support/lock_process.h"
#include "tests/support/mount.h"

using test::Child;
using test::counter_text;
using test::DelayProxy;
using test::Ganesha;
using test::LockCall;
using test::Locker;
using test::LockProcess;
using test::LockRange;
using test::Mount;
using test::put_file;
using test::text_of;
using test::wait_until;

namespace {

constexpr LockRange kNfsFirstTen = {.start = 0, .length = 10};
constexpr LockRange kNfsMiddle = {.start = 4, .length = 2};
constexpr LockRange kNfsNextTen = {.start = 10, .length = 10};

Ganesha& nfs_lock_server() {
  static Ganesha instance;
  return instance;
}

// A file of an export, and two clients of the server that have it.
class NfsLockMounts {
 public:
  // `port` 0: the server's own; else one's through which the first client goes.
  explicit NfsLockMounts(const std::string& options = {}, const std::string& content = "content",
                         const Ganesha& server = nfs_lock_server(), uint16_t port = 0)
      : name_(next_name()),
        native_path_(server.directory("plain") + "/" + name_),
        one_((put_file(native_path_, content), server.url("/plain", port, "4")), options),
        two_(server.url("/plain", 0, "4"), options) {}
  ~NfsLockMounts() { unlink(native_path_.c_str()); }
  NfsLockMounts(const NfsLockMounts&) = delete;
  NfsLockMounts& operator=(const NfsLockMounts&) = delete;

  [[nodiscard]] std::string one() const { return one_ / name_; }
  [[nodiscard]] std::string two() const { return two_ / name_; }
  [[nodiscard]] const std::string& native_path() const { return native_path_; }
  void check_ends() {
    CHECK(one_.end() == "");
    CHECK(two_.end() == "");
  }

 private:
  // Never one that the server knows as another file's.
  static std::string next_name() {
    static int number = 0;
    return "locked-" + std::to_string(++number);
  }

  const std::string name_, native_path_;
  Mount one_, two_;
};

}  // namespace

// ---- Two clients --------------------------------------------------------------------------------

TEST_CASE("NFS locks: a range that one mount has is refused to the other", "[mount]") {
  NfsLockMounts mounts;
  {
    Locker one(mounts.one());
    Locker beside(mounts.one());
    Locker two(mounts.two());
    REQUIRE(one.lock(F_WRLCK, kNfsFirstTen) == 0);
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
    CHECK(two.lock(F_RDLCK, {}) == EAGAIN);
    CHECK(beside.lock(F_RDLCK, kNfsMiddle) == EAGAIN);
    CHECK(two.lock(F_WRLCK, kNfsNextTen) == 0);
    CHECK(one.lock(F_WRLCK, {}) == EAGAIN);
    CHECK(two.others(12) == "wwwwwwwwww--");
    CHECK(beside.others(12) == "wwwwwwwwwwww");
    REQUIRE(one.unlock(kNfsMiddle) == 0);
    CHECK(two.others(12) == "wwww--wwww--");
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == 0);
    CHECK(one.lock(F_RDLCK, kNfsFirstTen) == EAGAIN);
    CHECK(two.unlock() == 0);
    CHECK(one.lock(F_RDLCK, kNfsFirstTen) == 0);
    CHECK(two.others(12) == "rrrrrrrrrr--");
    CHECK(two.lock(F_RDLCK, {}) == 0);
    CHECK(one.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
    CHECK(two.unlock() == 0);
    CHECK(one.lock(F_WRLCK, kNfsMiddle) == 0);
    CHECK(two.others(12) == "rrrrwwrrrr--");
    CHECK(one.unlock() == 0);
    CHECK(two.others(12) == "------------");
    CHECK(two.lock(F_WRLCK) == 0);
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: F_GETLK shows what the other mount has, and a process of this one",
          "[mount]") {
  NfsLockMounts mounts;
  {
    Locker one(mounts.one());
    Locker beside(mounts.one());
    Locker two(mounts.two());
    CHECK(two.process.blocker(two.fd, F_WRLCK).l_type == F_UNLCK);
    REQUIRE(one.lock(F_WRLCK, kNfsNextTen) == 0);
    struct flock found = two.process.blocker(two.fd, F_RDLCK);
    CHECK(found.l_type == F_WRLCK);
    CHECK(found.l_start == 10);
    CHECK(found.l_len == 10);
    CHECK(two.process.blocker(two.fd, F_WRLCK, kNfsFirstTen).l_type == F_UNLCK);
    found = beside.process.blocker(beside.fd, F_RDLCK);
    CHECK(found.l_type == F_WRLCK);
    CHECK(found.l_pid == one.process.pid());
    CHECK(one.process.blocker(one.fd, F_WRLCK).l_type == F_UNLCK);
    REQUIRE(one.unlock() == 0);
    REQUIRE(one.lock(F_RDLCK, {.start = 7, .length = 0}) == 0);
    CHECK(two.process.blocker(two.fd, F_RDLCK).l_type == F_UNLCK);
    found = two.process.blocker(two.fd, F_WRLCK);
    CHECK(found.l_type == F_RDLCK);
    CHECK(found.l_start == 7);
    CHECK(found.l_len == 0);
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: F_SETLKW waits until who holds it unlocks, closes, or is killed", "[mount]") {
  NfsLockMounts mounts;
  for (const std::string& path : {mounts.one(), mounts.two()}) {
    for (const auto& [how, end] : test::ends_of_locks()) {
      INFO("held at " << path << ", whose process " << how);
      Locker holder(path);
      const int another = holder.process.open(path, O_RDONLY);
      Locker waiter(mounts.two());
      REQUIRE(holder.lock(F_WRLCK) == 0);
      CHECK(waiter.lock(F_WRLCK) == EAGAIN);
      waiter.begin_wait(F_WRLCK);
      CHECK_FALSE(waiter.process.answered());
      end(holder, another);
      CHECK(waiter.process.finish() == 0);
      Locker third(mounts.one());
      CHECK(third.lock(F_RDLCK) == EAGAIN);
    }
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: a wait for the other mount ends by a signal, with nothing got", "[mount]") {
  NfsLockMounts mounts;
  {
    Locker holder(mounts.one());
    Locker waiter(mounts.two());
    Locker killed(mounts.two());
    REQUIRE(holder.lock(F_WRLCK) == 0);
    waiter.begin_wait(F_WRLCK);
    killed.begin_wait(F_WRLCK);
    // Again: one that comes before the call is entered interrupts nothing.
    CHECK(wait_until([&] {
      waiter.process.signal(SIGUSR1);
      return waiter.process.answered();
    }));
    CHECK(waiter.process.finish() == EINTR);
    CHECK(killed.process.kill());
    CHECK(holder.unlock() == 0);
    CHECK(holder.lock(F_WRLCK) == 0);
    CHECK(holder.unlock() == 0);
    CHECK(waiter.lock(F_WRLCK) == 0);
  }
  mounts.check_ends();
}

namespace {

// A line on which a call is under way for long enough to meet it there.
class SlowNfsLine {
 public:
  explicit SlowNfsLine(std::chrono::milliseconds rtt = std::chrono::milliseconds(60))
      : proxy_({.target_host = "127.0.0.1",
                .target_port = nfs_lock_server().nfs_port(),
                .listen_port = 0,
                .rtt = rtt,
                .seed = 1}) {}

  DelayProxy* operator->() { return &proxy_; }
  // The first of them goes through it.
  [[nodiscard]] NfsLockMounts mounts(const std::string& options = {}) const {
    return NfsLockMounts(options, "content", nfs_lock_server(), proxy_.port());
  }

 private:
  DelayProxy proxy_;
};

// A signal that comes when the call of a process has been under way for so long.
void interrupt_lock_call(const Locker& one, int signal, std::chrono::milliseconds after) {
  REQUIRE(wait_until([&] { return one.process.waits(); }));
  std::this_thread::sleep_for(after);
  one.process.signal(signal);
}

}  // namespace

// What the first call got is given back, and not what the one got that followed.
TEST_CASE("NFS locks: what is got by a call that a signal made anew is held", "[mount]") {
  const SlowNfsLine line;
  NfsLockMounts mounts = line.mounts();
  {
    Locker two(mounts.two());
    for (const int command : {F_SETLK, F_SETLKW}) {
      for (int round = 0; round < 5; ++round) {
        INFO((command == F_SETLK ? "F_SETLK" : "F_SETLKW") << ", round " << round);
        Locker one(mounts.one());
        one.process.begin_wait(one.fd, F_WRLCK, {}, command);
        // As its file is opened, as it is locked, and as attributes are asked for.
        interrupt_lock_call(one, SIGUSR2, std::chrono::milliseconds(10 + round * 40));
        REQUIRE(one.process.finish() == 0);
        CHECK(two.lock(F_RDLCK) == EAGAIN);
        // Whatever has been sent by now has come there.
        CHECK(one.process.write(one.fd, "CONTENT") == 0);
        CHECK(one.lock(F_WRLCK, kNfsFirstTen) == 0);
        CHECK(two.lock(F_RDLCK) == EAGAIN);
        CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
        CHECK(one.unlock() == 0);
        REQUIRE(two.lock(F_WRLCK) == 0);
        CHECK(two.process.read(two.fd, 100) == "CONTENT");
        REQUIRE(two.process.write(two.fd, "content") == 0);
        REQUIRE(two.unlock() == 0);
      }
    }
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: a shared lock is left by a signal as it becomes exclusive", "[mount]") {
  const SlowNfsLine line;
  NfsLockMounts mounts = line.mounts();
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    int interrupted = 0;
    for (int round = 0; round < 6; ++round) {
      INFO("round " << round);
      REQUIRE(one.lock(F_RDLCK, kNfsFirstTen) == 0);
      one.begin_wait(F_WRLCK, round % 2 == 0 ? kNfsFirstTen : LockRange());
      interrupt_lock_call(one, SIGUSR1, std::chrono::milliseconds(10 + round * 10));
      if (one.process.finish() == EINTR) {
        ++interrupted;
        CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
        // What the call gets yet, for a moment, is given back.
        CHECK(test::eventually([&] { return two.lock(F_RDLCK) == 0; }));
        CHECK(two.others(12) == "rrrrrrrrrr--");
        CHECK(two.unlock() == 0);
        CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
      }
      CHECK(one.unlock() == 0);
      CHECK(two.lock(F_WRLCK) == 0);
      CHECK(two.unlock() == 0);
    }
    CHECK(interrupted > 0);
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: a descriptor for reading has locks for reading", "[mount]") {
  NfsLockMounts mounts;
  {
    Locker one(mounts.one(), O_RDONLY);
    Locker beside(mounts.one(), O_RDONLY);
    Locker two(mounts.two());
    CHECK(one.lock(F_RDLCK, kNfsFirstTen) == 0);
    CHECK(beside.lock(F_RDLCK, kNfsFirstTen) == 0);
    CHECK(one.lock(F_WRLCK, kNfsFirstTen) == EBADF);
    CHECK(two.others(12) == "rrrrrrrrrr--");
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
    CHECK(one.unlock() == 0);
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
    CHECK(beside.process.close(beside.fd) == 0);
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == 0);
    CHECK(one.lock(F_RDLCK, kNfsFirstTen) == EAGAIN);
  }
  mounts.check_ends();
}

// To open such a file for writing is refused.
TEST_CASE("NFS locks: a file that may only be read has locks for reading", "[mount]") {
  NfsLockMounts mounts("allow_other");
  REQUIRE(chmod(mounts.native_path().c_str(), 0444) == 0);
  Child reader([path = mounts.one()] {
    if (setgid(1000) != 0 || setuid(1000) != 0) return 99;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 98;
    struct flock whole {};
    whole.l_type = F_RDLCK;
    return fcntl(fd, F_SETLK, &whole) == 0 && pause() != 0 ? 0 : errno;
  });
  {
    Locker two(mounts.two());
    CHECK(wait_until([&] {
      return !reader.running() || two.process.blocker(two.fd, F_WRLCK).l_type == F_RDLCK;
    }));
    CHECK(reader.running());
    reader.signal(SIGKILL);
    CHECK(reader.wait());
    CHECK(two.lock(F_WRLCK) == 0);
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: flock of one mount keeps the other out", "[mount]") {
  NfsLockMounts mounts;
  {
    Locker one(mounts.one());
    Locker beside(mounts.one());
    Locker two(mounts.two());
    CHECK(one.lock_file(LOCK_EX) == 0);
    CHECK(two.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(two.lock_file(LOCK_SH) == EWOULDBLOCK);
    CHECK(beside.lock_file(LOCK_EX) == EWOULDBLOCK);
    two.process.begin_wait_for_file(two.fd, LOCK_EX);
    CHECK(wait_until([&] { return two.process.waits(); }));
    CHECK_FALSE(two.process.answered());
    CHECK(one.lock_file(LOCK_UN) == 0);
    CHECK(two.process.finish() == 0);
    CHECK(one.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(two.lock_file(LOCK_SH) == 0);
    CHECK(one.lock_file(LOCK_SH) == 0);
    CHECK(one.lock_file(LOCK_EX) == EWOULDBLOCK);
    CHECK(one.lock_file(LOCK_SH) == 0);
    CHECK(two.process.kill());
    // It is the open file's; release() is not waited for.
    CHECK(test::eventually([&] { return one.lock_file(LOCK_EX) == 0; }));
    CHECK(one.process.close(one.fd) == 0);
    CHECK(test::eventually([&] { return beside.lock_file(LOCK_EX) == 0; }));
  }
  mounts.check_ends();
}

// ---- The server restarts ------------------------------------------------------------------------

namespace {

void check_lock_outlives_server(LockCall call) {
  INFO((call == LockCall::kFlock ? "flock" : "fcntl"));
  Ganesha server(Ganesha::Grace::kTenSeconds);
  NfsLockMounts mounts("ttl=1h", "content", server);
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    REQUIRE(one.process.wait_for(one.fd, call) == 0);
    if (call == LockCall::kFcntl) REQUIRE(one.unlock({.start = 100, .length = 1}) == 0);
    // The holder's process does nothing meanwhile: its daemon learns of the restart by itself. Who
    // asks is told to wait until those who had something have got it again.
    server.restart();
    CHECK(two.process.blocker(two.fd, F_RDLCK).l_type == F_WRLCK);
    if (call == LockCall::kFcntl) {
      CHECK(two.lock(F_RDLCK, kNfsMiddle) == EAGAIN);
      CHECK(two.lock(F_WRLCK, {.start = 101, .length = 0}) == EAGAIN);
      CHECK(two.lock(F_WRLCK, {.start = 100, .length = 1}) == 0);
      CHECK(two.unlock() == 0);
    } else {
      CHECK(two.lock_file(LOCK_SH) == EWOULDBLOCK);
    }
    CHECK(one.process.write(one.fd, "CONTENT") == 0);
    CHECK(one.process.give_up(one.fd, call) == 0);
    CHECK(two.process.wait_for(two.fd, call) == 0);
    CHECK(two.process.read(two.fd, 100) == "CONTENT");
    CHECK(two.process.give_up(two.fd, call) == 0);
    CHECK(one.process.wait_for(one.fd, call) == 0);
  }
  mounts.check_ends();
}

}  // namespace

TEST_CASE("NFS locks: what is held is held still when the server has restarted", "[mount]") {
  check_lock_outlives_server(LockCall::kFcntl);
  check_lock_outlives_server(LockCall::kFlock);
}

// There is no promise to the holder then: another may have had it, and given it up.
TEST_CASE("NFS locks: a server that forgets them without grace is unlocked and locked again",
          "[mount]") {
  Ganesha server;
  NfsLockMounts mounts({}, "content", server);
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    REQUIRE(one.lock(F_WRLCK, kNfsFirstTen) == 0);
    REQUIRE(two.lock(F_RDLCK, kNfsNextTen) == 0);
    server.restart();
    CHECK(one.unlock() == 0);
    CHECK(two.unlock() == 0);
    CHECK(two.lock(F_WRLCK) == 0);
    CHECK(one.lock(F_RDLCK) == EAGAIN);
    one.begin_wait(F_WRLCK);
    CHECK(two.process.kill());
    CHECK(one.process.finish() == 0);
    Locker third(mounts.two());
    CHECK(third.lock(F_RDLCK) == EAGAIN);
  }
  mounts.check_ends();
}

// What they had is asked for before they are told anything else: nobody else is let in between.
TEST_CASE("NFS locks: of those that a restarted server gives grace to, none loses his", "[mount]") {
  Ganesha server(Ganesha::Grace::kTenSeconds);
  NfsLockMounts mounts({}, "content", server);
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    REQUIRE(one.lock(F_WRLCK, kNfsFirstTen) == 0);
    REQUIRE(two.lock(F_WRLCK, kNfsNextTen) == 0);
    server.restart();
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
    CHECK(one.lock(F_RDLCK, kNfsNextTen) == EAGAIN);
    CHECK(one.unlock() == 0);
    CHECK(two.lock(F_WRLCK, kNfsMiddle) == 0);
    CHECK(two.unlock() == 0);
    CHECK(one.lock(F_WRLCK) == 0);
  }
  mounts.check_ends();
}

// Long before the lease is to be renewed: all that one client had is asked for in time, and not
// what notices that the server is new alone.
TEST_CASE("NFS locks: what is held is held still when others notice the restart", "[mount]") {
  Ganesha server(Ganesha::Grace::kTenSecondsOfMinute);
  NfsLockMounts opened({}, "content", server);
  NfsLockMounts written({}, "content", server);
  {
    std::vector<std::unique_ptr<Locker>> holders, others;
    for (const NfsLockMounts* const mounts : {&opened, &written}) {
      holders.push_back(std::make_unique<Locker>(mounts->one()));
      others.push_back(std::make_unique<Locker>(mounts->two()));
      REQUIRE(holders.back()->lock(F_WRLCK, kNfsFirstTen) == 0);
    }
    LockProcess opens, writes;
    const int file = writes.open(written.one());
    server.restart();
    CHECK(writes.write(file, "CONTENT") == 0);
    CHECK(writes.close(file) == 0);  // sends it
    opens.open(opened.one());        // waits until the grace is over
    for (size_t i = 0; i < holders.size(); ++i) {
      INFO("mounts " << i);
      CHECK(others[i]->lock(F_WRLCK, kNfsMiddle) == EAGAIN);
      CHECK(others[i]->lock(F_RDLCK, kNfsMiddle) == EAGAIN);
      CHECK(others[i]->lock(F_WRLCK, kNfsNextTen) == 0);
      CHECK(holders[i]->unlock() == 0);
      CHECK(others[i]->lock(F_WRLCK) == 0);
    }
  }
  opened.check_ends();
  written.check_ends();
}

TEST_CASE("NFS locks: a wait goes on over a restart of the server", "[mount]") {
  Ganesha server;
  NfsLockMounts mounts({}, "content", server);
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    Locker beside(mounts.one(), O_RDONLY);
    REQUIRE(one.lock(F_WRLCK) == 0);
    beside.begin_wait(F_RDLCK);
    server.stop();
    CHECK_FALSE(beside.process.answered());
    server.start();
    CHECK(one.unlock() == 0);
    CHECK(beside.process.finish() == 0);
    CHECK(two.lock(F_WRLCK) == EAGAIN);
  }
  mounts.check_ends();
}

// ---- Caches that agree --------------------------------------------------------------------------

TEST_CASE("NFS locks: who gets one sees what was written under the one before", "[mount]") {
  for (const std::string& options : test::lock_options()) {
    for (const LockCall call : {LockCall::kFcntl, LockCall::kFlock}) {
      INFO("-o " << options << (call == LockCall::kFlock ? ", flock" : ""));
      NfsLockMounts mounts(options, counter_text(0));
      {
        Locker one(mounts.one());
        Locker two(mounts.two());
        for (int round = 0; round < 100; ++round) {
          INFO("round " << round);
          Locker& now = round % 2 == 0 ? one : two;
          REQUIRE(now.process.wait_for(now.fd, call) == 0);
          REQUIRE(now.process.read(now.fd, 100) == counter_text(round));
          REQUIRE(now.process.write(now.fd, counter_text(round + 1)) == 0);
          REQUIRE(now.process.give_up(now.fd, call) == 0);
        }
      }
      CHECK(text_of(mounts.native_path()) == counter_text(100));
      mounts.check_ends();
    }
  }
}

// With writeback_cache the kernel keeps the sizes of files that it knows.
TEST_CASE("NFS locks: who gets one sees the file's size as the one before left it", "[mount]") {
  NfsLockMounts mounts("ttl=1h", "");
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    std::string expected;
    for (int round = 0; round < 30; ++round) {
      INFO("round " << round);
      Locker& now = round % 2 == 0 ? one : two;
      REQUIRE(now.process.wait_for(now.fd, LockCall::kFcntl) == 0);
      CHECK(now.process.size(now.fd) == static_cast<off_t>(expected.size()));
      const bool same = now.process.read(now.fd, LockProcess::kLargestText) == expected;
      REQUIRE(same);
      const auto size = static_cast<size_t>(round * 2'711 % 12'000);
      expected = std::string(size, static_cast<char>('a' + round % 26));
      REQUIRE(now.process.truncate(now.fd, size / 2) == 0);
      REQUIRE(now.process.write(now.fd, expected) == 0);
      REQUIRE(now.process.give_up(now.fd, LockCall::kFcntl) == 0);
    }
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: what was written is seen however the lock was given up", "[mount]") {
  // A line on which what is asked for takes a while.
  const DelayProxy proxy({.target_host = "127.0.0.1",
                          .target_port = nfs_lock_server().nfs_port(),
                          .listen_port = 0,
                          .rtt = std::chrono::milliseconds(10),
                          .seed = 1});
  for (const std::string& options : test::lock_options()) {
    NfsLockMounts mounts(options, counter_text(0), nfs_lock_server(), proxy.port());
    int number = 0;
    for (const auto& [how, end] : test::ends_of_locks()) {
      INFO("-o " << options << ": the writer " << how);
      Locker writer(mounts.one());
      const int another = writer.process.open(mounts.one(), O_RDONLY);
      Locker reader(mounts.two());
      CHECK(reader.process.read(reader.fd, 100) == counter_text(number));
      REQUIRE(writer.lock(F_WRLCK) == 0);
      CHECK(writer.process.write(writer.fd, counter_text(++number)) == 0);
      reader.begin_wait(F_RDLCK);
      end(writer, another);
      CHECK(reader.process.finish() == 0);
      CHECK(reader.process.read(reader.fd, 100) == counter_text(number));
    }
    mounts.check_ends();
  }
}

namespace {

// The lock is the file's until the server has what was written, however long that takes, and
// whether or not anybody waits for it.
void check_nfs_holder_ends_slowly(const std::string& options, LockCall call,
                                  const std::function<void(Locker&)>& end) {
  INFO("-o " << options << (call == LockCall::kFlock ? ", flock" : ""));
  SlowNfsLine line(std::chrono::milliseconds(0));
  NfsLockMounts mounts = line.mounts(options);
  {
    Locker writer(mounts.one());
    Locker next(mounts.two());
    REQUIRE(writer.process.wait_for(writer.fd, call) == 0);
    CHECK(writer.process.read(writer.fd, 100) == "content");  // which is known, then
    line->stall();
    CHECK(writer.process.write(writer.fd, "CONTENT") == 0);
    // More than is asked for at a time: the unlock could pass what is still to be sent.
    const std::string chunk(LockProcess::kLargestText - 1, 'x');
    constexpr uint64_t kChunks = 500;
    for (uint64_t i = 1; i <= kChunks; ++i) {
      REQUIRE(writer.process.write(writer.fd, chunk, i * chunk.size()) == 0);
    }
    end(writer);
    // As long as it takes whoever ended to be gone, and longer.
    for (int i = 0; i < 30; ++i) {
      REQUIRE(next.lock(F_RDLCK) == EAGAIN);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    CHECK(text_of(mounts.native_path()) == "content");
    next.begin_wait(F_RDLCK);
    CHECK_FALSE(next.process.answered());
    line->resume();
    CHECK(next.process.finish() == 0);
    CHECK(next.process.read(next.fd, 7) == "CONTENT");
    for (uint64_t i = 1; i <= kChunks; ++i) {
      const bool same = next.process.read(next.fd, chunk.size(), i * chunk.size()) == chunk;
      REQUIRE(same);
    }
  }
  mounts.check_ends();
}

}  // namespace

TEST_CASE("NFS locks: who ends before his data has been sent leaves his lock with it", "[mount]") {
  const auto kill = [](Locker& writer) { writer.process.signal(SIGKILL); };
  // close() gives up, and the process goes.
  const auto kill_and_wait = [](Locker& writer) { CHECK(writer.process.kill()); };
  const auto interrupt_unlock = [](Locker& writer) {
    writer.begin_wait(F_UNLCK);
    interrupt_lock_call(writer, SIGUSR1, std::chrono::milliseconds(10));
    CHECK(writer.process.finish() == EINTR);
    writer.process.signal(SIGKILL);
  };
  for (const LockCall call : {LockCall::kFcntl, LockCall::kFlock}) {
    check_nfs_holder_ends_slowly("ttl=1h", call, kill);
    check_nfs_holder_ends_slowly("ttl=1h,timeout=1s", call, kill_and_wait);
  }
  check_nfs_holder_ends_slowly("ttl=1h", LockCall::kFcntl, interrupt_unlock);
}

// The kernel appends at the size that it knows, and nobody asks for that in between.
TEST_CASE("NFS locks: what is appended in turns follows one another", "[mount]") {
  NfsLockMounts mounts("ttl=1h", "");
  std::string expected;
  {
    Locker one(mounts.one(), O_RDWR | O_APPEND);
    Locker two(mounts.two(), O_RDWR | O_APPEND);
    for (int round = 0; round < 40; ++round) {
      Locker& now = round % 2 == 0 ? one : two;
      const LockCall call = round < 20 ? LockCall::kFcntl : LockCall::kFlock;
      const std::string record = "record " + std::to_string(round) + "\n";
      REQUIRE(now.process.wait_for(now.fd, call) == 0);
      REQUIRE(now.process.write(now.fd, record) == 0);
      REQUIRE(now.process.give_up(now.fd, call) == 0);
      expected += record;
      CHECK(text_of(mounts.native_path()) == expected);
    }
  }
  mounts.check_ends();
}

// Pages belong to both of them.
TEST_CASE("NFS locks: two mounts that write into ranges of their own do not undo each other",
          "[mount]") {
  constexpr LockRange kFirst = {.start = 0, .length = 100};
  constexpr LockRange kSecond = {.start = 100, .length = 100};
  NfsLockMounts mounts("ttl=1h", std::string(200, '.'));
  {
    Locker one(mounts.one());
    Locker two(mounts.two());
    for (int round = 0; round < 10; ++round) {
      INFO("round " << round);
      const std::string first(100, static_cast<char>('a' + round));
      const std::string second(100, static_cast<char>('A' + round));
      REQUIRE(one.lock(F_WRLCK, kFirst) == 0);
      REQUIRE(two.lock(F_WRLCK, kSecond) == 0);
      CHECK(one.process.write(one.fd, first) == 0);
      CHECK(two.process.write(two.fd, second, 100) == 0);
      CHECK((round % 2 == 0 ? one : two).unlock() == 0);
      CHECK((round % 2 == 0 ? two : one).unlock() == 0);
      CHECK(text_of(mounts.native_path()) == first + second);
      for (Locker* const reader : {&one, &two}) {
        REQUIRE(reader->lock(F_RDLCK) == 0);
        CHECK(reader->process.read(reader->fd, 200) == first + second);
        REQUIRE(reader->unlock() == 0);
      }
    }
  }
  mounts.check_ends();
}

TEST_CASE("NFS locks: who gets in as one is made weaker sees what was written by mapping",
          "[mount]") {
  for (const std::string& options : test::lock_options()) {
    INFO("-o " << options);
    NfsLockMounts mounts(options, counter_text(0));
    test::check_weaker_lock_shows_mapping(mounts.one(), mounts.two());
    mounts.check_ends();
  }
}

namespace {

void check_nfs_counters(const std::string& options, LockCall call,
                        int (*counter)(const std::string&, int, LockCall)) {
  INFO("-o " << options << (call == LockCall::kFlock ? ", flock" : "")
             << (counter == test::count_mapped_under_lock ? ", mapped" : ""));
  NfsLockMounts mounts(options, counter_text(0));
  test::check_counted_once_each({mounts.one(), mounts.two()}, call, counter);
  CHECK(text_of(mounts.native_path()) == counter_text(80));
  mounts.check_ends();
}

}  // namespace

TEST_CASE("NFS locks: what is counted under a lock, by two mounts at once, is counted once each",
          "[mount]") {
  for (const std::string& options : test::lock_options()) {
    for (const LockCall call : {LockCall::kFcntl, LockCall::kFlock}) {
      check_nfs_counters(options, call, test::count_under_lock);
      check_nfs_counters(options, call, test::count_mapped_under_lock);
    }
  }
}

// ---- The option ---------------------------------------------------------------------------------

TEST_CASE("NFS locks: version 4 has them, and version 3 is not mounted with locks=remote",
          "[mount]") {
  {
    Mount mount(nfs_lock_server().url("/plain", 0, "4"), "locks=remote");
    CHECK(mount.end() == "");
  }
  std::string said;
  try {
    const Mount refused(nfs_lock_server().url("/plain", 0, "3"), "locks=remote");
  } catch (const std::runtime_error& error) {
    said = error.what();
  }
  // The rig's words, and then the daemon's one line.
  INFO(said);
  CHECK(said.find("not mounted: cookiefs: locks=remote: ") == 0);
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
}

TEST_CASE("NFS locks: version 3 and locks=mount have locks within the mount", "[mount]") {
  const std::string path = nfs_lock_server().directory("plain") + "/within-the-mount";
  put_file(path, "content");
  for (const auto& [version, options] :
       {std::pair<std::string, std::string>("3", ""), {"3", "locks=auto"}, {"4", "locks=mount"}}) {
    INFO("version " << version << ", -o " << options);
    Mount mount(nfs_lock_server().url("/plain", 0, version), options);
    Mount other(nfs_lock_server().url("/plain", 0, version), options);
    {
      Locker here(mount / "within-the-mount");
      Locker beside(mount / "within-the-mount");
      Locker elsewhere(other / "within-the-mount");
      CHECK(here.lock(F_WRLCK, kNfsFirstTen) == 0);
      CHECK(beside.lock(F_WRLCK, kNfsMiddle) == EAGAIN);
      CHECK(elsewhere.lock(F_WRLCK, kNfsMiddle) == 0);
      beside.begin_wait(F_WRLCK);
      CHECK(here.process.kill());
      CHECK(beside.process.finish() == 0);
    }
    CHECK(mount.end() == "");
    CHECK(other.end() == "");
  }
  std::filesystem::remove(path);
}
