// Listing calls: how much to ask for, and what to do when the server does not give it.
//
// Sizes:          a listing is one request after another, each begun by the last one's cookie: over
//                 a long way only large answers are fast, over a short one they only delay the
//                 first name. So the cache asks for more entries every time, and the round trip
//                 bounds what an answer may weigh. What an entry weighs is learned from answers.
// Falling back:   the server can't do attributes (NOTSUPP), or not in the largest answer
//                 (TOOSMALL): the same cookie again without. An answer of neither entries nor the
//                 end, or TOOSMALL: the same cookie again, twice the size. NOENT: a server that is
//                 losing entries at this moment (or the whole directory): the same cookie again,
//                 later, a few times; then the directory is gone.
// Thread-safety:  ReplySizer and ListingState from any thread; a ListCall as call.h says.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "fusefs/backends/nfs/call.h"
#include "fusefs/backends/nfs/nfs_attr.h"
#include "fusefs/backends/nfs/nfs_protocol.h"

namespace fusefs::nfs {

enum class Attributes : uint8_t { kNo, kYes };

// Entries into bytes. Pure but for what it learned.
class ReplySizer {
 public:
  static constexpr uint32_t kLeastBytes = 4096;

  // The size to ask for, so that about so many entries come.
  [[nodiscard]] uint32_t bytes_for(uint32_t entries, Attributes attributes,
                                   std::chrono::microseconds round_trip) const;
  // The most bytes an answer may have over a way that long.
  [[nodiscard]] static uint32_t most_bytes(std::chrono::microseconds round_trip);
  // An answer of so many entries had about so many bytes.
  void learn(uint32_t entries, uint64_t bytes, Attributes attributes);

 private:
  // Bytes an entry; relaxed: a guess.
  std::atomic<uint32_t> plain_{56};
  std::atomic<uint32_t> with_attributes_{200};
};

// What all listings of a mount share.
struct ListingState {
  ChangeTokens tokens;
  ReplySizer sizes;
  std::atomic<bool> attributes_supported{true};  // relaxed: who misses it finds out himself
};

class ListCall : public Call {
 public:
  static constexpr uint32_t kAbsentRetries = 5;
  static constexpr size_t kFewEntries = 1024;  // of an answer whose files' handles are kept, too

  using ListDone = std::function<void(Listed&& listed)>;

  ListCall(const Client& client, ListingState& state, CallerPtr caller, Handle directory,
           cache::DirRequest request, ListDone done);

  int take(const void* result) final;
  void finish(int error) final;

 protected:
  // Turns the server's answer into `listed`: 0 or an errno; ENOTSUP, kErrTooSmall, kErrLater and
  // ENOENT are dealt with here. `wire_bytes` is about what the entries weighed.
  virtual int decode(const void* result, Listed* listed, uint64_t* wire_bytes) = 0;

  [[nodiscard]] const Handle& directory() const { return directory_; }
  [[nodiscard]] const cache::DirRequest& request() const { return request_; }
  [[nodiscard]] uint32_t bytes() const { return bytes_; }
  [[nodiscard]] Attributes attributes() const { return attributes_; }
  [[nodiscard]] ListingState& state() { return state_; }
  [[nodiscard]] cache::TimePoint asked() const { return asked_; }
  [[nodiscard]] WallTime asked_wall() const { return asked_wall_; }
  void note_asked();

 private:
  int again_larger();

  ListingState& state_;
  const Handle directory_;
  const cache::DirRequest request_;
  const ListDone done_;
  Attributes attributes_;
  uint32_t bytes_;
  uint32_t absent_ = 0;
  cache::TimePoint asked_;
  WallTime asked_wall_ = 0;
  Listed listed_;
};

}  // namespace fusefs::nfs
