#include "cache/data/read_stream.h"

#include <algorithm>

#include "cache/base/round_up.h"

namespace cache {
namespace {

constexpr uint64_t kLargeRead = uint64_t{64} << 10;

}  // namespace

void ReadStream::restart(uint64_t offset) {
  window_ = 0;
  next_ = asked_from_ = asked_ = offset;
}

ReadStream::Ahead ReadStream::on_read(uint64_t offset, uint64_t size, const Limits& limits) {
  const uint64_t end = offset + size;
  // Before there is a window, large reads only: those are the kernel's, which swaps them.
  const uint64_t first_slack = size >= kLargeRead ? 2 * size : 0;
  const uint64_t slack = window_ > 0 ? std::min(kSlack, window_) : first_slack;
  const bool goes_on = offset <= next_ + slack && offset + slack >= next_;
  if (!goes_on) {
    restart(offset);
    next_ = asked_ = end;
    return {};
  }
  const uint64_t most = std::max(std::min({kMostWindow, limits.window, ceiling_}), uint64_t{1});
  if (window_ == 0) {
    window_ = std::min(kFirstWindow, most);
    asked_from_ = asked_ = offset;
  }
  next_ = std::max(next_, end);
  // Topped up when a whole request fits, or half of a window that is smaller than two.
  const uint64_t step = std::max(std::min(limits.request, window_ / 2), uint64_t{1});
  if (asked_ > next_ && next_ + window_ - std::min(next_ + window_, asked_) < step) return {};
  if (asked_ >= limits.file_size) return {};
  const Ahead ahead{asked_, 0};
  uint64_t to = next_ + window_;
  // Requests end at multiples of their size where the window is large enough, so that readers of
  // one file ask for the same ranges.
  if (limits.request > 0 && window_ >= limits.request) to = round_up(to, limits.request);
  to = std::min(to, limits.file_size);
  window_ = std::min(window_ * 2, most);
  ceiling_ = std::min(kMostWindow, ceiling_ + kFirstWindow);
  if (to <= ahead.from) return {};
  asked_ = to;
  return {ahead.from, to};
}

void ReadStream::asked_until(uint64_t offset) {
  asked_ = std::min(asked_, std::max(offset, asked_from_));
}

void ReadStream::lost(uint64_t offset) {
  window_ = std::max(window_ / 2, kFirstWindow / 4);
  ceiling_ = window_;
  asked_from_ = asked_ = offset;
}

}  // namespace cache
