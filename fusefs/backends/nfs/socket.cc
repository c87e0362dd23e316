#include "fusefs/backends/nfs/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <random>
#include <system_error>

#include "fusefs/backends/nfs/thread.h"

namespace fusefs::nfs {
namespace {

using cache::Result;
using cache::Status;

void set_option(int socket, int level, int name, int value) {
  setsockopt(socket, level, name, &value, sizeof value);
}

void set_port(Address* address, uint16_t port) {
  if (address->storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address->storage)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(&address->storage)->sin_port = htons(port);
  }
}

// A free port in [600, 1023], from a random one on; as it is where that is not permitted.
void bind_reserved(int socket, const Address& remote) {
  constexpr unsigned kFirst = 600;
  constexpr unsigned kCount = 1024 - kFirst;
  const unsigned start = std::random_device()() % kCount;
  for (unsigned i = 0; i < kCount; ++i) {
    Address local;
    local.storage.ss_family = remote.storage.ss_family;
    local.length = remote.length;
    set_port(&local, static_cast<uint16_t>(kFirst + (start + i) % kCount));
    if (bind(socket, reinterpret_cast<sockaddr*>(&local.storage), local.length) == 0) return;
    if (errno != EADDRINUSE) return;
  }
}

Status finish_connect(int socket, cache::TimePoint deadline, int wake) {
  for (;;) {
    std::array<pollfd, 2> polled = {pollfd{.fd = socket, .events = POLLOUT, .revents = 0},
                                    pollfd{.fd = wake, .events = POLLIN, .revents = 0}};
    const int wait = poll_timeout(deadline, std::chrono::steady_clock::now());
    const int ready = poll(polled.data(), polled.size(), wait);
    if (ready < 0 && errno != EINTR) return Status::error(errno);
    if (ready == 0) return Status::error(ETIMEDOUT);
    if (polled[1].revents != 0) return Status::error(EINTR);
    if (ready < 0 || polled[0].revents == 0) continue;
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length);
    return error == 0 ? Status() : Status::error(error);
  }
}

}  // namespace

int poll_timeout(cache::TimePoint until, cache::TimePoint now) {
  if (until <= now) return 0;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
  return static_cast<int>(std::min<int64_t>(wait, INT_MAX));
}

std::vector<Address> resolve(const std::string& host, uint16_t port, std::string* text) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (failed != 0) {
    *text = gai_strerror(failed);
    return {};
  }
  std::vector<Address> addresses;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    Address address;
    std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.length = info->ai_addrlen;
    set_port(&address, port);
    addresses.push_back(address);
  }
  freeaddrinfo(found);
  if (addresses.empty()) *text = "it has no internet address";
  return addresses;
}

Result<int> connect_socket(const Address& address, SourcePort source, cache::TimePoint deadline,
                           int wake) {
  const int fd =
      socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return Status::error(errno);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  // A server that vanished while nothing was asked is noticed before somebody asks.
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  if (source == SourcePort::kReserved) bind_reserved(fd, address);
  Status status;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0) {
    status = errno == EINPROGRESS ? finish_connect(fd, deadline, wake) : Status::error(errno);
  }
  if (status.ok()) return fd;
  close(fd);
  return status;
}

void run_on_stack(size_t stack_bytes, const std::function<void()>& body) {
  Thread thread(stack_bytes, body);
}

}  // namespace fusefs::nfs
