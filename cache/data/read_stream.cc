#include "cache/data/read_stream.h"

#include <algorithm>
#include <utility>

#include "cache/base/round_up.h"

namespace cache {
namespace {

constexpr uint64_t kLargeRead = uint64_t{64} << 10;

}  // namespace

void ReadStream::restart(uint64_t offset) {
  window_ = 0;
  next_ = asked_from_ = asked_ = offset;
}

void ReadStream::forget_stride() {
  stride_ = 0;
  equal_ = strides_ = strides_ahead_ = 0;
}

ReadStream::Ahead ReadStream::on_jump(int64_t jump, uint64_t offset, uint64_t size,
                                      const Limits& limits) {
  if (jump != stride_) {
    forget_stride();
    stride_ = jump;
    equal_ = 1;
    return {};
  }
  foreseen_ = strides_ahead_ > 0;
  if (foreseen_) --strides_ahead_;
  if (++equal_ < kStrideProof || jump == 0) return {};
  const uint64_t room = std::max<uint64_t>(limits.window / std::max<uint64_t>(size, 1), 1);
  // Topped up when half of them have come.
  if (strides_ > 0 && strides_ahead_ > strides_ / 2) return {};
  strides_ = static_cast<uint32_t>(
      std::min<uint64_t>({strides_ == 0 ? 2 : uint64_t{strides_} * 2, kMostStrides, room}));
  if (strides_ <= strides_ahead_) return {};
  const uint64_t apart = static_cast<uint64_t>(jump < 0 ? -jump : jump);
  const uint64_t behind = std::max(limits.file_size, offset + 1) - 1 - offset;
  const uint64_t room_there = jump < 0 ? offset : behind;
  const auto last = static_cast<uint32_t>(std::min<uint64_t>(strides_, room_there / apart));
  if (last <= strides_ahead_) return {};
  const uint64_t from = offset + static_cast<uint64_t>(jump) * (strides_ahead_ + 1);
  const Ahead ahead{from, from + size, last - strides_ahead_, jump};
  strides_ahead_ = last;
  return ahead;
}

ReadStream::Ahead ReadStream::on_read(uint64_t offset, uint64_t size, const Limits& limits) {
  const uint64_t end = offset + size;
  const auto jump = static_cast<int64_t>(offset - std::exchange(last_, offset));
  foreseen_ = false;
  // Before there is a window, large reads only: those are the kernel's, which swaps them.
  const uint64_t first_slack = size >= kLargeRead ? 2 * size : 0;
  const uint64_t slack = window_ > 0 ? std::min(kSlack, window_) : first_slack;
  const bool goes_on = offset <= next_ + slack && offset + slack >= next_;
  if (!goes_on) {
    restart(end);
    return on_jump(jump, offset, size, limits);
  }
  forget_stride();
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
  if (foreseen_) {
    strides_ = std::max(strides_ / 4, 1u);  // doubled before the next are asked for
    strides_ahead_ = 0;
    return;
  }
  window_ = std::max(window_ / 2, kFirstWindow / 4);
  ceiling_ = window_;
  asked_from_ = asked_ = offset;
}

}  // namespace cache
