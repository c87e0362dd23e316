// close=nowait: what is closed goes on being written, and is waited for by `cookiefsctl sync`,
// fsync and unmounting.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fusefs/control.h"
#include "tests/mount/write_rig.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace fs = std::filesystem;

using test::Fd;
using test::kMiB;
using test::Mount;
using test::Mounted;
using test::name_of;
using test::noise;
using test::read_file;
using test::Remote;
using test::status_of;
using test::sync;
using test::Tmpfs;
using test::wait_until;
using test::write_file;

namespace {

constexpr char kNoWait[] = "ttl=1h,close=nowait";

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

// Of so many bytes, made as tar makes it, or (`plain`) as a shell does.
void make(const std::string& path, const std::string& text, bool plain) {
  Fd file(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  REQUIRE(file.get() >= 0);
  REQUIRE(file.write(text) == 0);
  if (!plain) {
    const timespec times[2] = {{.tv_sec = 1'000'000, .tv_nsec = 0},
                               {.tv_sec = 2'000'000, .tv_nsec = 0}};
    REQUIRE(futimens(file.get(), times) == 0);
    REQUIRE(fchmod(file.get(), 0640) == 0);
  }
  REQUIRE(file.shut() == 0);
}

size_t count_of(const std::string& text, std::string_view what) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++count;
  return count;
}

std::string text_of(size_t i) { return noise(i, 1 + i * 7'777); }

}  // namespace

TEST_CASE("close: nowait: close does not wait for the remote, sync does") {
  Mount mount("sim:big=10,rtt=2s", kNoWait);
  REQUIRE(write_file(mount / "file", "text") == 0);
  CHECK(mount.figure("remote_latency.write.count") == 0);
  CHECK(sync(mount) == "");
  CHECK(mount.figure("remote_latency.write.count") == 1);
  CHECK(mount.end() == "");
}

TEST_CASE("close: nowait: fsync waits") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, kNoWait);
    Fd file(mount / "file", O_WRONLY | O_CREAT);
    REQUIRE(file.write("text") == 0);
    CHECK(file.sync() == 0);
    CHECK(read_file(remote / "file") == "text");
    CHECK(file.shut() == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("close: nowait: after a sync the remote has data, modes and times as they were shown") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, kNoWait);
    constexpr size_t kFiles = 40;
    std::vector<struct stat> shown;
    for (size_t i = 0; i < kFiles; ++i) {
      make(mount / name_of(i), text_of(i), i % 2 == 0);
      shown.push_back(status_of(mount / name_of(i)));
    }
    CHECK(sync(mount) == "");
    for (size_t i = 0; i < kFiles; ++i) {
      INFO(name_of(i));
      const struct stat there = status_of(remote / name_of(i));
      CHECK(there.st_size == shown[i].st_size);
      CHECK(there.st_mode == shown[i].st_mode);
      // SFTP has whole seconds.
      CHECK(there.st_mtim.tv_sec == shown[i].st_mtim.tv_sec);
      if (kind != "sftp") CHECK(same_time(there.st_mtim, shown[i].st_mtim));
      const bool same = read_file(remote / name_of(i)) == text_of(i);
      CHECK(same);
      const bool same_here = read_file(mount / name_of(i)) == text_of(i);
      CHECK(same_here);
    }
    CHECK(mount.end() == "");
  }
}

// What was listed meanwhile told of the remote's mode; a failed mkdir has the kernel ask for the
// name again.
TEST_CASE("close: nowait: a mode that was set before the close stays shown, listed or not") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, kNoWait);
    REQUIRE(mkdir((mount / "dir").c_str(), 0755) == 0);
    const std::string path = mount / "dir/file";
    Fd file(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(file.error() == 0);
    REQUIRE(chmod(path.c_str(), 0640) == 0);
    CHECK(fs::directory_iterator(mount / "dir") != fs::directory_iterator());
    REQUIRE(file.shut() == 0);
    for (int i = 0; i < 2; ++i) {
      CHECK(mkdir(path.c_str(), 0755) != 0);
      CHECK((status_of(path).st_mode & 07777) == 0640);
      CHECK(sync(mount) == "");
    }
    CHECK(mount.end() == "");
  }
}

TEST_CASE("close: nowait: nobody need wait for it to be written") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, kNoWait);
    make(mount / "file", text_of(20), false);
    CHECK(wait_until([&] {
      return read_file(remote / "file") == text_of(20) &&
             status_of(remote / "file").st_mtim.tv_sec == 2'000'000;
    }));
    CHECK(mount.end() == "");
  }
}

TEST_CASE("close: nowait: unmounting waits") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, kNoWait);
    constexpr size_t kFiles = 40;
    for (size_t i = 0; i < kFiles; ++i) make(mount / name_of(i), text_of(i), false);
    CHECK(mount.end() == "");
    for (size_t i = 0; i < kFiles; ++i) {
      INFO(name_of(i));
      const bool same = read_file(remote / name_of(i)) == text_of(i);
      CHECK(same);
      CHECK(status_of(remote / name_of(i)).st_mtim.tv_sec == 2'000'000);
    }
  }
}

