#include "tests/support/mount.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "fusefs/control.h"

namespace fs = std::filesystem;

namespace test {
namespace {

std::string daemon_binary() {
  const char* const given = std::getenv("COOKIEFS_BIN");
  return given != nullptr ? given : fs::read_symlink("/proc/self/exe").parent_path() / "cookiefs";
}

std::vector<std::string> daemon_command(const std::string& source, const std::string& options,
                                        const std::string& mountpoint) {
  std::vector<std::string> words = {daemon_binary(), "-f"};
  if (!options.empty()) words.insert(words.end(), {"-o", options});
  words.insert(words.end(), {source, mountpoint});
  return words;
}

std::string made_directory(const std::string& path) {
  fs::create_directory(path);
  return path;
}

// 0 or a negative errno.
int control(const std::string& directory, unsigned long command, void* answer) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  const int result = ioctl(fd, command, answer) == 0 ? 0 : -errno;
  close(fd);
  return result;
}

int64_t control_count(const std::string& directory, unsigned long command) {
  fusefs::ControlCount answer{};
  const int result = control(directory, command, &answer);
  return result < 0 ? result : static_cast<int64_t>(answer.count);
}

// The kernel's own way where we may, fusermount3 elsewhere. 0 or an errno.
int unmount(const std::string& path, int flags) {
  if (umount2(path.c_str(), flags | UMOUNT_NOFOLLOW) == 0) return 0;
  if (errno != EPERM) return errno;
  const std::string how = (flags & MNT_DETACH) != 0 ? "-uz" : "-u";
  Child helper({"/usr/bin/fusermount3", how, path}, "/dev/null");
  return helper.wait() == 0 ? 0 : EBUSY;
}

}  // namespace

Mount::Mount(const std::string& source, const std::string& options)
    : mountpoint_(made_directory(work_ / "mnt")),
      log_path_(work_ / "log"),
      daemon_(daemon_command(source, options, mountpoint_), log_path_) {
  try {
    wait_until_served();
  } catch (...) {
    leave_nothing();
    throw;
  }
}

Mount::~Mount() { leave_nothing(); }

void Mount::leave_nothing() {
  if (mounted()) unmount(mountpoint_, MNT_DETACH);
  if (daemon_.wait()) return;
  // It hangs: its requests are aborted before it dies, or their callers would wait for ever.
  daemon_.signal(SIGKILL);
  daemon_.wait();
  while (mounted() && unmount(mountpoint_, MNT_DETACH) == 0) {
  }
}

void Mount::kill_daemon() {
  daemon_.signal(SIGKILL);
  daemon_.wait();
  leave_nothing();
}

std::string Mount::log() const { return text_of(log_path_); }

bool Mount::mounted() const {
  return text_of("/proc/self/mountinfo").find(" " + mountpoint_ + " ") != std::string::npos;
}

void Mount::wait_until_served() {
  const bool mounted_or_ended = wait_until([this] { return mounted() || !daemon_.running(); });
  if (!mounted_or_ended || !daemon_.running()) throw std::runtime_error("not mounted: " + log());
  // Asks the remote nothing; answered once INIT was.
  if (stats().empty()) throw std::runtime_error("no stats: " + log());
}

std::string Mount::stats() const {
  const auto answer = std::make_unique<fusefs::ControlText>();
  const int result = control(mountpoint_, fusefs::kControlStats, answer.get());
  if (result < 0) throw std::runtime_error("no stats: " + std::string(std::strerror(-result)));
  return answer->text;
}

int64_t Mount::figure(const std::string& key) const {
  const std::string text = stats();
  size_t at = 0;
  std::istringstream parts(key);
  for (std::string part; std::getline(parts, part, '.');) {
    at = text.find("\"" + part + "\": ", at);
    if (at == std::string::npos) throw std::runtime_error("no figure " + key + " in " + text);
    at += part.size() + 4;
  }
  return std::stoll(text.substr(at));
}

int64_t Mount::drop() const { return control_count(mountpoint_, fusefs::kControlDrop); }

int64_t Mount::invalidate(const std::string& directory) const {
  return control_count(directory, fusefs::kControlInvalidate);
}

void Mount::begin_end(How how) {
  if (how == How::kSignal) return daemon_.signal(SIGTERM);
  int error = 0;
  const bool done = wait_until([&] {
    error = unmount(mountpoint_, how == How::kLazy ? MNT_DETACH : 0);
    return error != EBUSY;
  });
  if (!done || error != 0) throw std::runtime_error("umount: " + std::string(std::strerror(error)));
}

std::string Mount::finish_end() {
  const std::optional<int> status = daemon_.wait();
  if (!status) return "the daemon has not ended: " + log();
  if (*status != 0) return "wait status " + std::to_string(*status) + ": " + log();
  if (mounted()) return "still mounted: " + log();
  return counters_problem();
}

std::string Mount::counters_problem() const {
  const std::string text = log();
  const std::string zeroes = "cookiefs: unmounted: pages=0 names=0 attrs=0 pinned=0 anchors=0 ";
  if (text.find(zeroes + "free_page=") == std::string::npos) return "counters: " + text;
  if (text.find("ERROR: ") != std::string::npos) return "a sanitizer's report: " + text;
  return {};
}

}  // namespace test
