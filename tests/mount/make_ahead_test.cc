// close=nowait: files that are made while the remote has not answered yet, over SFTP.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/mount/write_rig.h"

namespace fs = std::filesystem;

using test::Fd;
using test::Mount;
using test::name_of;
using test::noise;
using test::read_file;
using test::status_of;
using test::StoppableServer;
using test::wait_until;
using test::write_file;

namespace {

// The mount of it, with a directory 'd' in which a file was made just now.
class Ahead {
 public:
  explicit Ahead(const std::string& options = "ttl=1h,close=nowait")
      : mount_(server.source(), server.options(options)) {
    REQUIRE(mkdir((mount_ / "d").c_str(), 0755) == 0);
    REQUIRE(write_file(mount_ / "d/sibling", "text") == 0);
    // That names of the other case are others is known from now on.
    REQUIRE(access((mount_ / "d/none").c_str(), F_OK) != 0);
    REQUIRE(sync() == "");
  }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return mount_ / ("d/" + name);
  }
  [[nodiscard]] std::string there(const std::string& name) const { return server / ("d/" + name); }
  // Empty when all is well; else what it said.
  [[nodiscard]] std::string sync() const { return test::sync(mount_); }
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(mount_ / "d")) {
      found.insert(entry.path().filename());
    }
    return found;
  }
  Mount& mount() { return mount_; }

  const StoppableServer server;

 private:
  Mount mount_;
};

