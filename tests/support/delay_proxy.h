// DelayProxy: a TCP proxy on loopback that adds the round trip, and breaks when told to.
//
// Purpose:        a far and unreliable network for tests and measurements, where the kernel can't
//                 delay packets itself. Every byte is held for half of the round trip in each
//                 direction; bandwidth is not limited, and what is in flight is not bounded.
//                 Setting up a connection takes no time of its own.
// Ownership:      the listener, every connection and one thread, all gone with the destructor.
// Thread-safety:  all members may be called from any thread. When a command returns, it holds.
// Errors:         exceptions from the constructor; a target that can't be reached closes the
//                 connection that wanted it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

struct pollfd;

namespace test {

class DelayProxy {
 public:
  struct Options {
    std::string target_host = "127.0.0.1";  // an IPv4 address
    uint16_t target_port = 0;
    uint16_t listen_port = 0;  // on 127.0.0.1; 0: any that is free
    std::chrono::nanoseconds rtt{0};
    uint64_t seed = 1;  // of corrupt()
  };

  explicit DelayProxy(const Options& options);
  ~DelayProxy();
  DelayProxy(const DelayProxy&) = delete;
  DelayProxy& operator=(const DelayProxy&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }

  // Closes every connection and refuses new ones. The port stays ours.
  void cut();
  // Keeps connections open, takes new ones, and passes nothing; resume() passes all that was sent
  // meanwhile.
  void stall();
  // Passes what clients send; what the server answers is lost.
  void mute();
  // Flips one bit in about one of `one_in` bytes, from now on.
  void corrupt(uint32_t one_in);
  // Ends cut, stall, mute and corruption.
  void resume();
  // Of bytes that arrive from now on.
  void set_rtt(std::chrono::nanoseconds rtt);

  [[nodiscard]] size_t connections() const;
  [[nodiscard]] uint64_t accepted() const;  // connections, since the start
  [[nodiscard]] uint64_t bytes() const;     // passed on, both directions

 private:
  using Clock = std::chrono::steady_clock;
  enum class State : uint8_t { kPass, kStall, kMute, kCut };

  // Bytes of one direction that arrived together. Empty: the sender has closed its side.
  struct Chunk {
    Clock::time_point due;
    std::vector<char> bytes;
    size_t sent = 0;
  };
  struct Direction {
    int from = -1;
    int to = -1;
    std::deque<Chunk> queue;
    bool read_ended = false;
    bool write_ended = false;
    bool blocked = false;  // the last write took less than there was
  };
  struct Connection {
    int client = -1;
    int server = -1;
    Direction up, down;
    bool broken = false;
  };

  void run();
  void bind_port(uint16_t wanted);
  void open_listener();
  void wake() const;
  void close_all();
  void accept_all();
  void serve(Connection& connection);
  void receive(Direction& direction, Connection& connection);
  void deliver(Direction& direction, Connection& connection);
  void distort(std::vector<char>& bytes);
  [[nodiscard]] std::vector<pollfd> wanted_events() const;
  [[nodiscard]] std::chrono::nanoseconds time_to_next() const;

  const Options options_;
  uint16_t port_ = 0;
  int reserved_ = -1;  // bound and never listening: the port is ours while nobody may connect
  int wake_ = -1;

  mutable std::mutex mutex_;  // guards all below; not held while the thread polls
  int listener_ = -1;
  State state_ = State::kPass;
  uint32_t corrupt_one_in_ = 0;
  std::chrono::nanoseconds one_way_{0};
  std::mt19937_64 random_;
  std::list<Connection> connections_;
  uint64_t accepted_ = 0;
  uint64_t bytes_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace test
