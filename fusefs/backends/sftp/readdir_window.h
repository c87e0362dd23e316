// ReaddirWindow: how many READDIR requests of one listing are kept under way. A pure policy:
// latencies go in, a number comes out.
//
// A server gives about 100 names a reply, whatever is asked, so what a listing gets a second is the
// window over the round trip: at 10 ms 32 keep a fast server busy, at 100 ms it takes 300. Beyond
// that more requests only queue at the server, in front of everybody else's.
//
// So the window doubles each round trip, as TCP's does at its start, as long as replies take not
// much longer than the shortest that this connection has seen; and shrinks by an eighth when they
// take far longer. A short queue is wanted: a server that finds several requests works them off in
// one go, with half the work for all the processes between it and us.
//
// Where the directory's size tells that it is large, the first doublings are saved: it begins with
// what a fast server would give in one round trip.
//
// Bounds:         [kLeast, kMost].
// Thread-safety:  none of its own.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "cache/base/clock.h"

namespace fusefs::sftp {

class ReaddirWindow {
 public:
  static constexpr uint32_t kLeast = 2;  // the entries, and the end
  static constexpr uint32_t kMost = 512;
  static constexpr uint64_t kRepliesPerMs = 2;  // of a fast server
  // What a reply may take longer than the shortest before that counts as a queue.
  static constexpr cache::Duration kSlack = std::chrono::milliseconds(25);

  [[nodiscard]] uint32_t size() const { return size_; }

  // Before the first request: about so many replies are expected (0: unknown), and a round trip
  // takes `least`.
  void expect(uint64_t replies, cache::Duration least) {
    const auto trip = std::chrono::duration_cast<std::chrono::milliseconds>(least).count();
    const uint64_t most =
        std::min<uint64_t>(kMost, 32 + kRepliesPerMs * static_cast<uint64_t>(trip));
    size_ = static_cast<uint32_t>(std::clamp<uint64_t>(replies + 1, kLeast, most));
  }

  // A reply came after `latency`; `least` is the shortest one of the connection. `full` says that
  // the window, and nothing else, kept further requests from being sent.
  void on_reply(cache::Duration latency, cache::Duration least, bool full) {
    if (latency > 3 * least + 3 * kSlack) {
      // Once for all the requests that were under way together.
      if (++late_ < size_) return;
      late_ = 0;
      size_ = std::max(kLeast, size_ - size_ / 8);
    } else if (full && latency <= 2 * least + kSlack) {
      late_ = 0;
      size_ = std::min(kMost, size_ + 1);
    }
  }

 private:
  uint32_t size_ = kLeast;
  uint32_t late_ = 0;  // replies in a row that came far too late
};

}  // namespace fusefs::sftp
