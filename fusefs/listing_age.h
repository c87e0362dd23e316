// ListingAge: when a cached listing must be compared with the remote, and how far its attributes
// may be trusted. A pure policy: times go in, decisions come out.
//
// The two questions differ. A directory's change token tells whether its names changed, so a
// listing that still has the token stays right however old it is. It does not tell whether a file
// in it grew: attributes are as old as the request that brought them.
//
//   names       are right while the token was confirmed less than ttl ago;
//   attributes  go with a listing while they are less than ttl old, and the kernel is told to keep
//               them for what is left of it.
//
// A pass (offset 0 to end) that finds old attributes lists names only, unless somebody wanted more
// in one of the last passes, here or where the same walk has just been (WalkHint): then fetching
// the listing again, with attributes, costs far less than a request for each entry. When the wish
// shows after the pass, by many lookups, the same is done then.
//
// A program that stats what it listed may take longer than ttl to list: lookups may therefore use
// attributes as of the pass, for as long after it as it took, kMaxAfterglow at most. With ttl=0
// nothing is ever answered from a listing.
//
// Thread-safety:  ListingAge: none of its own; WalkHint, LinkHint: all members from any thread.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "cache/base/clock.h"

namespace fusefs {

// What directories tell each other: a walk that stats what it lists does so in the next one too.
// Each time that it shows counts for so many directories; where it does not show again, that many
// listings at most were fetched for nothing.
class WalkHint {
 public:
  static constexpr uint32_t kPasses = 64;

