// Writing where there is no room, and to remotes that go away and come back.

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/mount/write_rig.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"
#include "tests/support/ssh_server.h"
#ifdef COOKIEFS_HAVE_NFS
#include "tests/support/ganesha.h"
#endif

namespace fs = std::filesystem;

using test::Child;
using test::Fd;
using test::kMiB;
using test::Mount;
using test::Mounted;
using test::noise;
using test::read_file;
using test::Remote;
using test::Tmpfs;
using test::wait_until;
using test::write_file;

namespace {

// A file system with room for 1 MiB: NFS has one that stands on its server.
struct SmallRoom {
  explicit SmallRoom(const std::string& kind) {
#ifdef COOKIEFS_HAVE_NFS
    if (kind.starts_with("nfs")) {
      directory = test::nfs_server().directory("small");
      source = test::nfs_server().url("/small", 0, kind.substr(3));
      return;
    }
#endif
    own = std::make_unique<Tmpfs>("size=1M");
    directory = own->path();
    source = kind == "sftp" ? test::ssh_server().url(directory) : directory;
    if (kind == "sftp") options = test::ssh_server().options() + ",";
  }
  // The server of NFS keeps files open that are removed behind its back.
  ~SmallRoom() {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(directory, ignored)) {
      fs::resize_file(entry.path(), 0, ignored);
      fs::remove(entry.path(), ignored);
    }
  }
  // A little later than its last file's name has gone: with the file's last close.
  [[nodiscard]] bool is_free() const {
    return fs::is_empty(directory) && fs::space(directory).available > kMiB * 9 / 10;
  }
  SmallRoom(const SmallRoom&) = delete;
  SmallRoom& operator=(const SmallRoom&) = delete;

  std::unique_ptr<Tmpfs> own;
  std::string directory, source, options;
};

// Mounted over that kind of remote; SFTP says 'failure' for whatever it is.
struct Small {
  explicit Small(const std::string& kind, const std::string& more = {})
      : room(kind),
        mount(room.source, room.options + "cache_size=32M" + (more.empty() ? "" : "," + more)) {}
  SmallRoom room;
  Mount mount;
};

bool no_room(const std::string& kind, int error) {
  return error == ENOSPC || error == EDQUOT || (kind == "sftp" && error == EIO);
}

// Between two processes.
class Gate {
 public:
  Gate() {
    if (pipe2(ends_, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  }
  ~Gate() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void open() const {
    if (::write(ends_[1], "x", 1) != 1) throw std::runtime_error("no pipe");
  }
  [[nodiscard]] bool pass() const {
    pollfd ready = {.fd = ends_[0], .events = POLLIN, .revents = 0};
    char byte = 0;
    constexpr int kMilliseconds = 60'000;
    return poll(&ready, 1, kMilliseconds) == 1 && ::read(ends_[0], &byte, 1) == 1;
  }

 private:
  int ends_[2] = {-1, -1};
};

// A writer in a process of its own: a server that the test starts would have the file open, too,
// and closing it before exec waits for the remote. 0 when all went well.
int write_across(const std::string& path, const std::string& text, const Gate* written,
                 const Gate* dead) {
  Fd file(path, O_RDWR | O_CREAT);
  const size_t half = text.size() / 2;
  if (file.error() != 0 || file.write(text.substr(0, half)) != 0) return 1;
  written->open();
  if (!dead->pass() || file.write(text.substr(half), half) != 0) return 2;
  if (file.read() != text) return 3;
  written->open();
  if (file.sync() != 0) return 4;
  return file.shut() == 0 ? 0 : 5;
}

}  // namespace

TEST_CASE("write: no room on the remote is told by write, fsync or close") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    for (const bool with_sync : {true, false}) {
      INFO(kind << (with_sync ? ", fsync" : ", close only"));
      Small small(kind);
      Fd file(small.mount / "file", O_RDWR | O_CREAT);
      REQUIRE(file.error() == 0);
      int error = file.write(noise(1, 4 * kMiB));
      if (error == 0 && with_sync) error = file.sync();
      if (error == 0) error = file.shut();
      CHECK(no_room(kind, error));
      file.shut();
      // With room again all is well.
      REQUIRE(unlink((small.mount / "file").c_str()) == 0);
      CHECK(wait_until([&] { return small.room.is_free(); }));
      const std::string text = noise(2, kMiB / 2);
      CHECK(write_file(small.mount / "other", text) == 0);
      const bool same = read_file(small.room.directory + "/other") == text;
      CHECK(same);
      CHECK(small.mount.end() == "");
    }
  }
}

