// LineWindow: how many bytes of requests may be under way at a time on the way to a remote.
//
// Purpose:        enough that the line is never idle, little enough that nothing else waits long
//                 behind them: whatever is sent next stands in the same line.
// Policy:         begins at kFirst and doubles with each round trip; after the first setback it
//                 grows by a request each. So it does while answers take up to a third of `wait`
//                 longer than the fastest one, and the window is in use; one that took all of
//                 `wait` longer sets it to what the line has carried in that time, less what made
//                 it wait, once for all that was sent by then. In between it stays. A request that
//                 went alone tells what fast is by now.
// Thread-safety:  none of its own.
// Units:          bytes.
// Source:         TCP Vegas (Brakmo, Peterson 1995): the queue shows in the time that answers take.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cache/base/clock.h"

namespace cache {

// A request that is under way.
struct LineUse {
  uint64_t bytes = 0;
  uint64_t before = 0;  // others' when it was sent
  TimePoint sent;
};

class LineWindow {
 public:
  static constexpr uint64_t kFirst = uint64_t{1} << 20;
  static constexpr uint64_t kLeast = uint64_t{256} << 10;
  static constexpr Duration kWait = std::chrono::milliseconds(300);

  explicit LineWindow(uint64_t most, Duration wait = kWait) : most_(most), wait_(wait) {}

  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  // No request should be larger: how long the line takes for it alone can't be told from how far
  // away the remote is.
  [[nodiscard]] uint64_t request() const {
    return std::max(std::bit_floor(bytes_ / 2), std::min(kLeast, most_));
  }
  void answered(const LineUse& use, TimePoint now);

 private:
  const uint64_t most_;
  const Duration wait_;
  uint64_t bytes_ = std::min(kFirst, most_);
  Duration fastest_ = Duration::max();
  TimePoint set_back_ = TimePoint::min();
};

}  // namespace cache
