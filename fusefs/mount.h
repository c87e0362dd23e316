// The mount point and the process that serves it: what happens around a Session.
//
// Purpose:  refuses a mount point that can't work before anything is started, and puts the daemon
//           into the background in such a way that the exit status tells whether the mount works.
// Errors:   one line that says what is wrong and what would be right.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace fusefs {

// True when a tree can be mounted at `path`; `absolute` is then its full name, which stays right
// after chdir("/"). A mount point with files in it, in use, or with another filesystem mounted on
// it is fine, as with every FUSE daemon; with another cookiefs on it it is not.
bool check_mountpoint(const std::string& path, std::string* absolute, std::string* error);

// Clears away a cookiefs whose daemon has died at `path`: nobody can do anything with it but that.
// Who has files open there, keeps what he has. True: there was one, and it is gone.
bool clear_dead_mount(const std::string& path);

// The type ("fuse.cookiefs") of the mount on top of the others at `path`, an absolute name, from
// the text of /proc/self/mountinfo; empty where nothing is mounted.
std::string mounted_type(std::string_view mountinfo, std::string_view path);

// Goes to the mount namespace that the file `path` stands for, as mount(8) asks its helpers to with
// -N; from then on all paths are of that one. Before any thread exists.
bool enter_mount_namespace(const std::string& path, std::string* error);

// Opens /dev/null as whichever of stdin, stdout and stderr the caller has closed; else one of our
// own descriptors, /dev/fuse for one, would take its place and get what is printed there.
void open_standard_files();

// What libfuse calls its version.
std::string libfuse_version();

// Background: two processes, of which the first waits until the second one serves.
//
//   start() -> parent: waits                child: goes on in the caller's terminal
//                |                            |
//                |<--------- ready() ---------+  leaves the terminal: session, cwd, stdio
//                v                            v
//              exit status 0                serves
//
// A child that ends without ready() gives the parent its exit status.
// Thread-safety:  start() before any thread exists; ready() from any thread.
class Background {
 public:
  Background() = default;
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Forks. In the parent, which comes back when the child is ready or has ended: the exit status.
  // In the child, which goes on at once: nothing.
  std::optional<int> start();
  // In the child: the mount works. A parent that was killed meanwhile has given up on the mount:
  // then the child ends itself by SIGTERM, which unmounts. Nothing without start().
  void ready();

 private:
  int wait_for_child(pid_t child);

  int channel_ = -1;  // to the other process
};

}  // namespace fusefs
