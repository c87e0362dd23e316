// Mount: the real daemon on a mount point of its own, through /dev/fuse.
//
// Purpose:        starts `cookiefs -f` on a source, waits until it serves, ends it in any of the
//                 ways in which mounts end, and says how that went.
// Ownership:      the mount point, the daemon and its log. Whatever a test does, the destructor
//                 leaves neither a mount nor a process.
// Thread-safety:  made and ended by one thread; path(), figure() and the ioctls from any.
// Errors:         exceptions, which Catch2 reports with the daemon's log.
//
// The binary is $COOKIEFS_BIN, or `cookiefs` beside the test's own.
#pragma once

#include <cstdint>
#include <string>

#include "tests/support/child.h"
#include "tests/support/temp_dir.h"

namespace test {

class Mount {
 public:
  enum class How : uint8_t { kUmount, kLazy, kSignal };

  // `options` as behind -o; empty: none.
  explicit Mount(const std::string& source, const std::string& options = {});
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  [[nodiscard]] const std::string& path() const { return mountpoint_; }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return mountpoint_ + "/" + name;
  }
  [[nodiscard]] std::string log() const;
  [[nodiscard]] bool mounted() const;
  [[nodiscard]] pid_t pid() const { return daemon_.pid(); }  // the daemon's

  // The control channel. Errors of the plain ioctl: a negative errno.
  [[nodiscard]] std::string stats() const;
  [[nodiscard]] int64_t figure(const std::string& key) const;  // "pages.resident"
  int64_t drop() const;
  int64_t invalidate(const std::string& directory) const;

  // Begins to unmount; a busy mount is tried again until it is not.
  void begin_end(How how);
  // Waits for the end. Empty when all is well: unmounted, exit status 0, every counter zero.
  std::string finish_end();
  // SIGKILL, and the mount point is given back; there is no end() after it.
  void kill_daemon();
  std::string end(How how = How::kUmount) {
    begin_end(how);
    return finish_end();
  }

 private:
  void wait_until_served();
  [[nodiscard]] std::string counters_problem() const;
  void leave_nothing();

  TempDir work_;
  const std::string mountpoint_;
  const std::string log_path_;
  Child daemon_;
};

}  // namespace test
