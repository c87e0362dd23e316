// bench_nfs_floor: how fast one directory can be listed over NFS version 3 by a client that does
// nothing else: the floor that a mount is measured against.
//
//   bench_nfs_floor [--plus] [--bytes N] ADDRESS NFS_PORT MOUNT_PORT EXPORT
//
// A listing is a chain: each request begins with the last cookie of the answer before it. This
// client finds that cookie by walking over the answer, asks on at once, and keeps nothing. READDIR,
// or READDIRPLUS with --plus, in answers of N bytes (default 1 MiB). Prints one line of JSON:
// entries, replies, milliseconds from the first request to the first answer and to the last one,
// and how long walking took of it. Exit status: 0; else a failure, or usage.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

#include "fusefs/backends/nfs/xdr_reader.h"
#include "fusefs/backends/nfs/xdr_writer.h"

namespace {

using Clock = std::chrono::steady_clock;
using fusefs::nfs::XdrReader;
using fusefs::nfs::XdrWriter;

constexpr int kPatienceSeconds = 60;
constexpr size_t kMaxRecord = size_t{2} << 20;
constexpr uint32_t kLastFragment = 1u << 31;
constexpr size_t kAttributes3 = 84;

// One TCP connection to one RPC program, one call at a time.
class Rpc {
 public:
  Rpc(const std::string& host, uint16_t port, uint32_t program) : program_(program) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
      throw std::runtime_error("no IPv4 address: " + host);
    }
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience = {.tv_sec = kPatienceSeconds, .tv_usec = 0};
    const int one = 1;
    if (fd_ < 0) throw_errno("socket");
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw_errno("connecting to port " + std::to_string(port));
    }
  }
  ~Rpc() { close(fd_); }
  Rpc(const Rpc&) = delete;
  Rpc& operator=(const Rpc&) = delete;

  // The results of that procedure of version 3, valid until the next call.
  std::string_view call(uint32_t procedure, const XdrWriter& arguments) {
    constexpr uint32_t kCall = 0, kRpcVersion = 2, kVersion = 3, kAuthSys = 1;
    XdrWriter credentials;
    credentials.u32(0).opaque("bench").u32(geteuid()).u32(getegid()).u32(0);
    XdrWriter out;
    out.u32(++xid_).u32(kCall).u32(kRpcVersion).u32(program_).u32(kVersion).u32(procedure);
    out.u32(kAuthSys).opaque(credentials.bytes()).u32(0).u32(0).raw(arguments.bytes());
    XdrWriter mark;
    mark.u32(kLastFragment | static_cast<uint32_t>(out.bytes().size()));
    send(mark.bytes() + out.bytes());
    const std::string_view record = receive();
    XdrReader in(record);
    const bool mine = in.u32() == xid_ && in.u32() == 1 && in.u32() == 0;
    in.skip(4);
    in.opaque(kMaxRecord);
    if (!mine || in.u32() != 0 || !in.ok()) throw std::runtime_error("the server refuses the call");
    return in.rest();
  }

 private:
  [[noreturn]] static void throw_errno(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
  }
  void send(const std::string& bytes) const {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) throw_errno("send");
      at += static_cast<size_t>(sent);
    }
  }
  void read(char* into, size_t count) const {
    while (count > 0) {
      const ssize_t got = recv(fd_, into, count, 0);
      if (got <= 0) throw_errno("the connection has ended");
      into += got;
      count -= static_cast<size_t>(got);
    }
  }
  std::string_view receive() {
    for (size_t had = 0;;) {
      char word[4];
      read(word, sizeof word);
      const uint32_t mark = XdrReader(std::string_view(word, sizeof word)).u32();
      const size_t length = mark & ~kLastFragment;
      if (had + length > kMaxRecord) throw std::runtime_error("too large an answer");
      if (record_.size() < had + length) record_.resize(had + length);
      read(record_.data() + had, length);
      had += length;
      if ((mark & kLastFragment) != 0) return std::string_view(record_).substr(0, had);
    }
  }

  const uint32_t program_;
  int fd_ = -1;
  uint32_t xid_ = 0;
  std::string record_;
};

