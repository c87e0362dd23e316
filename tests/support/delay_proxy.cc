#include "tests/support/delay_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace test {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr time_t kConnectSeconds = 5;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error("delay proxy: " + what + ": " + std::strerror(errno));
}

sockaddr_in address_of(const std::string& host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    throw std::runtime_error("delay proxy: not an IPv4 address: " + host);
  }
  return address;
}

int new_socket() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return fd;
}

void make_prompt(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

// Connected and prompt, or -1.
int connect_to(const std::string& host, uint16_t port) {
  const sockaddr_in address = address_of(host, port);
  const int fd = new_socket();
  const timeval patience = {.tv_sec = kConnectSeconds, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    return -1;
  }
  make_prompt(fd);
  return fd;
}

bool not_now(ssize_t result) { return result < 0 && (errno == EAGAIN || errno == EINTR); }

// The connection is reset, not ended in an orderly way: what a cut cable becomes in the end.
void close_hard(int fd) {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
}

}  // namespace

DelayProxy::DelayProxy(const Options& options)
    : options_(options), one_way_(options.rtt / 2), random_(options.seed) {
  bind_port(options.listen_port);
  open_listener();
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_ < 0) fail("eventfd");
  thread_ = std::thread([this] { run(); });
}

DelayProxy::~DelayProxy() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake();
  }
  thread_.join();
  close_all();
  if (listener_ >= 0) close(listener_);
  close(reserved_);
  close(wake_);
}

void DelayProxy::bind_port(uint16_t wanted) {
  reserved_ = new_socket();
  sockaddr_in address = address_of("127.0.0.1", wanted);
  socklen_t size = sizeof address;
  if (bind(reserved_, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      getsockname(reserved_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    fail("can't bind port " + std::to_string(wanted));
  }
  port_ = ntohs(address.sin_port);
}

void DelayProxy::open_listener() {
  if (listener_ >= 0) return;
  const sockaddr_in address = address_of("127.0.0.1", port_);
  listener_ = new_socket();
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener_, SOMAXCONN) != 0) {
    fail("can't listen on port " + std::to_string(port_));
  }
  fcntl(listener_, F_SETFL, O_NONBLOCK);
}

void DelayProxy::wake() const {
  const uint64_t one = 1;
  // Full means that it is awake anyway.
  if (write(wake_, &one, sizeof one) < 0 && errno != EAGAIN) std::abort();
}

void DelayProxy::cut() {
  const std::lock_guard lock(mutex_);
  state_ = State::kCut;
  if (listener_ >= 0) {
    shutdown(listener_, SHUT_RDWR);  // at once, though the thread may be polling it
    close(listener_);
  }
  listener_ = -1;
  close_all();
  wake();
}

void DelayProxy::stall() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kPass) state_ = State::kStall;
  wake();
}

void DelayProxy::mute() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kPass) state_ = State::kMute;
}

void DelayProxy::corrupt(uint32_t one_in) {
  const std::lock_guard lock(mutex_);
  corrupt_one_in_ = one_in;
}

void DelayProxy::resume() {
  const std::lock_guard lock(mutex_);
  open_listener();
  state_ = State::kPass;
  corrupt_one_in_ = 0;
  wake();
}

void DelayProxy::set_rtt(std::chrono::nanoseconds rtt) {
  const std::lock_guard lock(mutex_);
  one_way_ = rtt / 2;
}

size_t DelayProxy::connections() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

uint64_t DelayProxy::accepted() const {
  const std::lock_guard lock(mutex_);
  return accepted_;
}

uint64_t DelayProxy::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void DelayProxy::close_all() {
  for (const Connection& connection : connections_) {
    close_hard(connection.client);
    close_hard(connection.server);
  }
  connections_.clear();
}

// ---- The thread ---------------------------------------------------------------------------------

void DelayProxy::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<pollfd> events = wanted_events();
    const std::chrono::nanoseconds left = time_to_next();
    const timespec wait = {.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                           .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
    lock.unlock();
    ppoll(events.data(), events.size(), left.count() < 0 ? nullptr : &wait, nullptr);
    lock.lock();
    uint64_t ignored = 0;
    if (read(wake_, &ignored, sizeof ignored) < 0 && errno != EAGAIN) std::abort();
    // Everything is tried: what is not ready says so.
    if (state_ == State::kCut) continue;
    accept_all();
    for (Connection& connection : connections_) serve(connection);
    connections_.remove_if([](const Connection& connection) {
      const bool over = connection.up.write_ended && connection.down.write_ended;
      if (!over && !connection.broken) return false;
      for (const int fd : {connection.client, connection.server}) {
        if (connection.broken) {
          close_hard(fd);
        } else {
          close(fd);
        }
      }
      return true;
    });
  }
}

