// RenewCredit: when the attributes of a long listing are worth fetching again, a part at a time. A
// pure policy.
//
// A stat of a listed name whose attributes are missing costs a round trip; a listing that brings
// the attributes of all names around it costs one too, and what it carries. So lookups that had to
// ask the remote earn what a listing brings in the time that they took, and it is spent on the part
// of the listing where the latest of them was; where that took longer than was earned (a slow
// server, one that can't begin in mid-listing), the next must be earned by that much more. All
// together then takes about twice the time of the lookups alone at most, however few follow. Names
// found in what was fetched earn more of it, so that a program that goes through the listing in
// order is soon ahead of the round trip.
//
// Thread-safety:  none of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cache/base/clock.h"
#include "cache/dir/readdir_array.h"

namespace fusefs {

class RenewCredit {
 public:
  static constexpr uint32_t kLeastArrays = 8;
  static constexpr uint32_t kMostArrays = 64;
  static constexpr int64_t kEntriesASecond = 100'000;  // with attributes; the slowest server tried
  static constexpr int64_t kEntriesAHit = 4;
  static constexpr int64_t kFailures = 10;

  // The remote was asked for a listed name, and took that long.
  void note_asked(cache::Duration took) { earn(entries_in(took)); }
  // A name was found with attributes.
  void note_found() { earn(kEntriesAHit); }

  // So many arrays are to be fetched now, and are paid for; 0: not yet.
  uint32_t take() {
    const int64_t arrays = entries_ / cache::kEntriesPerArray;
    if (arrays < kLeastArrays) return 0;
    entries_ = 0;
    return static_cast<uint32_t>(arrays);
  }
  // They took that long.
  void note_took(uint32_t arrays, cache::Duration took) {
    entries_ -= std::max<int64_t>(0, entries_in(took) - int64_t{arrays} * cache::kEntriesPerArray);
  }
  // They were not asked for.
  void give_back(uint32_t arrays) { earn(int64_t{arrays} * cache::kEntriesPerArray); }
  // They could not be had in time: the next try is worth it only after many more lookups.
  void note_failed() { entries_ = -kFailures * kMostArrays * cache::kEntriesPerArray; }

 private:
  static int64_t entries_in(cache::Duration took) {
    const auto second = std::chrono::duration_cast<cache::Duration>(std::chrono::seconds(1));
    return std::clamp(took, cache::Duration::zero(), second).count() * kEntriesASecond /
           second.count();
  }
  void earn(int64_t entries) {
    constexpr int64_t kMost = int64_t{kMostArrays} * cache::kEntriesPerArray;
    entries_ = std::min(entries_ + entries, kMost);
  }

  int64_t entries_ = 0;
};

}  // namespace fusefs
