#include "fusefs/mount.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

namespace fusefs {

namespace {

constexpr std::string_view kOwnType = "fuse.cookiefs";

// What statx() and its kin say about `path`, and what to do about it.
std::string explain(const std::string& path, int error_number) {
  switch (error_number) {
    case ENOENT:
      return path + ": no such directory; a mount point has to exist: mkdir -p " + path;
    case ENOTDIR:
      return path + ": not a directory; a mount point has to be one";
    case EACCES:
      return path + ": permission denied; a mount point has to be yours to search and write";
    case ENOTCONN:
      return path + ": a FUSE daemon has died and left its mount here (transport endpoint is " +
             "not connected); clear it away with fusermount3 -u " + path;
    default:
      return path + ": can't be a mount point: " + std::generic_category().message(error_number);
  }
}

std::string read_mountinfo() {
  std::ostringstream text;
  text << std::ifstream("/proc/self/mountinfo").rdbuf();
  return text.str();
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape_octal(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

using RealPath = std::unique_ptr<char, decltype(&std::free)>;

// Neither realpath() nor a stat() that the kernel answers from its cache asks a mounted daemon;
// this does, and a dead one shows. 0 or an errno; ENOTCONN also for one that dies at the question,
// which the kernel tells as ECONNABORTED.
int ask_daemon(const char* path, mode_t* mode) {
  struct statx status {};
  if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE, &status) != 0) {
    return errno == ECONNABORTED ? ENOTCONN : errno;
  }
  *mode = status.stx_mode;
  return 0;
}

void close_if_open(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

void leave_terminal() {
  setsid();
  if (chdir("/") != 0) std::perror("cookiefs: chdir /");
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, fd);
  if (null > STDERR_FILENO) close(null);
}

}  // namespace

std::string mounted_type(std::string_view mountinfo, std::string_view path) {
  // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS
  std::istringstream lines{std::string(mountinfo)};
  std::string type;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word, mountpoint;
    words >> word >> word >> word >> word >> mountpoint;
    if (unescape_octal(mountpoint) != path) continue;
    while (words >> word && word != "-") {
    }
    if (words >> word) type = word;  // a later line is mounted on top
  }
  return type;
}

bool clear_dead_mount(const std::string& path) {
  const RealPath real(realpath(path.c_str(), nullptr), &std::free);
  mode_t mode = 0;
  if (!real || ask_daemon(real.get(), &mode) != ENOTCONN) return false;
  if (mounted_type(read_mountinfo(), real.get()) != kOwnType) return false;
  // As its owner may, who need not be root.
  std::array<std::string, 4> words = {"fusermount3", "-u", "-z", real.get()};
  std::array<char*, 5> arguments = {words[0].data(), words[1].data(), words[2].data(),
                                    words[3].data(), nullptr};
  pid_t child = -1;
  if (posix_spawnp(&child, "fusermount3", nullptr, nullptr, arguments.data(), environ) != 0) {
    return false;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0;
}

bool check_mountpoint(const std::string& path, std::string* absolute, std::string* error) {
  const RealPath real(realpath(path.c_str(), nullptr), &std::free);
  mode_t mode = 0;
  const int wrong = real ? ask_daemon(real.get(), &mode) : errno;
  if (real && wrong != ENOTCONN && mounted_type(read_mountinfo(), real.get()) == kOwnType) {
    *error = path + ": a cookiefs is already mounted here; unmount it first with fusermount3 -u " +
             path + ", or choose another mount point";
    return false;
  }
  if (wrong != 0) {
    *error = explain(path, wrong);
    return false;
  }
  if (!S_ISDIR(mode)) {
    *error = explain(path, ENOTDIR);
    return false;
  }
  // fusermount3 lets others than root mount only where they may write.
  if (geteuid() != 0 && access(real.get(), W_OK | X_OK) != 0) {
    *error = explain(path, errno);
    return false;
  }
  *absolute = real.get();
  return true;
}

bool enter_mount_namespace(const std::string& path, std::string* error) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && setns(fd, CLONE_NEWNS) == 0) {
    close_if_open(&fd);
    return true;
  }
  *error = path + ": can't mount in this namespace (" + std::generic_category().message(errno) +
           "); name a mount namespace's file, such as /proc/PID/ns/mnt, as root";
  close_if_open(&fd);
  return false;
}

void open_standard_files() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lowest free number is the one that is given out.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return;
  }
}

std::string libfuse_version() { return fuse_pkgversion(); }

Background::~Background() { close_if_open(&channel_); }

std::optional<int> Background::start() {
  int ends[2];
  // A socket and not a pipe: a parent that is gone is then an errno, not a signal.
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    std::perror("cookiefs: can't start in the background (-f stays in the foreground)");
    return EXIT_FAILURE;
  }
  const pid_t child = fork();
  if (child < 0) {
    std::perror("cookiefs: can't start in the background (-f stays in the foreground)");
    close(ends[0]);
    close(ends[1]);
    return EXIT_FAILURE;
  }
  close(ends[child == 0 ? 0 : 1]);
  channel_ = ends[child == 0 ? 1 : 0];
  if (child == 0) return std::nullopt;
  return wait_for_child(child);
}

int Background::wait_for_child(pid_t child) {
  char word = 0;
  ssize_t got = 0;
  do {
    got = read(channel_, &word, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return EXIT_SUCCESS;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return EXIT_FAILURE;
  }
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "cookiefs: the daemon was ended by signal %d (%s)\n", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    return EXIT_FAILURE;
  }
  // A child that ended well without ever serving, unmounted at once for example, did not mount.
  return WEXITSTATUS(status) == EXIT_SUCCESS ? EXIT_FAILURE : WEXITSTATUS(status);
}

void Background::ready() {
  if (channel_ < 0) return;
  leave_terminal();
  if (send(channel_, "r", 1, MSG_NOSIGNAL) != 1) kill(getpid(), SIGTERM);
  close_if_open(&channel_);
}

}  // namespace fusefs
