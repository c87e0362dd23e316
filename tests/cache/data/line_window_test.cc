// LineWindow on lines of every speed, simulated: each request takes its bytes' time on the line,
// one after the other, and half a round trip before and after.
#include "cache/data/line_window.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>

using cache::Duration;
using cache::LineUse;
using cache::LineWindow;
using cache::TimePoint;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr uint64_t kKiB = uint64_t{1} << 10;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kMost = 16 * kMiB;

struct Line {
  uint64_t rate = kMiB;  // bytes a second
  Duration rtt{0};
};

class Sender {
 public:
  explicit Sender(const Line& on) : line(on) {}

  // Keeps the window full for so long. Tells the longest that a request took in the second half.
  Duration run(Duration time, uint64_t request = 256 * kKiB) {
    const TimePoint end = now_ + time;
    const TimePoint half = now_ + time / 2;
    Duration longest{0};
    idle_ = Duration{0};
    while (now_ < end) {
      while (under_way_ == 0 || under_way_ + request <= window.bytes()) send(request);
      const Sent next = queue_.front();
      queue_.pop_front();
      now_ = next.answered;
      under_way_ -= next.use.bytes;
      window.answered(next.use, now_);
      if (now_ > half) longest = std::max(longest, now_ - next.use.sent);
    }
    return longest;
  }
  // Until everything has been answered.
  void drain() {
    for (; !queue_.empty(); queue_.pop_front()) {
      now_ = queue_.front().answered;
      window.answered(queue_.front().use, now_);
    }
    under_way_ = 0;
  }
  // How long the line carried nothing.
  [[nodiscard]] Duration idle() const { return idle_; }

  Line line;
  LineWindow window{kMost};

 private:
  struct Sent {
    LineUse use;
    TimePoint answered;
  };
  void send(uint64_t bytes) {
    const TimePoint begins = std::max(free_at_, now_ + line.rtt / 2);
    idle_ += begins - std::max(free_at_, TimePoint{});
    const auto takes = std::chrono::nanoseconds(bytes * 1'000'000'000 / line.rate);
    free_at_ = begins + takes;
    queue_.push_back(
        {{.bytes = bytes, .before = under_way_, .sent = now_}, free_at_ + line.rtt / 2});
    under_way_ += bytes;
  }

  TimePoint now_{};
  TimePoint free_at_{};
  Duration idle_{0};
  uint64_t under_way_ = 0;
  std::deque<Sent> queue_;
};

}  // namespace

TEST_CASE("LineWindow: nothing waits long behind what is under way, however slow the line") {
  for (const uint64_t rate : {kMiB / 4, kMiB / 2, kMiB, 4 * kMiB, 16 * kMiB}) {
    for (const milliseconds rtt : {milliseconds(1), milliseconds(50), milliseconds(600)}) {
      INFO(rate << " bytes/s, " << rtt.count() << " ms");
      Sender sender({rate, rtt});
      const Duration longest = sender.run(seconds(60));
      // One request's own time, which no window can shorten, and what may stand before it.
      const auto own = std::chrono::nanoseconds(256 * kKiB * 1'000'000'000 / rate);
      CHECK(longest <= rtt + own + LineWindow::kWait + own);
      CHECK(sender.window.bytes() >= LineWindow::kLeast);
    }
  }
}

TEST_CASE("LineWindow: a line that could carry more is given more, up to the most") {
  for (const milliseconds rtt : {milliseconds(1), milliseconds(10), milliseconds(100)}) {
    INFO(rtt.count() << " ms");
    Sender sender({100 * kMiB, rtt});
    sender.run(seconds(2));
    CHECK(sender.window.bytes() == kMost);
    sender.run(seconds(2));
    CHECK(sender.idle() == Duration{0});
  }
}

TEST_CASE("LineWindow: what is not used does not grow") {
  LineWindow window(kMost);
  TimePoint now{};
  for (int i = 0; i < 1000; ++i) {
    const LineUse use{.bytes = 64 * kKiB, .before = 0, .sent = now};
    now += milliseconds(10);
    window.answered(use, now);
  }
  CHECK(window.bytes() == LineWindow::kFirst);
}

TEST_CASE("LineWindow: many slow answers to what was sent together set it back once") {
  LineWindow window(kMost);
  const TimePoint start{};
  const LineUse use{.bytes = 256 * kKiB, .before = kMiB, .sent = start};
  window.answered({.bytes = 256 * kKiB, .before = 0, .sent = start}, start + milliseconds(100));
  for (int i = 0; i < 64; ++i) {
    window.answered({.bytes = 256 * kKiB, .before = 4 * kMiB, .sent = start},
                    start + milliseconds(150));
  }
  CHECK(window.bytes() > 4 * kMiB);
  // 1.25 MiB in one second, of which a fifth would have been no wait.
  window.answered(use, start + seconds(1));
  CHECK(window.bytes() == 256 * kKiB);
  window.answered({.bytes = kMiB, .before = kMiB, .sent = start + seconds(2)},
                  start + seconds(2) + milliseconds(150));
  const uint64_t grown = window.bytes();
  CHECK(grown > 256 * kKiB);
  for (int i = 0; i < 8; ++i) window.answered(use, start + seconds(3));
  CHECK(window.bytes() == grown);
}

TEST_CASE("LineWindow: a line that becomes slower, faster or longer is followed") {
  Sender sender({256 * kMiB, milliseconds(10)});
  sender.run(seconds(5));
  CHECK(sender.window.bytes() == kMost);
  sender.line.rate = kMiB;
  sender.run(seconds(120));
  CHECK(sender.window.bytes() <= kMiB);
  sender.line.rate = 256 * kMiB;
  sender.run(seconds(10));
  CHECK(sender.window.bytes() >= 8 * kMiB);
  // Another way, of another length: known from the first request that goes alone.
  sender.drain();
  sender.line.rtt = seconds(1);
  sender.run(seconds(60));
  CHECK(sender.window.bytes() >= 8 * kMiB);
}

TEST_CASE("LineWindow: a small bound is kept, however fast or slow it is") {
  constexpr uint64_t kSmall = 64 * kKiB;
  LineWindow window(kSmall);
  CHECK(window.bytes() == kSmall);
  const TimePoint start{};
  window.answered({.bytes = kSmall, .before = 0, .sent = start}, start + milliseconds(1));
  CHECK(window.bytes() == kSmall);
  window.answered({.bytes = kSmall, .before = kSmall, .sent = start + milliseconds(2)},
                  start + seconds(5));
  CHECK(window.bytes() == kSmall);
}
