// The proxy itself: what it adds, and that it breaks in the ways it says.

#include "tests/support/delay_proxy.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <numeric>
#include <optional>

#include "tests/support/eventually.h"
#include "tests/support/loopback.h"

using test::DelayProxy;
using test::loopback;

namespace {

constexpr int kPatienceMs = 30'000;

bool readable(int fd, int patience_ms = kPatienceMs) {
  pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&ready, 1, patience_ms) == 1;
}

// A server that takes connections one after another and gives back what it gets.
class Echo {
 public:
  Echo() {
    socklen_t size = sizeof address_;
    address_ = loopback(0);
    REQUIRE(bind(listener_, reinterpret_cast<sockaddr*>(&address_), size) == 0);
    REQUIRE(listen(listener_, 8) == 0);
    REQUIRE(getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &size) == 0);
    thread_ = std::thread([this] {
      for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0; close(fd)) serve(fd);
    });
  }
  ~Echo() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  [[nodiscard]] uint16_t port() const { return ntohs(address_.sin_port); }

 private:
  static void serve(int fd) {
    std::vector<char> bytes(1 << 16);
    for (ssize_t got; (got = read(fd, bytes.data(), bytes.size())) > 0;) {
      if (send(fd, bytes.data(), static_cast<size_t>(got), MSG_NOSIGNAL) != got) return;
    }
  }

  const int listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address_{};
  std::thread thread_;
};

class Client {
 public:
  explicit Client(uint16_t port) {
    const sockaddr_in address = loopback(port);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] int fd() const { return fd_; }
  void say(const std::string& text) const {
    REQUIRE(send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
  }
  // So many bytes, or fewer when the connection ends before.
  [[nodiscard]] std::string hear(size_t count) const {
    std::string heard;
    std::vector<char> bytes(1 << 16);
    while (heard.size() < count && readable(fd_)) {
      const ssize_t got = read(fd_, bytes.data(), bytes.size());
      if (got <= 0) break;
      heard.append(bytes.data(), static_cast<size_t>(got));
    }
    return heard;
  }

 private:
  const int fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool connected_ = false;
};

DelayProxy::Options to(const Echo& echo, std::chrono::milliseconds rtt) {
  DelayProxy::Options options;
  options.target_port = echo.port();
  options.rtt = rtt;
  return options;
}

std::string alphabet(size_t length) {
  std::string text(length, ' ');
  for (size_t i = 0; i < length; ++i) text[i] = static_cast<char>('a' + i % 26);
  return text;
}

}  // namespace

TEST_CASE("the delay proxy: nothing comes back before the round trip, and all of it comes") {
  const Echo echo;
  const auto rtt = std::chrono::milliseconds(40);
  const DelayProxy proxy(to(echo, rtt));
  const Client client(proxy.port());
  REQUIRE(client.connected());
  const auto start = std::chrono::steady_clock::now();
  const std::string text = alphabet(50'000);
  client.say(text);
  CHECK(client.hear(text.size()) == text);
  CHECK(std::chrono::steady_clock::now() - start >= rtt);
  CHECK(proxy.bytes() == 2 * text.size());
}

TEST_CASE("the delay proxy: the end of one side is passed on") {
  const Echo echo;
  const DelayProxy proxy(to(echo, std::chrono::milliseconds(2)));
  const Client client(proxy.port());
  client.say("last words");
  shutdown(client.fd(), SHUT_WR);
  CHECK(client.hear(100) == "last words");
  CHECK(test::eventually([&] { return proxy.connections() == 0; }));
}

TEST_CASE("the delay proxy: a cut closes connections and refuses new ones until it is resumed") {
  const Echo echo;
  DelayProxy proxy(to(echo, std::chrono::milliseconds(2)));
  const Client client(proxy.port());
  client.say("hello");
  REQUIRE(client.hear(5) == "hello");
  proxy.cut();
  CHECK(client.hear(1).empty());
  CHECK_FALSE(Client(proxy.port()).connected());
  proxy.resume();
  const Client again(proxy.port());
  REQUIRE(again.connected());
  again.say("hello");
  CHECK(again.hear(5) == "hello");
}

TEST_CASE("the delay proxy: a stall keeps everything, and resuming passes it on") {
  const Echo echo;
  DelayProxy proxy(to(echo, std::chrono::milliseconds(1)));
  const Client client(proxy.port());
  client.say("one");
  REQUIRE(client.hear(3) == "one");
  proxy.stall();
  client.say("two");
  CHECK_FALSE(readable(client.fd(), 50));
  CHECK(proxy.connections() == 1);
  proxy.resume();
  CHECK(client.hear(3) == "two");
}

TEST_CASE("the delay proxy: while it is mute, what is said is heard and what is answered is lost") {
  const Echo echo;
  DelayProxy proxy(to(echo, std::chrono::milliseconds(1)));
  const Client client(proxy.port());
  client.say("one");
  REQUIRE(client.hear(3) == "one");
  REQUIRE(test::eventually([&] { return proxy.bytes() == 6; }));
  proxy.mute();
  client.say("two");
  REQUIRE(test::eventually([&] { return proxy.bytes() == 9; }));
  CHECK_FALSE(readable(client.fd(), 50));
  proxy.cut();
  CHECK(client.hear(3).empty());
}

TEST_CASE("the delay proxy: corruption changes some bytes and loses none") {
  const Echo echo;
  DelayProxy proxy(to(echo, std::chrono::milliseconds(1)));
  const Client client(proxy.port());
  proxy.corrupt(100);
  const std::string text = alphabet(20'000);
  client.say(text);
  const std::string heard = client.hear(text.size());
  REQUIRE(heard.size() == text.size());
  const size_t changed =
      std::inner_product(text.begin(), text.end(), heard.begin(), size_t{0}, std::plus<>(),
                         [](char a, char b) { return a != b ? 1u : 0u; });
  CHECK(changed > 0);
  CHECK(changed < 4000);
  proxy.resume();
  client.say(text);
  CHECK(client.hear(text.size()) == text);
}
