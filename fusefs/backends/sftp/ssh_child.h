// SshChild: the program that carries the connection, and what it says.
//
// Purpose:        starts `ssh -s host sftp`, or what the user put in its place, with a socket as
//                 its stdin and stdout and a pipe as its stderr.
// Ownership:      owns the process and both descriptors. It is gone, and its status fetched, when
//                 end() or the destructor returns: at most kPatience after it was asked to.
// Thread-safety:  one thread. The child is told to end when that thread does (prctl PDEATHSIG), so
//                 that a daemon that is killed leaves no ssh behind: it should be a thread that
//                 lives as long as the connection.
// Errors:         Status; a program that can't be started says so on its stderr, as ssh would.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "cache/base/result.h"

namespace fusefs::sftp {

class SshChild {
 public:
  static constexpr std::chrono::milliseconds kPatience{2000};

  // kKeep: it may ask for passwords and host keys where we can be asked. kNone: nobody is there.
  enum class Terminal : uint8_t { kKeep, kNone };

  SshChild() = default;
  ~SshChild() { end(); }
  SshChild(const SshChild&) = delete;
  SshChild& operator=(const SshChild&) = delete;

  cache::Status start(const std::vector<std::string>& words, Terminal terminal);
  // Closes both descriptors and ends the process, politely at first.
  void end();

  [[nodiscard]] bool running() const { return pid_ > 0; }
  // Non-blocking; -1 when there is none.
  [[nodiscard]] int socket() const { return socket_; }
  [[nodiscard]] int messages() const { return messages_; }
  [[nodiscard]] int pidfd() const { return pidfd_; }

  // Takes what stands on its stderr by now. Complete lines are added to `lines`, unprintable bytes
  // made harmless.
  void read_messages(std::vector<std::string>* lines);

 private:
  [[nodiscard]] bool wait_for_end(std::chrono::milliseconds patience);
  void take_line(std::vector<std::string>* lines);

  pid_t pid_ = -1;
  int pidfd_ = -1;
  int socket_ = -1;
  int messages_ = -1;
  std::string line_;  // the beginning of the next
};

}  // namespace fusefs::sftp