  void note_wanted() { left_.store(kPasses, std::memory_order_relaxed); }
  [[nodiscard]] bool wanted() const { return left_.load(std::memory_order_relaxed) > 0; }
  // A listing was fetched again because of it.
  void spend() {
    uint32_t left = left_.load(std::memory_order_relaxed);
    while (left > 0 && !left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<uint32_t> left_{0};  // relaxed: a hint
};

// Whether the entries of a listing become nodes of the kernel's with it (READDIRPLUS). Each costs
// 2 us and 1,200 bytes, and then saves a LOOKUP, which costs six times the time. Of those who use
// what they were given nobody hears. So passes that link nothing but directories are judged by the
// lookups that follow; when some come, the next kPasses link everything, and one more is judged.
//
// Not where the kernel had nodes before and the listing goes on after the first reply: it asks for
// attributes in mid-pass when it met one that was linked, or that it never had, but not after it
// looked up one that it had. Such a pass would go on with a LOOKUP for each name.
class LinkHint {
 public:
  static constexpr uint32_t kPasses = 64;
  static constexpr uint32_t kLookups = 4;  // of what was listed; each judged pass halves the count

  // A pass begins: does it link everything?
  bool begin_pass() {
    uint32_t left = left_.load(std::memory_order_relaxed);
    while (left > 0) {
      if (left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) return true;
    }
    lookups_.store(lookups_.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
    return false;
  }
  // A LOOKUP of a listed name that is no directory.
  void note_lookup() {
    if (lookups_.fetch_add(1, std::memory_order_relaxed) + 1 < kLookups) return;
    lookups_.store(0, std::memory_order_relaxed);
    left_.store(kPasses, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint32_t> left_{0};  // relaxed: hints
  std::atomic<uint32_t> lookups_{0};
};

class ListingAge {
 public:
  enum class Attributes : uint8_t {
    kOmit,     // hand on what is young enough, but ask the remote for none
    kOffered,  // ask for them where they are missing and the kernel takes them
    kWanted,   // ask for them where they are missing: lookups will come for them
    kRefetch,  // as kWanted, and forget the listing first: most are missing
  };
  enum class Holds : uint8_t { kNothing, kArrays };
  enum class Walk : uint8_t { kUnknown, kWantsAttributes };
  // The files of a listing that the kernel has nodes of: those of its first reply, or all.
  enum class Linked : uint8_t { kFirstReply, kAll };

  static constexpr uint32_t kWantedPasses = 8;
  static constexpr uint32_t kManyLookups = 8;
  static constexpr cache::Duration kMaxAfterglow = std::chrono::seconds(60);

  explicit ListingAge(cache::Duration ttl) : ttl_(ttl) {}

  // ---- names ----

  // The remote has to be asked for the change token before a listing begins.
  [[nodiscard]] bool token_expired(cache::TimePoint now) const {
    return !token_asked_ || now - *token_asked_ >= ttl_;
  }
  // When the token was asked for last; none: it is not known.
  [[nodiscard]] std::optional<cache::TimePoint> token_asked() const { return token_asked_; }
  // The token was asked for at that time and handed to the listing.
  void token_confirmed(cache::TimePoint asked) {
    if (!token_asked_ || *token_asked_ < asked) token_asked_ = asked;
  }
  // The token is not known any more; the next listing asks.
  void forget_token() { token_asked_.reset(); }

  // ---- attributes ----

  // Attributes asked for before this are too old to go with a listing.
  [[nodiscard]] cache::TimePoint oldest_listed(cache::TimePoint now) const { return now - ttl_; }

  // Everything held was forgotten at that time, or filled after it.
  void emptied(cache::TimePoint now) {
    filled_since_ = now;
    linked_until_.fill(cache::TimePoint::min());
  }

  // A pass begins.
  Attributes begin_pass(cache::TimePoint now, Holds holds, Walk walk = Walk::kUnknown) {
    const bool wanted = wanted_passes_ > 0 || walk == Walk::kWantsAttributes;
    if (wanted_passes_ > 0) --wanted_passes_;
    lookups_ = 0;
    if (ttl_ == ttl_.zero()) return Attributes::kOmit;
    if (holds == Holds::kNothing) emptied(now);
    const bool young = filled_since_ && now - *filled_since_ < ttl_;
    Attributes decision = young ? Attributes::kOffered : Attributes::kOmit;
    if (wanted) decision = young ? Attributes::kWanted : Attributes::kRefetch;
    if (decision == Attributes::kRefetch) emptied(now);
    if (decision != Attributes::kOmit) pass_ = Pass{.began = now, .last_call = now};
    return decision;
  }
  // A call of a pass whose attributes were wanted.
  void pass_continues(cache::TimePoint now) {
    if (pass_ && pass_->last_call < now) pass_->last_call = now;
  }

  // Files were linked or looked up: the kernel may have their nodes.
  [[nodiscard]] bool files_known() const { return files_known_; }
  // What was given at `now` the kernel believes for `valid`: for half of that it need not be given
  // again, since whoever stats what is listed then most likely does so before the kernel must ask.
  static cache::TimePoint believed_until(cache::TimePoint now, cache::Duration valid) {
    return now + std::min(valid, cache::Duration(kLongest)) / 2;
  }
  void note_linked(Linked what, cache::TimePoint until) {
    linked_until_[index(what)] = until;
    files_known_ = true;
  }
  [[nodiscard]] bool still_linked(Linked what, cache::TimePoint now) const {
    return now < linked_until_[index(what)];
  }
  // The kernel asked for a file of the listing: of what was linked it has dropped some.
  void note_file_looked_up() {
    linked_until_[index(Linked::kAll)] = cache::TimePoint::min();
    files_known_ = true;
  }

  // The kernel asked for attributes in mid-pass: somebody uses them.
  void note_wanted() { wanted_passes_ = kWantedPasses; }
  // A few lookups between two passes are nobody's stat of a whole listing; many are: then true.
  bool note_lookup() {
    ++lookups_;
    if (many_lookups()) note_wanted();
    return many_lookups();
  }
  [[nodiscard]] bool many_lookups() const { return lookups_ >= kManyLookups; }
  // Attributes asked for before this are too old to answer a lookup.
  [[nodiscard]] cache::TimePoint oldest_looked_up(cache::TimePoint now) const {
    if (ttl_ == ttl_.zero()) return cache::TimePoint::max();
    if (!pass_) return now - ttl_;
    const cache::Duration took = pass_->last_call - pass_->began;
    const cache::Duration afterglow = std::max(ttl_, std::min(took, kMaxAfterglow));
    return now - pass_->last_call < afterglow ? pass_->began - ttl_ : now - ttl_;
  }

 private:
  static constexpr std::chrono::hours kLongest{24};
  static size_t index(Linked what) { return static_cast<size_t>(what); }

  struct Pass {
    cache::TimePoint began;
    cache::TimePoint last_call;
  };

  const cache::Duration ttl_;
  std::optional<cache::TimePoint> token_asked_;
  std::optional<cache::TimePoint> filled_since_;
  std::optional<Pass> pass_;  // the latest whose attributes were wanted
  std::array<cache::TimePoint, 2> linked_until_{cache::TimePoint::min(), cache::TimePoint::min()};
  bool files_known_ = false;
  uint32_t wanted_passes_ = 0;
  uint32_t lookups_ = 0;  // since the last pass began
};

}  // namespace fusefs
