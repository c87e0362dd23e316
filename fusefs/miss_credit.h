// MissCredit: when a listing is worth reading for the sake of names that are not in it. A pure
// policy; and MissCredits: those of the directories in which such names were asked for last. (What
// is held of a directory that is listed takes 2.5 KiB: too much for each that has no .gitignore.)
//
// A lookup of a name that is not there costs a round trip, one in a directory whose complete
// listing is held costs none. Such lookups come in crowds: tar's before each file that it makes,
// a compiler's along its search path. So those that had to ask the remote earn what they took, and
// once kLeast have come, each within ttl of the one before (what is listed is right for that long),
// it is spent on the listing. That may not do for a long one: the next try must have been earned by
// twice as many lookups, and goes on from there, unless names were added here meanwhile: then it
// begins anew. So all together takes a few times the time of the lookups alone at most.
//
// Thread-safety:  MissCredit: none of its own; MissCredits: all members from any thread.
// Locks:          a leaf, within each call.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/hash.h"
#include "cache/base/mutex.h"

namespace fusefs {

class MissCredit {
 public:
  static constexpr uint32_t kLeast = 4;
  static constexpr uint32_t kMost = 4096;
  // Times what was earned: four round trips are what a short listing takes, with its token.
  static constexpr int kPays = 2;
  static constexpr std::chrono::seconds kLongest{1};

  explicit MissCredit(cache::Duration ttl) : ttl_(ttl) {}

  // The remote was asked for a name at `now`, said `took` later that it is not there.
  void note_miss(cache::TimePoint now, cache::Duration took) {
    if (now - last_ >= ttl_) forget();
    last_ = now;
    earned_ += std::max(took, cache::Duration::zero());
    ++misses_;
  }
  // What the listing may take now; none: not yet.
  std::optional<cache::Duration> take() {
    if (misses_ < needed_) return std::nullopt;
    const cache::Duration pays = std::min<cache::Duration>(kPays * earned_, kLongest);
    forget();
    return pays;
  }
  // It has been read so, and tells now what is not there (then it may be again as soon as it has
  // been forgotten) or not.
  void note_read(bool tells) { needed_ = tells ? kLeast : std::min(2 * needed_, kMost); }

 private:
  void forget() {
    earned_ = {};
    misses_ = 0;
  }

  cache::Duration ttl_;
  cache::TimePoint last_{};
  cache::Duration earned_{};
  uint32_t misses_ = 0;
  uint32_t needed_ = kLeast;
};

class MissCredits {
 public:
  static constexpr size_t kDirectories = 512;  // about; then one takes the place of another

  explicit MissCredits(cache::Duration ttl)
      : slots_(kDirectories, Slot{0, MissCredit(ttl)}), empty_(ttl) {}

  // Of the directory with that node id; see MissCredit.
  void note_miss(uint64_t nodeid, cache::TimePoint now, cache::Duration took) {
    cache::MutexLock lock(mutex_);
    Slot& slot = slot_of(nodeid);
    if (slot.nodeid != nodeid) slot = {nodeid, empty_};
    slot.credit.note_miss(now, took);
  }
  std::optional<cache::Duration> take(uint64_t nodeid) {
    cache::MutexLock lock(mutex_);
    Slot& slot = slot_of(nodeid);
    return slot.nodeid == nodeid ? slot.credit.take() : std::nullopt;
  }
  void note_read(uint64_t nodeid, bool tells) {
    cache::MutexLock lock(mutex_);
    Slot& slot = slot_of(nodeid);
    if (slot.nodeid == nodeid) slot.credit.note_read(tells);
  }

 private:
  struct Slot {
    uint64_t nodeid;
    MissCredit credit;
  };
  Slot& slot_of(uint64_t nodeid) REQUIRES(mutex_) {
    return slots_[cache::mix64(nodeid) % slots_.size()];
  }

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  std::vector<Slot> slots_ GUARDED_BY(mutex_);
  const MissCredit empty_;
};

}  // namespace fusefs