TEST_CASE("close: nowait: what is renamed, replaced or removed at once") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, kNoWait);
    constexpr size_t kFiles = 30;
    for (size_t i = 0; i < kFiles; ++i) {
      make(mount / "new", text_of(i), i % 2 == 0);
      REQUIRE(rename((mount / "new").c_str(), (mount / "kept").c_str()) == 0);
      make(mount / "gone", text_of(i), i % 2 == 0);
      REQUIRE(unlink((mount / "gone").c_str()) == 0);
      REQUIRE(write_file(mount / "again", text_of(i)) == 0);
      REQUIRE(write_file(mount / "again", text_of(i + 1)) == 0);
    }
    CHECK(sync(mount) == "");
    const bool kept = read_file(mount / "kept") == text_of(kFiles - 1);
    CHECK(kept);
    const bool again = read_file(mount / "again") == text_of(kFiles);
    CHECK(again);
    CHECK(access((mount / "gone").c_str(), F_OK) != 0);
    CHECK(mount.end() == "");
    if (remote.directory().empty()) continue;
    const bool kept_there = read_file(remote / "kept") == text_of(kFiles - 1);
    CHECK(kept_there);
    const bool again_there = read_file(remote / "again") == text_of(kFiles);
    CHECK(again_there);
    CHECK(std::distance(fs::directory_iterator(remote.directory()), {}) == 2);
  }
}

TEST_CASE("close: nowait: what another changes afterwards is seen, were it of the same size") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=0,close=nowait");
    REQUIRE(write_file(mount / "file", "before") == 0);
    CHECK(sync(mount) == "");
    std::ofstream(remote / "file") << "behind" << std::flush;
    // Nothing but the time tells.
    const timespec times[2] = {{.tv_sec = 1'000'000, .tv_nsec = 0},
                               {.tv_sec = 1'500'000, .tv_nsec = 0}};
    REQUIRE(utimensat(AT_FDCWD, (remote / "file").c_str(), times, 0) == 0);
    CHECK(read_file(mount / "file") == "behind");
    CHECK(mount.end() == "");
  }
}

TEST_CASE("close: nowait: a remote that is silent at the unmount does not keep it from ending") {
  const test::StoppableServer server;
  Mount mount(server.source(), server.options("timeout=1s,close=nowait"));
  make(mount / "first", "text", true);
  CHECK(sync(mount) == "");
  Fd file(mount / "second", O_WRONLY | O_CREAT | O_EXCL);
  REQUIRE(file.write(noise(1, kMiB)) == 0);
  server.stop();
  CHECK(file.shut() == 0);
  CHECK(sync(mount).find("timed out") != std::string::npos);
  mount.begin_end(Mount::How::kUmount);
  CHECK(wait_until(
      [&] { return mount.log().find("up to 1048576 bytes of inode") != std::string::npos; }));
  CHECK(mount.finish_end() == "");
}

TEST_CASE(
    "close: nowait: what the remote refuses is told by the log, by sync once, and at the next "
    "use") {
  const Tmpfs small("size=1M");
  Mount mount(small.path(), "cache_size=32M,close=nowait");
  // Larger than the room, and less than is written before it is closed; unless that takes a second.
  REQUIRE(wait_until([&] { return write_file(mount / "file", noise(1, 3 * kMiB)) == 0; }));
  const std::string said = sync(mount);
  CHECK(said.find("a file that was closed has lost something") != std::string::npos);
  CHECK(sync(mount) == "");
  CHECK(mount.log().find("was closed before the remote had all of it, and data is lost: No space "
                         "left on device") != std::string::npos);
  Fd file(mount / "file", O_WRONLY);
  CHECK(file.sync() == ENOSPC);
  CHECK(file.sync() == 0);
  CHECK(file.shut() == 0);
  CHECK(mount.end() == "");
}

namespace {

// Not by a program: each that is started closes what was open before, and is told by that.
uint64_t count_lost(const Mount& mount) {
  const Fd root(mount / "", O_RDONLY | O_DIRECTORY);
  fusefs::ControlCount files{};
  if (ioctl(root.get(), fusefs::kControlSync, &files) != 0) throw std::runtime_error("sync failed");
  return files.count;
}

}  // namespace

TEST_CASE("close: nowait: sync tells what was lost of a file that another still has open") {
  const Tmpfs small("size=1M");
  Mount mount(small.path(), "cache_size=32M,close=nowait");
  Fd file(mount / "file", O_WRONLY | O_CREAT);
  REQUIRE(wait_until([&] {
    const int shared = dup(file.get());
    return file.write(noise(1, 3 * kMiB)) == 0 && close(shared) == 0;
  }));
  CHECK(count_lost(mount) == 1);
  CHECK(count_lost(mount) == 0);
  CHECK(file.sync() == ENOSPC);
  CHECK(file.shut() == 0);
  CHECK(count_lost(mount) == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("close: nowait: when sync returns all that was lost has been told, whoever syncs too") {
  constexpr size_t kFiles = 400;
  const Tmpfs small("size=64K");
  Mount mount(small.path(), "close=nowait");
  // No room is left.
  REQUIRE(write_file(small.path() + "/first", noise(1, 60 * 1024)) == 0);
  REQUIRE(write_file(small.path() + "/second", noise(1, 8 * 1024)) == ENOSPC);
  std::atomic<bool> end{false};
  std::thread other([&] {
    while (!end) count_lost(mount);
  });
  size_t lost = 0;
  size_t missing = 0;
  for (size_t i = 0; i < kFiles; ++i) {
    lost += write_file(mount / name_of(i), "one page") == 0;
    count_lost(mount);
    missing += count_of(mount.log(), "data is lost") != lost;
  }
  end = true;
  other.join();
  CHECK(lost > 0);
  CHECK(missing == 0);
  CHECK(mount.end() == "");
}
