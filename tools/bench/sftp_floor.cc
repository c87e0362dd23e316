// bench_sftp_floor: how fast one directory can be listed over SFTP by a client that does nothing
// else: the floor that a mount is measured against.
//
//   bench_sftp_floor [--depth N] PATH COMMAND...
//
// COMMAND speaks SFTP on its stdin and stdout, such as `ssh -s host sftp`. Keeps N READDIR requests
// under way (default 32), counts the names, keeps nothing. Prints one line of JSON: entries,
// replies, and milliseconds from OPENDIR to the first name and to the last one; connecting is not
// counted. Exit status: 0, 1 failure, 2 usage.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "fusefs/backends/sftp/codec.h"

namespace {

namespace sftp = fusefs::sftp;
using Clock = std::chrono::steady_clock;

constexpr int kExitUsage = 2;
constexpr int kPatienceSeconds = 60;
constexpr size_t kReadBytes = 256 << 10;

// The command with a socket as its stdin and stdout; ended with the object.
class Server {
 public:
  explicit Server(char* const* command) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw_errno("socketpair");
    pid_ = fork();
    if (pid_ < 0) throw_errno("fork");
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      dup2(ends[1], STDIN_FILENO);
      dup2(ends[1], STDOUT_FILENO);
      execvp(command[0], command);
      std::perror(command[0]);
      _exit(127);
    }
    close(ends[1]);
    fd_ = ends[0];
    const timeval patience = {.tv_sec = kPatienceSeconds, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Server() {
    close(fd_);
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void send(const std::string& bytes) const {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) throw_errno("send");
      at += static_cast<size_t>(sent);
    }
  }
  // The next packet, valid until the next call.
  std::string_view receive() {
    std::string_view packet;
    for (;;) {
      const auto next = cutter_.next(&packet);
      if (next == sftp::PacketCutter::Next::kPacket) return packet;
      if (next == sftp::PacketCutter::Next::kBad) throw std::runtime_error("not SFTP");
      const ssize_t got = recv(fd_, cutter_.room(kReadBytes), kReadBytes, 0);
      if (got <= 0) throw_errno("the connection has ended");
      cutter_.added(static_cast<size_t>(got));
    }
  }

 private:
  [[noreturn]] static void throw_errno(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
  }

  pid_t pid_ = -1;
  int fd_ = -1;
  sftp::PacketCutter cutter_;
};

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void list(Server& server, const std::string& path, uint32_t depth) {
  std::string out;
  sftp::append_init(&out);
  server.send(out);
  if (!sftp::parse_version(server.receive())) throw std::runtime_error("not SFTP");

  const Clock::time_point start = Clock::now();
  out.clear();
  sftp::append_head(sftp::opendir_request(path), 0, &out);
  server.send(out);
  const auto opened = sftp::parse_reply(server.receive());
  const auto handle = opened && opened->type == sftp::PacketType::kHandle
                          ? sftp::parse_handle(opened->body)
                          : std::nullopt;
  if (!handle) throw std::runtime_error("can't open " + path);
  const sftp::Request readdir = sftp::readdir_request(*handle);
  uint32_t id = 0, under_way = 0;
  uint64_t entries = 0, replies = 0;
  double first_ms = 0;
  for (bool ended = false; !ended || under_way > 0;) {
    out.clear();
    for (; !ended && under_way < depth; ++under_way) sftp::append_head(readdir, ++id, &out);
    if (!out.empty()) server.send(out);
    const auto reply = sftp::parse_reply(server.receive());
    if (!reply) throw std::runtime_error("not an answer");
    --under_way;
    ++replies;
    if (reply->type == sftp::PacketType::kName) {
      const auto names = sftp::parse_names(reply->body);
      if (!names) throw std::runtime_error("malformed names");
      if (entries == 0) first_ms = milliseconds_since(start);
      entries += names->entries.size();
    } else {
      ended = true;
    }
  }
  std::printf("{\"entries\": %llu, \"replies\": %llu, \"first_ms\": %.1f, \"last_ms\": %.1f}\n",
              static_cast<unsigned long long>(entries), static_cast<unsigned long long>(replies),
              first_ms, milliseconds_since(start));
}

}  // namespace

int main(int argc, char* argv[]) {
  int at = 1;
  uint32_t depth = 32;
  if (at + 1 < argc && std::strcmp(argv[at], "--depth") == 0) {
    depth = static_cast<uint32_t>(std::strtoul(argv[at + 1], nullptr, 10));
    at += 2;
  }
  if (argc - at < 2 || depth < 1 || depth > 4096) {
    std::fprintf(stderr, "usage: bench_sftp_floor [--depth N] PATH COMMAND...\n");
    return kExitUsage;
  }
  try {
    Server server(argv + at + 1);
    list(server, argv[at], depth);
    return EXIT_SUCCESS;
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "bench_sftp_floor: %s\n", exception.what());
    return EXIT_FAILURE;
  }
}