std::string mount(const std::string& host, uint16_t port, const std::string& path) {
  constexpr uint32_t kMountProgram = 100005, kMnt = 1, kMaxHandle = 64;
  Rpc rpc(host, port, kMountProgram);
  XdrWriter arguments;
  arguments.opaque(path);
  XdrReader in(rpc.call(kMnt, arguments));
  if (const uint32_t status = in.u32()) {
    throw std::runtime_error("no export " + path + ": status " + std::to_string(status));
  }
  std::string handle(in.opaque(kMaxHandle));
  if (!in.ok()) throw std::runtime_error("not the mount protocol");
  return handle;
}

double milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

struct Position {
  uint64_t cookie = 0;
  std::string verifier = std::string(8, '\0');
  uint64_t entries = 0;
  bool ended = false;
};

void walk(std::string_view results, bool plus, Position* at) {
  XdrReader in(results);
  const auto attributes = [&] {
    if (in.flag()) in.skip(kAttributes3);
  };
  if (const uint32_t status = in.u32()) {
    throw std::runtime_error("READDIR failed: status " + std::to_string(status));
  }
  attributes();
  at->verifier = in.bytes(at->verifier.size());
  while (in.flag()) {
    in.skip(8);
    in.opaque(kMaxRecord);
    at->cookie = in.u64();
    ++at->entries;
    if (!plus) continue;
    attributes();
    if (in.flag()) in.opaque(64);
  }
  at->ended = in.flag();
  if (!in.ok()) throw std::runtime_error("malformed answer");
}

void list(Rpc& rpc, const std::string& directory, bool plus, uint32_t bytes) {
  constexpr uint32_t kReaddir = 16, kReaddirplus = 17;
  Position at;
  uint64_t replies = 0;
  double first_ms = 0;
  Clock::duration walking{};
  const Clock::time_point start = Clock::now();
  while (!at.ended) {
    const uint64_t before = at.entries;
    XdrWriter arguments;
    arguments.opaque(directory).u64(at.cookie).raw(at.verifier).u32(bytes);
    if (plus) arguments.u32(bytes);
    const std::string_view results = rpc.call(plus ? kReaddirplus : kReaddir, arguments);
    const Clock::time_point answered = Clock::now();
    walk(results, plus, &at);
    walking += Clock::now() - answered;
    if (++replies == 1) first_ms = milliseconds(answered - start);
    if (at.entries == before && !at.ended) throw std::runtime_error("an empty answer");
  }
  std::printf(
      "{\"entries\": %llu, \"replies\": %llu, \"first_ms\": %.1f, \"last_ms\": %.1f, "
      "\"walking_ms\": %.1f}\n",
      static_cast<unsigned long long>(at.entries), static_cast<unsigned long long>(replies),
      first_ms, milliseconds(Clock::now() - start), milliseconds(walking));
}

}  // namespace

int main(int argc, char* argv[]) try {
  CLI::App app("Lists one directory over NFS version 3, as fast as that goes.");
  bool plus = false;
  uint32_t bytes = 1u << 20;
  std::string host, path;
  uint16_t nfs_port = 0, mount_port = 0;
  app.add_flag("--plus", plus, "READDIRPLUS");
  app.add_option("--bytes", bytes, "size of an answer")->check(CLI::Range(4096, 1 << 20));
  app.add_option("ADDRESS", host)->required();
  app.add_option("NFS_PORT", nfs_port)->required();
  app.add_option("MOUNT_PORT", mount_port)->required();
  app.add_option("EXPORT", path)->required();
  CLI11_PARSE(app, argc, argv);
  const std::string directory = mount(host, mount_port, path);
  constexpr uint32_t kNfsProgram = 100003;
  Rpc rpc(host, nfs_port, kNfsProgram);
  list(rpc, directory, plus, bytes);
  return EXIT_SUCCESS;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_nfs_floor: %s\n", error.what());
  return EXIT_FAILURE;
}
