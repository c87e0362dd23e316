// The control channel: ioctls on any directory of the mount.
//
// Why ioctl:  it works from the mount point alone, on read-only mounts too, needs no socket, file
//             or name to be found and cleaned up, and follows the mount into other namespaces. What
//             kControlDirectory tells can also be read as the extended attribute kDirectoryXattr.
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
  uint64_t count;  // pages dropped, arrays invalidated, files lost
};

// Names of a directory, each followed by a NUL; none: there are no more.
struct ControlNames {
  uint32_t count;
  uint32_t bytes;  // of `names`
  char names[kControlTextBytes];
};

// In what order kControlTop gives directories: the first byte of what it is handed.
constexpr char kTopByMemory = 'm';
constexpr char kTopByHits = 'h';
constexpr char kTopByRequests = 'r';
constexpr char kTopByWait = 'w';

constexpr char kDirectoryXattr[] = "user.cookiefs.dir";

// NOLINTBEGIN: the kernel's macros
constexpr unsigned long kControlStats = _IOR('c', 0x40, ControlText);
constexpr unsigned long kControlDrop = _IOR('c', 0x41, ControlCount);        // drop clean pages
constexpr unsigned long kControlInvalidate = _IOR('c', 0x42, ControlCount);  // this directory
// Waits until the remote has all that was written; counts the files that have lost some of it after
// they were closed, since this was asked last. ETIMEDOUT: it takes nothing, everything is kept.
constexpr unsigned long kControlSync = _IOR('c', 0x4d, ControlCount);
constexpr unsigned long kControlMetrics = _IOWR('c', 0x43, ControlPage);
constexpr unsigned long kControlLogLevel = _IOWR('c', 0x44, ControlLevel);
// What is held of this directory; the directories that hold or took most; where in the listing the
// arrays held stand. All JSON.
constexpr unsigned long kControlDirectory = _IOR('c', 0x48, ControlText);
constexpr unsigned long kControlTop = _IOWR('c', 0x49, ControlText);
constexpr unsigned long kControlMap = _IOR('c', 0x4a, ControlText);
// The next names of this directory as the remote lists them now, past all that is cached. Each open
// handle has a listing of its own, from the first of these on.
constexpr unsigned long kControlRemoteNames = _IOR('c', 0x4b, ControlNames);
// The next listings of this directory are to be cached with attributes.
constexpr unsigned long kControlWantAttributes = _IO('c', 0x4c);
// NOLINTEND

}  // namespace fusefs