bool said(const Mount& mount, const std::string& words) {
  return mount.log().find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("ahead: files are made while the remote says nothing, and are there after a sync") {
  Ahead ahead;
  constexpr size_t kFiles = 20;
  ahead.server.stop();
  std::vector<struct stat> shown;
  for (size_t i = 0; i < kFiles; ++i) {
    const std::string path = ahead / name_of(i);
    // Some with nothing in them, some with another mode.
    Fd file(path, O_WRONLY | O_CREAT | (i % 2 == 0 ? O_EXCL : O_TRUNC), i % 3 == 0 ? 0600 : 0644);
    REQUIRE(file.get() >= 0);
    if (i % 4 != 0) REQUIRE(file.write(noise(i, i * 1'000)) == 0);
    CHECK(file.shut() == 0);
    shown.push_back(status_of(path));
    CHECK(shown.back().st_size == (i % 4 != 0 ? static_cast<off_t>(i * 1'000) : 0));
  }
  CHECK_FALSE(fs::exists(ahead.there(name_of(0))));
  ahead.server.go();
  CHECK(ahead.sync() == "");
  CHECK(ahead.names().size() == kFiles + 1);
  for (size_t i = 0; i < kFiles; ++i) {
    INFO(name_of(i));
    const struct stat there = status_of(ahead.there(name_of(i)));
    CHECK(there.st_mode == shown[i].st_mode);
    CHECK(there.st_uid == shown[i].st_uid);
    CHECK(there.st_gid == shown[i].st_gid);
    CHECK(there.st_mtim.tv_sec == shown[i].st_mtim.tv_sec);
    const bool same = read_file(ahead.there(name_of(i))) == (i % 4 != 0 ? noise(i, i * 1'000) : "");
    CHECK(same);
    CHECK(status_of(ahead / name_of(i)).st_mtim.tv_sec == shown[i].st_mtim.tv_sec);
  }
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: fsync of a file, and of its directory, wait until it is there") {
  Ahead ahead;
  ahead.server.stop();
  Fd file(ahead / "empty", O_WRONLY | O_CREAT | O_EXCL);
  REQUIRE(file.get() >= 0);
  const bool of_directory = GENERATE(false, true);
  std::thread later([&] {
    // It waits by then, or will find it there.
    wait_until([&] { return ahead.mount().figure("requests.active") > 0; });
    ahead.server.go();
  });
  CHECK((of_directory ? Fd(ahead / ".", O_RDONLY | O_DIRECTORY).sync() : file.sync()) == 0);
  CHECK(fs::exists(ahead.there("empty")));
  later.join();
  CHECK(file.shut() == 0);
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: other changes of the names come after it") {
  Ahead ahead;
  ahead.server.stop();
  REQUIRE(write_file(ahead / "one", "first") == 0);
  REQUIRE(write_file(ahead / "two", "second") == 0);
  REQUIRE(write_file(ahead / "three", "third") == 0);
  std::thread other([&] {
    CHECK(rename((ahead / "one").c_str(), (ahead / "two").c_str()) == 0);
    CHECK(unlink((ahead / "three").c_str()) == 0);
    CHECK(mkdir((ahead / "three").c_str(), 0700) == 0);
    CHECK(chmod((ahead / "two").c_str(), 0600) == 0);
  });
  wait_until([&] { return ahead.mount().figure("requests.active") > 0; });
  CHECK_FALSE(fs::exists(ahead.there("one")));
  ahead.server.go();
  other.join();
  CHECK(ahead.sync() == "");
  CHECK(read_file(ahead.there("two")) == "first");
  CHECK((status_of(ahead.there("two")).st_mode & 0777) == 0600);
  CHECK(fs::is_directory(ahead.there("three")));
  CHECK(ahead.names() == std::set<std::string>{"sibling", "two", "three"});
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: a name that somebody else has made meanwhile is theirs, and sync says so") {
  const std::string name = "file\n";  // in the log it is one line
  Ahead ahead;
  ahead.server.stop();
  std::ofstream(ahead.there(name)) << "theirs" << std::flush;
  Fd file(ahead / name, O_RDWR | O_CREAT | O_EXCL);
  REQUIRE(file.get() >= 0);
  CHECK(file.write("ours") == 0);
  const bool closed_before = GENERATE(true, false);
  if (closed_before) CHECK(file.shut() == 0);
  ahead.server.go();
  CHECK(wait_until([&] { return said(ahead.mount(), "\"file\\n\" in inode"); }));
  CHECK(said(ahead.mount(), "could not be made, and what was written to it is lost: File exists"));
  if (!closed_before) {
    CHECK(file.sync() == EEXIST);
    CHECK(file.shut() == 0);
  }
  CHECK(ahead.sync().find("a file that was closed has lost something") != std::string::npos);
  CHECK(ahead.sync() == "");
  CHECK(wait_until([&] { return read_file(ahead / name) == "theirs"; }));
  CHECK(read_file(ahead.there(name)) == "theirs");
  // Told once.
  const std::string log = ahead.mount().log();
  CHECK(log.find("is lost") == log.rfind("is lost"));
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: what somebody else has done in the directory meanwhile is seen") {
  Ahead ahead;
  ahead.server.stop();
  std::ofstream(ahead.there("theirs")) << "text" << std::flush;
  // SFTP tells whole seconds only.
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                             {.tv_sec = time(nullptr) - 10, .tv_nsec = 0}};
  REQUIRE(utimensat(AT_FDCWD, ahead.there(".").c_str(), times, 0) == 0);
  REQUIRE(write_file(ahead / "ours", "text") == 0);
  CHECK(access((ahead / "theirs").c_str(), F_OK) != 0);
  ahead.server.go();
  CHECK(ahead.sync() == "");
  CHECK(ahead.names() == std::set<std::string>{"sibling", "ours", "theirs"});
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: what is being made when the connection is lost is made once, with its data") {
  Ahead ahead;
  constexpr size_t kFiles = 30;
  // All of them unanswered, or some.
  const bool stopped = GENERATE(true, false);
  if (stopped) ahead.server.stop();
  for (size_t i = 0; i < kFiles; ++i) {
    REQUIRE(write_file(ahead / name_of(i), noise(i, i * 500)) == 0);
  }
  ahead.server.end();
  CHECK(ahead.sync() == "");
  CHECK(ahead.names().size() == kFiles + 1);
  for (size_t i = 0; i < kFiles; ++i) {
    INFO(name_of(i));
    const bool same = read_file(ahead.there(name_of(i))) == noise(i, i * 500);
    CHECK(same);
  }
  CHECK_FALSE(said(ahead.mount(), "is lost"));
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: a remote that is silent at the unmount does not keep it from ending") {
  Ahead ahead("ttl=1h,timeout=1s,close=nowait");
  ahead.server.stop();
  Fd file(ahead / "file", O_WRONLY | O_CREAT | O_EXCL);
  REQUIRE(file.get() >= 0);
  CHECK(file.shut() == 0);
  CHECK(ahead.sync().find("timed out") != std::string::npos);
  CHECK(ahead.mount().end() == "");
  CHECK(said(ahead.mount(), "1 new files may be missing: the remote has not answered"));
}

TEST_CASE("ahead: nothing is taken for made that is not known to be new, or like a sibling") {
  Ahead ahead("ttl=1h,timeout=1s,close=nowait");
  std::ofstream(ahead.there("theirs")) << "text" << std::flush;
  REQUIRE(mkdir((ahead / "deeper").c_str(), 0755) == 0);
  ahead.server.stop();
  const auto error = [](const std::string& path, int flags, unsigned mode) {
    return Fd(path, O_WRONLY | O_CREAT | flags, mode).error();
  };
  // What another has made would be written into as it is.
  CHECK(error(ahead / "first", 0, 0644) == ETIMEDOUT);
  // Nothing was made there yet.
  CHECK(error(ahead / "deeper/first", O_EXCL, 0644) == ETIMEDOUT);
  // What becomes of these bits is not known.
  CHECK(error(ahead / "second", O_EXCL, 0755) == ETIMEDOUT);
  ahead.server.go();
  CHECK(ahead.mount().end() == "");
}

TEST_CASE("ahead: by default a file is there when it was made") {
  const StoppableServer server;
  Mount mount(server.source(), server.options("ttl=1h"));
  REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
  for (size_t i = 0; i < 5; ++i) {
    const Fd file(mount / ("d/" + name_of(i)), O_WRONLY | O_CREAT | O_EXCL);
    CHECK(file.get() >= 0);
    CHECK(fs::exists(server / ("d/" + name_of(i))));
  }
  CHECK(mount.end() == "");
}
