// What stands in the queue leaves it once, in order, however little the socket takes.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "fusefs/backends/sftp/out_queue.h"
#include "tests/support/random.h"

namespace {

using fusefs::sftp::append_head;
using fusefs::sftp::append_init;
using fusefs::sftp::OutQueue;
using fusefs::sftp::Request;

// Both ends, neither of which waits.
struct Pair {
  Pair() {
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const int small = 4096;  // the kernel takes a little more
    REQUIRE(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
  }
  ~Pair() {
    for (const int end : ends) close(end);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  std::string received() {
    std::string all;
    std::array<char, 4096> some{};
    for (ssize_t got = 0; (got = read(ends[1], some.data(), some.size())) > 0;) {
      all.append(some.data(), static_cast<size_t>(got));
    }
    return all;
  }

  std::array<int, 2> ends{};
};

}  // namespace

TEST_CASE("sftp: what is queued is sent once, in order, whatever the socket takes") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  OutQueue queue;
  Pair pair;
  std::string expected, got;
  queue.add_init();
  append_init(&expected);
  for (uint32_t id = 1; id <= 600; ++id) {
    Request request;
    if (random.one_in(3)) {
      std::string bytes(random.below(30000), 'x');
      for (char& byte : bytes) byte = static_cast<char>(random.below(256));
      const size_t from = random.below(bytes.size() + 1);
      const size_t count = random.below(bytes.size() - from + 1);
      request = fusefs::sftp::write_request(
          "h", id, std::make_shared<const std::string>(std::move(bytes)), from, count);
    } else {
      request = fusefs::sftp::lstat_request(std::string(random.below(300), 'p'));
    }
    append_head(request, id, &expected);
    if (request.bytes) expected.append(*request.bytes, request.from, request.count);
    queue.add(request, id);
    if (random.one_in(4)) queue.send_to(pair.ends[0]);
    if (random.one_in(4)) got += pair.received();
  }
  while (!queue.empty()) {
    queue.send_to(pair.ends[0]);
    got += pair.received();
  }
  got += pair.received();
  CHECK(got.size() == expected.size());
  CHECK(got == expected);
}

TEST_CASE("sftp: a socket that is closed leaves the queue as it is, until it is cleared") {
  Pair pair;
  shutdown(pair.ends[1], SHUT_RD);
  OutQueue queue;
  const auto bytes = std::make_shared<const std::string>(1000, 'x');
  queue.add(fusefs::sftp::write_request("h", 0, bytes, 0, bytes->size()), 1);
  CHECK(bytes.use_count() > 1);
  queue.send_to(pair.ends[0]);
  CHECK_FALSE(queue.empty());
  queue.clear();
  CHECK(queue.empty());
  CHECK(bytes.use_count() == 1);
}