// Trap 28, the second half.
TEST_CASE("write: trap 28: a failed write-back is told once to each open file") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    for (const std::string options : {"", "writeback_cache"}) {
      INFO(kind << ", -o " << options);
      Small small(kind, options);
      Fd writer(small.mount / "file", O_RDWR | O_CREAT);
      Fd other(small.mount / "file", O_RDWR);
      Fd closer(small.mount / "file", O_RDWR);
      REQUIRE(closer.error() == 0);
      // Less than makes the writer itself wait.
      REQUIRE(writer.write(noise(1, 3 * kMiB)) == 0);
      CHECK(no_room(kind, writer.sync()));
      CHECK(writer.sync() == 0);
      CHECK(no_room(kind, other.sync()));
      CHECK(other.sync() == 0);
      const Fd late(small.mount / "file", O_RDWR);
      CHECK(late.sync() == 0);
      CHECK(no_room(kind, closer.shut()));
      CHECK(writer.shut() == 0);
      CHECK(other.shut() == 0);
    }
  }
}

TEST_CASE("write: no room for what was changed in a mapping is told by msync, or by close, once") {
  constexpr size_t kSize = 3 * kMiB;
  for (const std::string& kind : test::shared_remote_kinds()) {
    for (const std::string options : {"", "writeback_cache"}) {
      for (const bool with_sync : {true, false}) {
        INFO(kind << ", -o " << options << (with_sync ? ", msync" : ", close only"));
        Small small(kind, options);
        Fd file(small.mount / "file", O_RDWR | O_CREAT);
        Fd other(small.mount / "file", O_RDWR);
        REQUIRE(ftruncate(file.get(), kSize) == 0);  // a hole: there is room for that
        void* const memory =
            mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
        REQUIRE(memory != MAP_FAILED);
        const std::string text = noise(3, kSize);
        std::memcpy(memory, text.data(), kSize);
        if (with_sync) {
          const int error = msync(memory, kSize, MS_SYNC) == 0 ? 0 : errno;
          CHECK(no_room(kind, error));
          CHECK(msync(memory, kSize, MS_SYNC) == 0);
        }
        munmap(memory, kSize);
        const int closed = file.shut();
        CHECK((with_sync ? closed == 0 : no_room(kind, closed)));
        CHECK(no_room(kind, other.sync()));
        CHECK(other.sync() == 0);
        CHECK(other.shut() == 0);
        CHECK(small.mount.end() == "");
      }
    }
  }
}