std::vector<pollfd> DelayProxy::wanted_events() const {
  std::vector<pollfd> events = {{.fd = wake_, .events = POLLIN, .revents = 0}};
  if (listener_ >= 0) events.push_back({.fd = listener_, .events = POLLIN, .revents = 0});
  if (state_ == State::kStall) return events;
  for (const Connection& connection : connections_) {
    for (const Direction* direction : {&connection.up, &connection.down}) {
      if (!direction->read_ended) {
        events.push_back({.fd = direction->from, .events = POLLIN, .revents = 0});
      }
      if (direction->blocked) {
        events.push_back({.fd = direction->to, .events = POLLOUT, .revents = 0});
      }
    }
  }
  return events;
}

// Until the next byte is due; negative: nothing waits for a time.
std::chrono::nanoseconds DelayProxy::time_to_next() const {
  auto next = Clock::time_point::max();
  if (state_ == State::kPass || state_ == State::kMute) {
    for (const Connection& connection : connections_) {
      for (const Direction* direction : {&connection.up, &connection.down}) {
        if (direction->queue.empty() || direction->blocked) continue;
        next = std::min(next, direction->queue.front().due);
      }
    }
  }
  if (next == Clock::time_point::max()) return std::chrono::nanoseconds(-1);
  return std::max(std::chrono::nanoseconds(0), std::chrono::nanoseconds(next - Clock::now()));
}

void DelayProxy::accept_all() {
  while (listener_ >= 0) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    ++accepted_;
    const int server = connect_to(options_.target_host, options_.target_port);
    if (server < 0) {
      close_hard(client);
      continue;
    }
    make_prompt(client);
    Connection& connection = connections_.emplace_back();
    connection.client = connection.up.from = connection.down.to = client;
    connection.server = connection.up.to = connection.down.from = server;
  }
}

void DelayProxy::serve(Connection& connection) {
  if (state_ == State::kStall) return;
  for (Direction* direction : {&connection.up, &connection.down}) {
    receive(*direction, connection);
    if (!connection.broken) deliver(*direction, connection);
    if (connection.broken) return;
  }
}

void DelayProxy::receive(Direction& direction, Connection& connection) {
  while (!direction.read_ended) {
    std::vector<char> bytes(kReadBytes);
    const ssize_t got = read(direction.from, bytes.data(), bytes.size());
    if (not_now(got)) return;
    if (got < 0) {
      connection.broken = true;
      return;
    }
    bytes.resize(static_cast<size_t>(got));
    if (state_ == State::kMute && &direction == &connection.down && got > 0) continue;
    bytes.shrink_to_fit();
    distort(bytes);
    direction.read_ended = got == 0;
    direction.queue.push_back(
        {.due = Clock::now() + one_way_, .bytes = std::move(bytes), .sent = 0});
    if (static_cast<size_t>(got) < kReadBytes && got > 0) return;
  }
}

void DelayProxy::deliver(Direction& direction, Connection& connection) {
  direction.blocked = false;
  while (!direction.queue.empty() && direction.queue.front().due <= Clock::now()) {
    Chunk& chunk = direction.queue.front();
    if (chunk.bytes.empty()) {
      shutdown(direction.to, SHUT_WR);
      direction.write_ended = true;
      direction.queue.clear();
      return;
    }
    const ssize_t sent = send(direction.to, chunk.bytes.data() + chunk.sent,
                              chunk.bytes.size() - chunk.sent, MSG_NOSIGNAL);
    if (not_now(sent)) {
      direction.blocked = true;
      return;
    }
    if (sent < 0) {
      connection.broken = true;
      return;
    }
    bytes_ += static_cast<uint64_t>(sent);
    chunk.sent += static_cast<size_t>(sent);
    if (chunk.sent == chunk.bytes.size()) direction.queue.pop_front();
  }
}

void DelayProxy::distort(std::vector<char>& bytes) {
  if (corrupt_one_in_ == 0) return;
  for (char& byte : bytes) {
    const uint64_t draw = random_();
    if (draw % corrupt_one_in_ != 0) continue;
    byte = static_cast<char>(byte ^ (1 << ((draw >> 32) % 8)));
  }
}

}  // namespace test
