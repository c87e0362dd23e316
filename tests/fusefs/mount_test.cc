#include "fusefs/mount.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMountinfo =
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
    "40 27 0:30 / /mnt/one rw,nosuid,nodev shared:5 master:7 - fuse.cookiefs sim:big=1 rw\n"
    "41 27 0:31 / /mnt/with\\040space rw - fuse.sshfs host:/a rw,user_id=0\n"
    "42 27 0:32 / /mnt/stack rw - fuse.cookiefs a rw\n"
    "43 42 0:33 / /mnt/stack rw - tmpfs none rw\n"
    "44 27 0:34 / /mnt/torn\n";

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/cookiefs_mount_test.XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path_ = fs::canonical(name);
  }
  ~Directory() { fs::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] std::string path() const { return path_; }

 private:
  fs::path path_;
};

std::string refusal(const std::string& path) {
  std::string absolute, error;
  CHECK_FALSE(fusefs::check_mountpoint(path, &absolute, &error));
  CHECK(absolute.empty());
  CHECK(error.find('\n') == std::string::npos);
  return error;
}

// What a process sees that runs `child` behind start(), after `child` has told its exit status.
template <typename Child>
int status_of_background(Child child) {
  const pid_t outer = fork();
  REQUIRE(outer >= 0);
  if (outer == 0) {
    alarm(30);  // never hang a test run
    fusefs::Background background;
    const auto status = background.start();
    _exit(status ? *status : child(&background));
  }
  int status = 0;
  REQUIRE(waitpid(outer, &status, 0) == outer);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("the mount on top at a path tells the type") {
  CHECK(fusefs::mounted_type(kMountinfo, "/mnt/one") == "fuse.cookiefs");
  CHECK(fusefs::mounted_type(kMountinfo, "/mnt/with space") == "fuse.sshfs");
  CHECK(fusefs::mounted_type(kMountinfo, "/mnt/stack") == "tmpfs");
  CHECK(fusefs::mounted_type(kMountinfo, "/mnt").empty());
  CHECK(fusefs::mounted_type(kMountinfo, "/mnt/torn").empty());
  CHECK(fusefs::mounted_type("", "/").empty());
}

TEST_CASE("a directory is a mount point, under its full name") {
  const Directory directory;
  fs::create_directory(directory / "a b");
  fs::create_directory_symlink(directory / "a b", directory / "link");
  std::string absolute, error;
  CHECK(fusefs::check_mountpoint(directory / "link/", &absolute, &error));
  CHECK(absolute == (directory / "a b"));
  std::ofstream(directory / "a b/file") << "x";
  CHECK(fusefs::check_mountpoint(directory / "a b/../link/.", &absolute, &error));
  CHECK(absolute == (directory / "a b"));
}

TEST_CASE("what is missing or not a directory is no mount point") {
  const Directory directory;
  std::ofstream(directory / "file") << "x";
  fs::create_symlink("nowhere", directory / "dangling");
  fs::create_symlink("loop", directory / "loop");
  CHECK(refusal(directory / "none") ==
        (directory / "none") + ": no such directory; a mount point has to exist: mkdir -p " +
            (directory / "none"));
  CHECK(refusal(directory / "dangling").find("no such directory") != std::string::npos);
  CHECK(refusal(directory / "file").find("not a directory") != std::string::npos);
  CHECK(refusal(directory / "file/below").find("not a directory") != std::string::npos);
  CHECK(refusal(directory / "loop").find("can't be a mount point") != std::string::npos);
}

TEST_CASE("the one who starts a mount gets the daemon's exit status until it is ready") {
  CHECK(status_of_background([](fusefs::Background*) { return 1; }) == 1);
  CHECK(status_of_background([](fusefs::Background*) { return 2; }) == 2);
  CHECK(status_of_background([](fusefs::Background*) { return 0; }) == 1);  // never served
  CHECK(status_of_background([](fusefs::Background* background) {
          background->ready();
          return 7;  // too late for the parent
        }) == 0);
  CHECK(status_of_background([](fusefs::Background*) {
          raise(SIGKILL);
          return 0;
        }) == 1);
}

TEST_CASE("a ready daemon has left the terminal") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK(status_of_background([&](fusefs::Background* background) {
          background->ready();
          std::error_code ignored;
          const bool left = getsid(0) == getpid() && fs::current_path(ignored) == "/" &&
                            fs::read_symlink("/proc/self/fd/2", ignored) == "/dev/null";
          return write(ends[1], left ? "y" : "n", 1) == 1 ? 0 : 1;
        }) == 0);
  close(ends[1]);
  char word = 0;
  REQUIRE(read(ends[0], &word, 1) == 1);
  CHECK(word == 'y');
  close(ends[0]);
}

TEST_CASE("ready() without start() does nothing") {
  fusefs::Background background;
  const fs::path before = fs::current_path();
  background.ready();
  CHECK(fs::current_path() == before);
}
