// The way to the simulated remote: round trips, bandwidth, a limit in flight, and what breaks.
//
// Purpose:        carries an exchange to the server, lets it be served there, and delivers the
//                 answer when it would arrive.
// Ownership:      owns every exchange until it was delivered, cancelled or close() was called;
//                 exchanges are destroyed with no lock held.
// Thread-safety:  all members may be called from any thread. serve() and deliver() run on the
//                 scheduler's thread, never from inside submit().
// Locks:          its own (kBackend) is held neither in serve() nor in deliver().
// Bound:          the queue is as long as the callers let it be: each of them waits for its answer.
//
//   QUEUED --[pump]--> SENT --[arrive]--> SERVED --[hand_over]--> delivered
//      |                 |                   |
//      +-----[cancel]----+-------------------+----> dropped
//                        +--[break_off]------+----> delivered, ENOTCONN
//   A cut link parks arrivals and answers; [restore] takes them up again. A request that times out
//   stays SENT. Queued requests outlive a disconnect. A lost reply is delivered as ENOTCONN when
//   it would have come.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/sim/sim_faults.h"
#include "fusefs/backends/sim/sim_scheduler.h"
#include "fusefs/backends/sim/sim_url.h"

namespace fusefs {

enum class SimRequestKind : uint8_t {
  kConnect,  // meets no random faults
  kLookup,
  kGetattr,
  kReadlink,
  kStatfs,
  kOpen,
  kRead,
  kReadDir,
  kWrite,
  kCommit,
  kChange,  // of the tree, of attributes, of a file's blocks
  kXattr,   // reads them
};
constexpr size_t kSimRequestKinds = 12;

class SimExchange {
 public:
  virtual ~SimExchange() = default;
  // At the server: works the answer out and tells its size in bytes.
  virtual uint64_t serve(const SimDraw& draw) = 0;
  // Back home: the answer, or the errno of the way to it.
  virtual void deliver(int error) = 0;
};

class SimLink {
 public:
  using RequestId = uint64_t;
  using Duration = SimScheduler::Duration;

  // `scheduler` must be stopped before the link goes.
  SimLink(const SimConfig& config, SimScheduler& scheduler);

  RequestId submit(SimRequestKind kind, std::unique_ptr<SimExchange> exchange);
  void cancel(RequestId id);  // unknown ids are ignored

  // No request arrives and no answer comes until restore().
  void cut();
  void restore();
  // As the fault of that name, at once.
  void disconnect();
  // Drops everything; nothing is delivered any more. The scheduler has been stopped.
  void close();

  [[nodiscard]] BackendCounters counters() const;
  [[nodiscard]] uint64_t requests(SimRequestKind kind) const;

 private:
  enum class State : uint8_t { kQueued, kSent, kServed };
  struct Request {
    State state = State::kQueued;
    SimRequestKind kind = SimRequestKind::kConnect;
    SimDraw draw;
    SimScheduler::EventId event;
    std::shared_ptr<SimExchange> exchange;  // shared with serve(), which a cancel may overtake
  };
  using Requests = std::unordered_map<RequestId, Request>;

  void pump() REQUIRES(mutex_);
  void arrive(RequestId id, Duration due);
  void schedule_answer(RequestId id, Duration due, uint64_t bytes);
  void hand_over(RequestId id);
  // True when the link is cut and `id` was parked.
  bool park(RequestId id) REQUIRES(mutex_);
  void break_off(Duration due);
  // Takes a request out and gives its slot to the next.
  Request take(Requests::iterator place) REQUIRES(mutex_);
  [[nodiscard]] Duration jitter(const SimDraw& draw) const;

  const SimConfig config_;
  SimScheduler& scheduler_;

  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  Requests requests_ GUARDED_BY(mutex_);
  std::deque<RequestId> queue_ GUARDED_BY(mutex_);
  std::vector<RequestId> parked_ GUARDED_BY(mutex_);
  RequestId next_id_ GUARDED_BY(mutex_) = 1;
  uint64_t next_fault_serial_ GUARDED_BY(mutex_) = 1;
  Duration free_at_ GUARDED_BY(mutex_){0};  // when the wire has sent all answers so far
  Duration down_until_ GUARDED_BY(mutex_){0};
  bool cut_ GUARDED_BY(mutex_) = false;
  BackendCounters counters_ GUARDED_BY(mutex_);
  std::array<uint64_t, kSimRequestKinds> kinds_ GUARDED_BY(mutex_){};
};

}  // namespace fusefs
