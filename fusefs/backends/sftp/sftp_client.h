// SftpClient: one connection to an SFTP server, kept up, and the requests on it.
//
// Purpose:        numbers requests, sends them without waiting for each other's replies, matches
//                 the replies, gives up what is late, and starts the child again when it is gone.
// Ownership:      owns the child and one thread, which runs everything: replies, what was posted,
//                 the ticks. Both are gone when stop() returns; what waited is dropped.
// Thread-safety:  post(), run_or_post(), connect(), stop() and counters() from any thread; all
//                 else, marked 'loop', is for whoever has the loop's turn: its own thread, which
//                 lends it to others while it waits for events. One thread has it at a time.
// Locks:          LockRank::kBackend around the queue of posts; none is held when anything is
//                 called.
// Errors:         an Answer's `error`: ETIMEDOUT (kRequestPatience); ECONNRESET: the connection was
//                 lost, and the request with it; EBADMSG: the same, because the server spoke
//                 nonsense; EPROTO: it did so each time that the request was sent.
//
//   DOWN -> STARTING      [start_child]  somebody asks, and the back-off has passed
//   STARTING -> UP        [on_version]   all that waits is sent
//   STARTING, UP -> DOWN  [lose]         the child ended, fell silent with requests under way
//                                        (kSilence), or spoke nonsense
//
// Requests that name a path wait for the next connection and are sent again, those that name a
// handle are lost with it, and so are those that change something (kOneConnection): who sent them
// looks first whether they happened. A request during which the server spoke nonsense is sent
// again once.
// Bounds:         kMaxLost losses a request; kRequestPatience from first to last. What is still to
//                 be sent is bounded by those who ask: writes are, by the cache's write-back.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/sftp/codec.h"
#include "fusefs/backends/sftp/out_queue.h"
#include "fusefs/backends/sftp/ssh_child.h"

namespace fusefs::sftp {

class SftpClient {
 public:
  // Longer than a mount's `timeout=` is by default: that one gives up first, and knows for whom.
  static constexpr std::chrono::seconds kRequestPatience{90};
  // With requests under way and not a byte received: the connection is dead, whatever TCP thinks.
  static constexpr std::chrono::seconds kSilence{15};
  // The same while the server may be busy with one request (Request::slow).
  static constexpr std::chrono::seconds kSilenceWhenSlow{75};
  // Bytes a second: a line that carries fewer is no line. By it, bytes that were sent and not
  // answered excuse lateness; and silence up to kSilenceWhenSlow, since each WRITE is answered.
  static constexpr uint64_t kSlowestLine = 16 << 10;
  // What every server takes in one READ or WRITE; what ours may say that they take. (OpenSSH takes
  // 255 KiB: 300 MB on loopback cost 0.24 s of processor time to read and 0.42 s to write, by
  // 32 KiB 0.47 s and 0.64 s.)
  static constexpr uint32_t kUsualLength = 32 << 10;
  static constexpr uint32_t kLeastLength = 4 << 10;
  static constexpr uint32_t kMostLength = kMaxPacket - 1024;
  // For a first connection somebody may have to type a password.
  static constexpr std::chrono::seconds kFirstConnection{180};
  static constexpr std::chrono::seconds kNextConnection{30};
  static constexpr std::chrono::milliseconds kFirstBackOff{100};
  static constexpr std::chrono::milliseconds kMaxBackOff{3000};
  static constexpr std::chrono::milliseconds kTick{250};
  static constexpr uint32_t kMaxLost = 16;
  static constexpr uint32_t kMaxNonsense = 2;

  // What became of a request; `type` and `body` (valid during the call) when `error` is 0.
  struct Answer {
    int error = 0;
    PacketType type = PacketType::kStatus;
    std::string_view body;
    cache::Duration latency{};  // from sending it to this answer
  };
  using Done = std::function<void(const Answer&)>;
  using RequestKey = uint64_t;  // never 0
  // In place of a connection's number: the request names a path, and may go to any.
  static constexpr uint64_t kAnyConnection = 0;
  // The same, but only to the one on which it is sent first: it is not sent again.
  static constexpr uint64_t kOneConnection = ~uint64_t{0};

  // `words` is the command to run, `shown` what it is called in messages.
  SftpClient(std::vector<std::string> words, std::string shown);
  ~SftpClient();
  SftpClient(const SftpClient&) = delete;
  SftpClient& operator=(const SftpClient&) = delete;

  // The first connection: starts the thread, waits. The child may use the terminal. On failure
  // `words` has what the child said, else what we know.
  Status connect(std::string* words);
  // Ends the thread and the child. Further posts are dropped.
  void stop();
  // Runs `job` on the loop.
  void post(std::function<void()> job);
  // The same by the caller itself, before it returns, where the loop is at rest and everything
  // posted before has run: what asks for one thing saves a switch of threads on its way out. `job`
  // may call its caller back then, and leaves to do nothing that set_after_batch() is for.
  void run_or_post(std::function<void()> job);
  [[nodiscard]] BackendCounters counters() const;

