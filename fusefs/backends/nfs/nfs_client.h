// Client: many calls in flight to one server, over several connections that mend themselves.
//
//   QUEUED -> SENT      [take_queued]   a connection has room
//   QUEUED, SENT -> PAUSED [answered]   the server asked for patience (JUKEBOX, DELAY)
//   PAUSED -> QUEUED    [tick]          after a pause that grows to kLongestPause
//   SENT -> QUEUED      [requeue]       its connection broke; ahead of the others
//   any -> ENDED        [answered], [tick]: soft and too long; [cancel]: nobody is told
//
// Purpose:        soft and hard as users of NFS know them. hard (the default): a call is repeated
//                 until its asker gives up. soft: it fails with ETIMEDOUT timeo * (retrans + 1)
//                 after it was submitted, wherever it is then.
// Ownership:      owns its connections (a thread each, nfs_connection.h), a timer thread, the
//                 completion threads, and every call until it ends. The destructor joins the
//                 threads; calls that have not ended by then are dropped.
// Thread-safety:  start() first, by one thread; then all members from any thread.
// Locks:          LockRank::kBackend; not held while calls are sent, taken or finished.
// Bounds:         kMaxCalls calls, then EAGAIN; kWindow sent on one connection.
// Source:         the states are those of Linux' sunrpc (net/sunrpc/clnt.c), less what TCP needs
//                 not.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/backends/nfs/call.h"
#include "fusefs/backends/nfs/completion_threads.h"
#include "fusefs/backends/nfs/socket.h"

namespace fusefs::nfs {

class Connection;

struct ClientOptions {
  enum class Patience : uint8_t { kHard, kSoft };

  std::string host;
  uint16_t port = 2049;
  uint32_t connections = 2;
  Patience patience = Patience::kHard;
  std::chrono::milliseconds timeo{10000};  // without an answer, until a connection is given up
  uint32_t retrans = 2;
  SourcePort source = SourcePort::kReserved;
  Security security = Security::kSys;
};

class Client {
 public:
  static constexpr size_t kMaxCalls = 16384;
  static constexpr size_t kWindow = 64;
  static constexpr std::chrono::milliseconds kFirstPause{50};
  static constexpr std::chrono::milliseconds kLongestPause{5000};

  explicit Client(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Connects; waits until the first connection stands, or every one has failed once.
  cache::Status start(cache::TimePoint deadline);

  // An id for calls that are cancelled together.
  uint64_t new_id() { return next_id_.fetch_add(1, std::memory_order_relaxed); }  // only unique
  void submit(uint64_t id, CallPtr call);
  // The same, after a pause.
  void submit_later(uint64_t id, CallPtr call, cache::Duration pause);
  // Its calls are not finished any more; those under way may be answered for nobody.
  void cancel(uint64_t id);
  // Runs a task on a completion thread.
  void post(std::function<void()> task) { completions_.post(std::move(task)); }

  [[nodiscard]] BackendCounters counters() const;
  // The least time that an answer took, of late; 0: nothing was answered yet.
  [[nodiscard]] std::chrono::microseconds round_trip() const {
    return std::chrono::microseconds(round_trip_us_.load(std::memory_order_relaxed));  // a hint
  }
  [[nodiscard]] const ClientOptions& options() const { return options_; }

 private:
  friend class Connection;

  // ---- for connections ----
  [[nodiscard]] bool stopping() const { return stopping_.load(std::memory_order_acquire); }
  std::vector<CallPtr> take_queued(size_t room, size_t connection);
  // What take() said, or the error that the call ends with.
  void answered(const CallPtr& call, int outcome, size_t connection);
  void requeue(const std::vector<CallPtr>& calls, size_t connection);
  void connected(size_t connection);
  void disconnected(size_t connection, int error);
  void note_round_trip(cache::Duration took);

  struct Channel {
    std::unique_ptr<Connection> connection;
    bool connected = false;
    bool tried = false;
    size_t sent = 0;
  };

  void enqueue_locked(CallPtr call) REQUIRES(mutex_);
  void wake_one_locked() REQUIRES(mutex_);
  void end_locked(const CallPtr& call) REQUIRES(mutex_);
  [[nodiscard]] bool live_locked(const Call& call) const REQUIRES(mutex_);
  void finish(const CallPtr& call, int error);
  void tick_forever();
  cache::TimePoint tick_locked(cache::TimePoint now, std::vector<CallPtr>* expired)
      REQUIRES(mutex_);

  const ClientOptions options_;
  std::atomic<uint64_t> next_id_{1};
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> round_trip_us_{0};
  // Relaxed: statistics.
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> errors_{0};

  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  cache::CondVar changed_;  // a connection's state, or the time until the next tick
  std::unordered_multimap<uint64_t, CallPtr> calls_ GUARDED_BY(mutex_);  // all that have not ended
  std::deque<CallPtr> queue_ GUARDED_BY(mutex_);                         // ended ones are skipped
  std::multimap<cache::TimePoint, CallPtr> paused_ GUARDED_BY(mutex_);
  std::vector<Channel> channels_ GUARDED_BY(mutex_);  // its length is constant
  uint64_t peak_ GUARDED_BY(mutex_) = 0;
  int last_error_ GUARDED_BY(mutex_) = 0;
  uint32_t up_ GUARDED_BY(mutex_) = 0;  // connections that stand
  bool complained_ GUARDED_BY(mutex_) = false;

  CompletionThreads completions_;
  std::thread timer_;
};

}  // namespace fusefs::nfs
