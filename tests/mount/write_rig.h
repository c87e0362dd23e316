// What tests of a writable mount share: remotes of every kind, open files, and the programs of
// tests/files.
//
// Ownership:      servers are made once, for all tests; a Remote's directory goes away with it.
// Thread-safety:  one thread.
// Errors:         exceptions, as the servers have them.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/mount.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tmpfs.h"

namespace test {

class Ganesha;
class SshServer;

// "local", "sim", "sftp", "nfs3", "nfs4": those that this build and this machine have.
std::vector<std::string> remote_kinds();
// Without sim, whose tree is in the daemon and nowhere else.
std::vector<std::string> shared_remote_kinds();
SshServer& ssh_server();

// A tree of its own on a remote of that kind, empty at first.
class Remote {
 public:
  explicit Remote(std::string kind);
  ~Remote();
  Remote(const Remote&) = delete;
  Remote& operator=(const Remote&) = delete;

  [[nodiscard]] const std::string& kind() const { return kind_; }  // and fs_model's profile
  [[nodiscard]] std::string source() const;
  // Mount options: those that the remote needs, and these.
  [[nodiscard]] std::string options(const std::string& more = {}) const;
  // Where its files lie on this machine, for changes and looks behind the mount's back; not of sim.
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return directory_ + "/" + name;
  }

 private:
  const std::string kind_;
  std::string name_;       // of the directory
  std::string directory_;  // its path
};

// A mount of it, and where in that an empty directory is to be had.
class Mounted : public Mount {
 public:
  explicit Mounted(const Remote& remote, const std::string& options = {})
      : Mount(remote.source(), remote.options(options)) {}
};

// A directory, and an SFTP server of it for a mount of its own, which can be stopped.
class StoppableServer {
 public:
  StoppableServer();
  ~StoppableServer();
  StoppableServer(const StoppableServer&) = delete;
  StoppableServer& operator=(const StoppableServer&) = delete;

  [[nodiscard]] std::string source() const { return "sftp://here" + directory_; }
  // Mount options: those that it needs, and these.
  [[nodiscard]] std::string options(const std::string& more) const;
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return directory_ + "/" + name;
  }
  // It answers nothing, until go().
  void stop() const;
  void go() const;
  // The connection is lost with whatever it had not answered.
  void end() const;

 private:
  [[nodiscard]] pid_t pid() const;  // the latest one; 0: none was started

  const TempDir work_;
  const std::string directory_, pid_file_;
};

class Fd {
 public:
  Fd(const std::string& path, int flags, unsigned mode = 0644)
      : fd_(open(path.c_str(), flags | O_CLOEXEC, mode)), error_(fd_ < 0 ? errno : 0) {}
  ~Fd() { shut(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int error() const { return error_; }  // of open()
  // 0 or the errno of each.
  int write(const std::string& bytes, uint64_t offset = 0) const;
  [[nodiscard]] int sync() const { return fsync(fd_) == 0 ? 0 : errno; }
  int shut();
  // What is there, up to so many bytes; "errno N" where that fails.
  [[nodiscard]] std::string read(size_t bytes = size_t{16} << 20, uint64_t offset = 0) const;

 private:
  int fd_;
  int error_;
};

// Made or emptied, written and closed; 0 or the first errno.
int write_file(const std::string& path, const std::string& bytes);
// A file's bytes by open, read and close; "errno N" where one fails.
std::string read_file(const std::string& path);
// Of what is there.
struct stat status_of(const std::string& path);
// One of many.
inline std::string name_of(size_t number) { return "file-" + std::to_string(number); }
// Bytes that depend on the number alone.
std::string noise(uint64_t number, size_t bytes);

// `cookiefsctl sync`: empty when all is well, else what it said.
std::string sync(const Mount& mount);

// A program that lies beside the test's: empty when it ended with 0, else what it said.
std::string run_beside(const std::string& program, const std::vector<std::string>& arguments);
// Of the shell.
std::string run_command(const std::string& command);
std::string beside(const std::string& program);

#ifdef COOKIEFS_HAVE_NFS
Ganesha& nfs_server();
#endif

}  // namespace test