  // ---- loop ----

  // `done` is called once, later, unless the request is cancelled before. A request that names a
  // handle gets ECONNRESET when `connection`, on which that was opened, is over: servers use the
  // same few handles again, and it would be another one's on the next.
  RequestKey submit(Request request, uint64_t connection, Done done);
  // What a request would have opened is closed.
  void cancel(RequestKey key);
  // Sends what was submitted now, and not only when the loop comes round.
  void flush();
  // Counts connections: a handle is good for the one on which it was opened.
  [[nodiscard]] uint64_t connection() const { return connection_; }
  // What the server of this connection offers, and takes in one READ or WRITE.
  [[nodiscard]] const Extensions& extensions() const { return extensions_; }
  [[nodiscard]] uint32_t read_length() const { return read_length_; }
  [[nodiscard]] uint32_t write_length() const { return write_length_; }
  // The shortest time that any request of this connection took; zero: none is known.
  [[nodiscard]] cache::Duration least_latency() const { return least_latency_; }
  // Called after each batch of replies, and with every tick: what is to be done once for all of
  // them. It tells when it wants to be called again at the latest.
  void set_after_batch(std::function<cache::TimePoint()> hook) { after_batch_ = std::move(hook); }
  void set_on_tick(std::function<void(cache::TimePoint)> hook) { on_tick_ = std::move(hook); }

 private:
  enum class State : uint8_t { kDown, kStarting, kUp };
  struct Pending {
    RequestKey key = 0;
    Request request;
    uint64_t connection = kAnyConnection;  // the only one that it may go to
    Done done;                             // empty: cancelled, or given up
    cache::TimePoint deadline;
    cache::TimePoint sent;
    uint32_t lost = 0;
    uint32_t nonsense = 0;
  };
  using WireId = uint32_t;
  // Who may touch what is marked 'loop'.
  enum class Turn : uint32_t { kLoop, kFree, kLent };

  void run();
  bool run_posts();
  void wake();
  bool borrow_turn();
  void return_turn();
  void take_turn_back();
  void wait_for_events(cache::TimePoint until);
  void on_socket_readable();
  void take_packets();
  void take_packet(std::string_view packet);
  void on_version(std::string_view packet);
  void ask_limits();
  [[nodiscard]] static uint32_t length_within(uint64_t told);
  void close_late_handle(const Pending& pending, const Reply& reply);
  void take_messages();
  void tick(cache::TimePoint now);
  void watch_silence(cache::TimePoint now);
  [[nodiscard]] std::chrono::seconds time_to_send() const;
  void give_up_late(cache::TimePoint now);
  void settle_lost(bool nonsense);
  void start_child(cache::TimePoint now);
  void lose(const std::string& why, bool nonsense = false);
  void end_first_connection(const std::string& failure);
  void send(Pending&& pending);
  void send_waiting();
  void finish(Pending&& pending, int error);
  void note_inflight();
  [[nodiscard]] std::string failure_text(const std::string& why) const;

  const std::vector<std::string> words_;
  const std::string shown_;
  const int wake_;

  cache::Mutex mutex_{cache::LockRank::kBackend};
  cache::CondVar first_;  // the first connection is up, or has failed
  std::deque<std::function<void()>> posts_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool first_over_ GUARDED_BY(mutex_) = false;
  std::string first_failure_ GUARDED_BY(mutex_);
  std::thread thread_;  // set by connect(), joined by stop()

  // Statistics: relaxed, they order nothing.
  std::atomic<uint64_t> requests_{0}, inflight_{0}, inflight_peak_{0}, errors_{0};

  // Orders what one who had the turn did before what the next one does.
  std::atomic<Turn> turn_{Turn::kLoop};

  // ---- loop ----
  State state_ = State::kDown;
  SshChild child_;
  PacketCutter cutter_;
  OutQueue out_;
  std::unordered_map<WireId, Pending> pending_;  // sent
  std::unordered_map<RequestKey, WireId> wire_ids_;
  std::deque<Pending> waiting_;   // for a connection
  std::deque<Pending> settling_;  // taken out of the others, to be finished or sent one by one
  RequestKey last_key_ = 0;
  WireId last_wire_id_ = 0;
  uint64_t connection_ = 0;
  Extensions extensions_;
  uint32_t read_length_ = kUsualLength, write_length_ = kUsualLength;
  uint64_t unanswered_ = 0;  // bytes of WRITEs sent
  bool first_connection_ = true;
  bool outage_told_ = false;
  std::chrono::milliseconds back_off_{0};
  cache::TimePoint retry_at_{};
  cache::TimePoint started_at_{};
  cache::TimePoint heard_at_{};
  cache::TimePoint next_tick_{};
  cache::Duration least_latency_{};
  std::deque<std::string> said_;  // the child's last lines
  std::function<cache::TimePoint()> after_batch_;
  std::function<void(cache::TimePoint)> on_tick_;
};

}  // namespace fusefs::sftp
