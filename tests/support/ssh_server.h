// SshServer: OpenSSH's sshd on loopback, with a configuration, keys and a port of its own.
//
// Purpose:        the real server for tests of the SFTP back end: listens, logs in the user who
//                 runs the test by a key made for it, or by one that `ca` has signed, and can be
//                 killed in the middle.
// Ownership:      keys and configuration in a directory of its own, the server, and the sessions it
//                 has begun: all ended, by process id, with the destructor.
// Thread-safety:  one thread.
// Errors:         exceptions, with the server's log; also where OpenSSH is not installed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/loopback.h"
#include "tests/support/temp_dir.h"

namespace test {

// Processes whose parent is `parent`, and theirs, and so on.
std::vector<pid_t> descendants(pid_t parent);

class SshServer {
 public:
  SshServer();
  ~SshServer();
  SshServer(const SshServer&) = delete;
  SshServer& operator=(const SshServer&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  // The URL of a path, through `port` where that is another's (a proxy's).
  [[nodiscard]] std::string url(const std::string& path, uint16_t port = 0) const;
  // Mount options with which the login works, and asks nobody anything; or with another key.
  [[nodiscard]] std::string options() const { return options(key()); }
  [[nodiscard]] std::string options(const std::string& identity) const;
  // A section of ssh_config(5) with which `ssh alias` logs in.
  [[nodiscard]] std::string config_of(const std::string& alias) const;
  [[nodiscard]] std::string log() const;
  [[nodiscard]] const TempDir& directory() const { return work_; }
  [[nodiscard]] std::string key() const { return work_ / "user"; }
  // A new key that the server knows by its certificate only.
  [[nodiscard]] std::string certified_key() const;

  // Ends what serves a session, at once; the server goes on. How many were ended.
  size_t kill_sessions();
  // Nobody listens any more; sessions go on. Then again, on the same port.
  void stop_listening();
  void listen_again();

 private:
  void make_key(const std::string& name) const;

  TempDir work_;
  uint16_t port_ = 0;
  std::unique_ptr<Child> daemon_;
  std::vector<pid_t> sessions_;  // of daemons that have ended
};

// What to give as ssh_command= for a server on this machine without any ssh; `arguments` as its
// manual has them, without commas.
std::string plain_sftp_server(const std::string& arguments = {});
// The same with a cat(1) behind it: while that is stopped, what is asked for happens, and its
// answers are under way.
std::string piped_sftp_server();
// The same as nobody in particular. For a test that is privileged itself.
std::string unprivileged_sftp_server();
// The same for tests/support/lying_sftp_server.py.
std::string lying_sftp_server(const std::string& mode, const std::string& once = {});
// The same where it keeps a log of what it is asked to change.
std::string logging_sftp_server(const std::string& mode, const std::string& log);

}  // namespace test