TEST_CASE("write: the simulated remote has no room") {
  Mount mount("sim:big=10,space=1M", "cache_size=32M");
  Fd file(mount / "file", O_RDWR | O_CREAT);
  REQUIRE(file.error() == 0);
  int error = file.write(noise(1, 4 * kMiB));
  if (error == 0) error = file.sync();
  CHECK(error == ENOSPC);
  file.shut();
  CHECK(truncate((mount / "file").c_str(), 0) == 0);
  CHECK(write_file(mount / "file", noise(2, kMiB / 2)) == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("write: a way to the remote that is slow is not taken for a dead one") {
  Mount mount("sim:big=10,bandwidth=4M", "timeout=2s,cache_size=64M");
  // Four seconds.
  const std::string text = noise(1, 16 * kMiB);
  CHECK(write_file(mount / "file", text) == 0);
  const bool same = read_file(mount / "file") == text;
  CHECK(same);
  CHECK(mount.end() == "");
}

TEST_CASE("write: nor is it at the unmount") {
  Mount mount("sim:big=10,bandwidth=4M", "timeout=2s,cache_size=64M,close=nowait");
  // All are made first: that is asked for, and would wait behind what is written.
  std::vector<std::unique_ptr<Fd>> files;
  for (int i = 0; i < 16; ++i) {
    files.push_back(std::make_unique<Fd>(mount / test::name_of(i), O_WRONLY | O_CREAT));
  }
  const std::string text = noise(1, kMiB);
  for (const auto& file : files) CHECK(file->write(text) == 0);
  for (const auto& file : files) CHECK(file->shut() == 0);
  mount.begin_end(Mount::How::kUmount);
  CHECK(mount.finish_end() == "");
  CHECK(mount.log().find("are lost") == std::string::npos);
}

TEST_CASE("write: on a slow way to the remote little is under way, for others wait behind it") {
  Mount mount("sim:big=10,bandwidth=2M", "cache_size=64M,close=nowait,ttl=1h");
  const std::string text = noise(1, 16 * kMiB);
  REQUIRE(write_file(mount / "file", text) == 0);
  // All of it would have been sent at once.
  CHECK(wait_until([&] { return mount.figure("remote_latency.write.count") >= 6; }));
  CHECK(mount.figure("unwritten.under_way_bytes") <= static_cast<int64_t>(4 * kMiB));
  CHECK(test::sync(mount) == "");
  Fd file(mount / "file", O_RDONLY);
  REQUIRE(posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);  // the kernel's
  mount.drop();
  const bool same = file.read(8 * kMiB) == text.substr(0, 8 * kMiB);
  CHECK(same);
  CHECK(mount.figure("data.ahead_bytes") >= static_cast<int64_t>(4 * kMiB));
  CHECK(mount.figure("data.ahead_bytes") <= static_cast<int64_t>(13 * kMiB));
  CHECK(file.shut() == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("write: sftp: the server dies with data unwritten, and comes back") {
  const Remote remote("sftp");
  test::SshServer& server = test::ssh_server();
  Mounted mount(remote, "cache_size=32M,timeout=2m");
  const std::string text = noise(5, 3 * kMiB + 77);
  Gate dead;
  Gate written;
  Child writer([&] { return write_across(mount / "file", text, &written, &dead); });
  REQUIRE(written.pass());
  server.kill_sessions();
  server.stop_listening();
  dead.open();
  REQUIRE(written.pass());
  server.listen_again();
  CHECK(writer.wait() == 0);
  const bool there = read_file(remote / "file") == text;
  CHECK(there);
  CHECK(mount.end() == "");
}

TEST_CASE(
    "write: sftp: attributes of a new file that could not be set by its close are set later") {
  const Remote remote("sftp");
  test::SshServer& server = test::ssh_server();
  Mounted mount(remote, "timeout=2s");
  {
    Fd file(mount / "file", O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(file.write("content") == 0);
    REQUIRE(file.sync() == 0);
    REQUIRE(fchmod(file.get(), 0640) == 0);
    server.kill_sessions();
    server.stop_listening();
    CHECK(file.shut() == ETIMEDOUT);
  }
  server.listen_again();
  CHECK(wait_until([&] {
    struct stat status {};
    return stat((remote / "file").c_str(), &status) == 0 && (status.st_mode & 07777) == 0640;
  }));
  CHECK(mount.end() == "");
}

TEST_CASE("write: sftp: sessions die again and again under a writer") {
  const Remote remote("sftp");
  Mounted mount(remote, "cache_size=4M,timeout=2m");
  std::string text;
  Fd file(mount / "file", O_RDWR | O_CREAT | O_EXCL);
  REQUIRE(file.error() == 0);
  for (uint64_t round = 0; round < (test::kSanitized ? 2 : 3); ++round) {
    const std::string more = noise(round, kMiB + 100 * round);
    REQUIRE(file.write(more, text.size()) == 0);
    text += more;
    test::ssh_server().kill_sessions();
    // Changes of the tree too; none may seem to have failed for having been done before.
    const std::string name = mount / ("made-" + std::to_string(round));
    CHECK(mkdir(name.c_str(), 0755) == 0);
    CHECK(rename(name.c_str(), (name + "-renamed").c_str()) == 0);
  }
  CHECK(file.sync() == 0);
  // The last bytes, and what is to be set behind them.
  REQUIRE(file.write("end", text.size()) == 0);
  text += "end";
  const timespec times[] = {{.tv_sec = 1'000'000'000, .tv_nsec = 0},
                            {.tv_sec = 1'100'000'000, .tv_nsec = 0}};
  CHECK(futimens(file.get(), times) == 0);
  CHECK(fchmod(file.get(), 0640) == 0);
  test::ssh_server().kill_sessions();
  CHECK(file.shut() == 0);
  struct stat status {};
  REQUIRE(stat((remote / "file").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0640);
  CHECK(status.st_mtim.tv_sec == 1'100'000'000);
  const bool same = read_file(remote / "file") == text;
  CHECK(same);
  CHECK(mount.end() == "");
}

#ifdef COOKIEFS_HAVE_NFS
TEST_CASE("write: nfs: the server is restarted with data unwritten and not committed") {
  for (const std::string kind : {"nfs3", "nfs4"}) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "cache_size=32M,timeout=2m");
    const std::string text = noise(6, 3 * kMiB + 77);
    Gate dead;
    Gate written;
    Child writer([&] { return write_across(mount / "file", text, &written, &dead); });
    REQUIRE(written.pass());
    // Some of it is on its way, and not committed.
    CHECK(wait_until([&] { return fs::file_size(remote / "file") > 0; }));
    test::nfs_server().stop();
    dead.open();
    REQUIRE(written.pass());
    test::nfs_server().start();
    CHECK(writer.wait() == 0);
    const bool there = read_file(remote / "file") == text;
    CHECK(there);
    CHECK(mount.end() == "");
  }
}
#endif
