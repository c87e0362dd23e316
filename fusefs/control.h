// The control channel: ioctls on any directory of the mount.
//
// Why ioctl:  it works from the mount point alone, on read-only mounts too, needs no socket, file
//             or name to be found and cleaned up, follows the mount into other namespaces, and
//             leaves getxattr free to answer ENOSYS once and for all.
// Access:     only the mount's owner (the daemon's user) and root; everybody else gets EPERM.
// A request that is not one of these gets ENOTTY.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace fusefs {

constexpr uint32_t kControlTextBytes = 12 * 1024;  // an ioctl carries at most 16383 bytes

struct ControlText {
  char text[kControlTextBytes];  // NUL-terminated JSON
};

// Metrics as Prometheus reads them, a page of whole lines at a time.
struct ControlPage {
  uint64_t next;  // in: where the page begins, 0 at first; out: the next one, 0: none
  char text[kControlTextBytes];  // NUL-terminated
};

struct ControlLevel {
  char level[16];  // in: the log level wanted, empty: as it is; out: that it is now
};

struct ControlCount {
  uint64_t count;  // pages dropped, arrays invalidated
};

// NOLINTBEGIN: the kernel's macros
constexpr unsigned long kControlStats = _IOR('c', 0x40, ControlText);
constexpr unsigned long kControlDrop = _IOR('c', 0x41, ControlCount);        // drop clean pages
constexpr unsigned long kControlInvalidate = _IOR('c', 0x42, ControlCount);  // this directory
constexpr unsigned long kControlMetrics = _IOWR('c', 0x43, ControlPage);
constexpr unsigned long kControlLogLevel = _IOWR('c', 0x44, ControlLevel);
// NOLINTEND

}  // namespace fusefs
