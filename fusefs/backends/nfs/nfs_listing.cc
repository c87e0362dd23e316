#include "fusefs/backends/nfs/nfs_listing.h"

#include <algorithm>

namespace fusefs::nfs {

using cache::DirAnswer;

uint32_t ReplySizer::most_bytes(std::chrono::microseconds round_trip) {
  using std::chrono::milliseconds;
  // About what comes in a round trip at 1 Gbit/s, in steps.
  if (round_trip < milliseconds(1)) return 256u << 10;
  if (round_trip < milliseconds(4)) return 512u << 10;
  return kMaxReplyBytes;
}

uint32_t ReplySizer::bytes_for(uint32_t entries, Attributes attributes,
                               std::chrono::microseconds round_trip) const {
  constexpr uint64_t kHeader = 256;  // the directory's attributes, verifier, end
  const auto& each = attributes == Attributes::kYes ? with_attributes_ : plain_;
  // In whole KiB: nfs-ganesha fails (SERVERFAULT) where a size that is no multiple of four is
  // filled.
  constexpr uint64_t kStep = 1024;
  const uint64_t exact = kHeader + uint64_t{entries} * each.load(std::memory_order_relaxed);
  const uint64_t wanted = (exact + kStep - 1) / kStep * kStep;
  return static_cast<uint32_t>(std::clamp<uint64_t>(wanted, kLeastBytes, most_bytes(round_trip)));
}

void ReplySizer::learn(uint32_t entries, uint64_t bytes, Attributes attributes) {
  if (entries < 16) return;  // the ends of directories say little
  auto& each = attributes == Attributes::kYes ? with_attributes_ : plain_;
  const uint64_t now = std::clamp<uint64_t>(bytes / entries, 24, 4096);
  const uint64_t old = each.load(std::memory_order_relaxed);
  each.store(static_cast<uint32_t>((old * 3 + now + 2) / 4), std::memory_order_relaxed);
}

ListCall::ListCall(const Client& client, ListingState& state, CallerPtr caller, Handle directory,
                   cache::DirRequest request, ListDone done)
    : Call(std::move(caller), Weight::kHeavy),
      state_(state),
      directory_(std::move(directory)),
      request_(std::move(request)),
      done_(std::move(done)),
      attributes_(request_.want_attrs && state_.attributes_supported.load(std::memory_order_relaxed)
                      ? Attributes::kYes
                      : Attributes::kNo),
      bytes_(state_.sizes.bytes_for(request_.max_entries, attributes_, client.round_trip())) {}

void ListCall::note_asked() {
  asked_ = std::chrono::steady_clock::now();
  asked_wall_ = wall_now();
}

int ListCall::again_larger() {
  if (bytes_ < kMaxReplyBytes) {
    bytes_ = std::min(bytes_ * 2, kMaxReplyBytes);
    return kErrAgain;
  }
  if (attributes_ == Attributes::kYes) {
    attributes_ = Attributes::kNo;
    return kErrAgain;
  }
  return cache::kErrTooSmall;
}

int ListCall::take(const void* result) {
  listed_ = Listed();
  uint64_t wire_bytes = 0;
  int error = decode(result, &listed_, &wire_bytes);
  DirAnswer& answer = listed_.answer;
  if (error == 0 && answer.entries.empty() && !answer.eof) error = cache::kErrTooSmall;
  if (error == cache::kErrTooSmall) error = again_larger();
  if (error == ENOTSUP && attributes_ == Attributes::kYes) {
    state_.attributes_supported.store(false, std::memory_order_relaxed);
    attributes_ = Attributes::kNo;
    error = kErrAgain;
  }
  if (error == ENOENT) error = ++absent_ <= kAbsentRetries ? kErrLater : ESTALE;
  if (error == kErrAgain || error == kErrLater) return error;
  if (error != 0) {
    const uint64_t change = answer.change;
    listed_ = Listed();
    answer.error = error;
    answer.change = change;
    return 0;
  }
  state_.sizes.learn(static_cast<uint32_t>(answer.entries.size()), wire_bytes, attributes_);
  // "Never more" than was asked for: the rest comes with the next answer.
  if (answer.entries.size() > request_.max_entries) {
    answer.entries.resize(request_.max_entries);
    if (answer.has_attrs) answer.attrs.resize(request_.max_entries);
    answer.eof = false;
  }
  return 0;
}

void ListCall::finish(int error) {
  if (error != 0) {
    listed_ = Listed();
    listed_.answer.error = error;
  }
  done_(std::move(listed_));
}

}  // namespace fusefs::nfs
