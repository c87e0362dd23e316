#include "fusefs/backends/sftp/ssh_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace fusefs::sftp {
namespace {

constexpr int kSocketBuffer = 1 << 20;  // bytes, each direction
constexpr size_t kMaxLine = 1000;

void close_fd(int* fd) {
  if (*fd >= 0) ::close(*fd);
  *fd = -1;
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// Between fork and exec, where other threads' locks may be held for ever: system calls only.
[[noreturn]] void become(char* const* words, int socket, int messages, pid_t parent,
                         SshChild::Terminal terminal) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);
  if (terminal == SshChild::Terminal::kNone) ::setsid();
  struct sigaction usual = {};
  usual.sa_handler = SIG_DFL;
  for (int number = 1; number < SIGRTMIN; ++number) ::sigaction(number, &usual, nullptr);
  // The daemon leaves the terminal and this stays: the terminal's end must not end it. (Ctrl-C
  // must, while it asks for a password.)
  usual.sa_handler = SIG_IGN;
  ::sigaction(SIGHUP, &usual, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::dup2(socket, STDIN_FILENO) < 0 || ::dup2(socket, STDOUT_FILENO) < 0 ||
      ::dup2(messages, STDERR_FILENO) < 0) {
    ::_exit(127);
  }
  ::execvp(words[0], words);
  const char* const reason = ::strerrordesc_np(errno);
  const std::array<const char*, 4> parts = {words[0], " can't be started: ", reason, "\n"};
  for (const char* const part : parts) {
    if (part != nullptr && ::write(STDERR_FILENO, part, ::strlen(part)) < 0) break;
  }
  ::_exit(127);
}

}  // namespace

cache::Status SshChild::start(const std::vector<std::string>& words, Terminal terminal) {
  end();
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  std::array<int, 2> sockets{-1, -1}, pipes{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    return cache::Status::error(errno);
  }
  if (::pipe2(pipes.data(), O_CLOEXEC) != 0) {
    const int wrong = errno;
    for (int& fd : sockets) close_fd(&fd);
    return cache::Status::error(wrong);
  }
  for (const int fd : sockets) {
    for (const int which : {SO_SNDBUF, SO_RCVBUF}) {
      ::setsockopt(fd, SOL_SOCKET, which, &kSocketBuffer, sizeof kSocketBuffer);
    }
  }
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  const int wrong = errno;
  if (child == 0) become(pointers.data(), sockets[1], pipes[1], parent, terminal);
  close_fd(&sockets[1]);
  close_fd(&pipes[1]);
  if (child < 0) {
    close_fd(&sockets[0]);
    close_fd(&pipes[0]);
    return cache::Status::error(wrong);
  }
  pid_ = child;
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));  // -1 before Linux 5.3
  socket_ = sockets[0];
  messages_ = pipes[0];
  line_.clear();
  set_nonblocking(socket_);
  set_nonblocking(messages_);
  return {};
}

bool SshChild::wait_for_end(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const pid_t got = ::waitpid(pid_, nullptr, WNOHANG);
    if (got == pid_ || (got < 0 && errno != EINTR)) return true;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd ended = {.fd = pidfd_, .events = POLLIN, .revents = 0};
    // Without a pidfd it is looked at again and again.
    const int wait = static_cast<int>(pidfd_ >= 0 ? left.count() : std::min(left.count(), 5L));
    ::poll(&ended, pidfd_ >= 0 ? 1 : 0, wait);
  }
}

void SshChild::end() {
  close_fd(&socket_);
  close_fd(&messages_);
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  if (!wait_for_end(kPatience)) {
    ::kill(pid_, SIGKILL);
    // A process that can't be killed (it hangs in the kernel) is left to init.
    (void)wait_for_end(kPatience);
  }
  close_fd(&pidfd_);
  pid_ = -1;
}

void SshChild::take_line(std::vector<std::string>* lines) {
  const size_t end = line_.find_last_not_of(" \t\r");
  line_.resize(end == std::string::npos ? 0 : end + 1);
  if (!line_.empty()) lines->push_back(std::exchange(line_, {}));
}

void SshChild::read_messages(std::vector<std::string>* lines) {
  std::array<char, 4096> bytes{};
  while (messages_ >= 0) {
    const ssize_t got = ::read(messages_, bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      take_line(lines);
      close_fd(&messages_);
      return;
    }
    for (const char byte : std::string_view(bytes.data(), static_cast<size_t>(got))) {
      if (byte == '\n') {
        take_line(lines);
      } else if (line_.size() < kMaxLine) {
        const bool harmless = static_cast<unsigned char>(byte) >= 0x20 && byte != 0x7f;
        line_.push_back(harmless || byte == '\t' || byte == '\r' ? byte : '?');
      }
    }
  }
}

}  // namespace fusefs::sftp
