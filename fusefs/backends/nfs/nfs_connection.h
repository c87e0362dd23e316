// Connection: one TCP connection of a client, and the thread that serves it.
//
//   DOWN -> UP   [reconnect]  after a pause of kFirstBackOff, doubled by every failure up to
//                             kLongestBackOff, and a little more or less by chance
//   UP -> DOWN   [serve]      the server closed it; nothing came for timeo although something was
//                             due; a call has waited for kPatience times timeo. What was under way
//                             goes back to the client's queue
//
// Ownership:      owned by its client. The thread alone has the RPC context and the list of what is
//                 under way. The destructor joins; the client has been told to stop by then.
// Thread-safety:  wake() from any thread, the rest by the client.
// Errors:         a connection that breaks before its first answer counts as a failure to connect,
//                 so that a server which accepts and hangs up is not asked in a tight loop.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "fusefs/backends/nfs/nfs_client.h"
#include "fusefs/backends/nfs/rpc.h"
#include "fusefs/backends/nfs/thread.h"

namespace fusefs::nfs {

class Connection {
 public:
  static constexpr std::chrono::milliseconds kFirstBackOff{50};
  static constexpr std::chrono::milliseconds kLongestBackOff{2000};
  static constexpr std::chrono::milliseconds kConnectDeadline{5000};
  static constexpr int kPatience = 6;
  static constexpr size_t kMaxUnsent = size_t{4} << 20;  // bytes; calls beyond it stay queued

  Connection(Client& client, size_t number);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void wake();

 private:
  struct Sent {
    CallPtr call;
    cache::TimePoint when;
  };

  void run();
  bool reconnect();
  void serve();
  void send_queued();
  void send_calls(std::vector<CallPtr>& calls);
  void on_reply(const CallPtr& call, RpcStatus status, const void* result, const char* text);
  void go_down(int error);
  [[nodiscard]] bool stalled(cache::TimePoint now) const;
  void sleep_until(cache::TimePoint until);
  void drain_wake() const;
  void back_off();

  Client& client_;
  const size_t number_;
  const int wake_fd_;
  std::unique_ptr<RpcContext> rpc_;  // null: down
  std::unordered_map<const Call*, Sent> sent_;
  std::vector<Address> addresses_;
  size_t next_address_ = 0;
  uint32_t failures_ = 0;  // in a row
  cache::TimePoint next_attempt_;
  bool answered_ = false;  // something, since the connection came up
  std::minstd_rand random_;
  std::unique_ptr<Thread> thread_;
};

}  // namespace fusefs::nfs
