// ReaddirWindow: how many READDIR requests of one listing are kept under way. A pure policy:
// latencies go in, a number comes out.
//
// A server gives about 100 names a reply, whatever is asked, so what a listing gets a second is the
// window over the round trip: at 10 ms 32 keep a fast server busy, at 100 ms it takes 300. Beyond
// that more requests only queue at the server, in front of everybody else's.
//
// So the window doubles each round trip, as TCP's does at its start, as long as replies take not
// much longer than the shortest that this connection has seen; and shrinks by an eighth when they
// take far longer.
//
// Bounds:         [kLeast, kMost]. A hint of the directory's size saves the first doublings.
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
  static constexpr uint32_t kMostAtFirst = 64;
  // What a reply may take longer than the shortest before that counts as a queue.
  static constexpr cache::Duration kSlack = std::chrono::milliseconds(8);

  [[nodiscard]] uint32_t size() const { return size_; }

  // Before the first request: about so many replies are expected; 0: unknown.
  void expect(uint64_t replies) {
    size_ = static_cast<uint32_t>(std::clamp<uint64_t>(replies + 1, kLeast, kMostAtFirst));
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
