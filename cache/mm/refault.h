// RefaultHistory: remembers what reclaim took, to tell a refault from a first read.
//
// Purpose:        a page that comes back within one cache's worth of evictions should have stayed.
// Thread-safety:  all members from any thread; entries are relaxed atomics, and a lost update costs
//                 a wrong guess, never correctness.
// Bound:          a fixed table of 8 bytes a slot, in sets of four (half a cache line); of a full
//                 set the oldest eviction is forgotten. With one slot a set a loop over half the
//                 table would lose a third of its pages, and each of them count as never read.
// Source:         Linux mm/workingset.c (refault distance), kept outside the index.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "cache/base/hash.h"

namespace cache {

class RefaultHistory {
 public:
  explicit RefaultHistory(uint64_t slots) : table_(std::bit_ceil(std::max<uint64_t>(slots, 64))) {}

  [[nodiscard]] uint64_t table_bytes() const { return table_.size() * sizeof(table_[0]); }

  void evicted(uint64_t mapping_id, uint64_t key) {
    const uint64_t h = hash(mapping_id, key);
    const uint64_t now = clock_.fetch_add(1, std::memory_order_relaxed);
    Slot* set = set_of(h);
    Slot* oldest = set;
    uint64_t most = 0;
    for (Slot* slot = set; slot != set + kWays; ++slot) {
      const uint64_t entry = slot->load(std::memory_order_relaxed);
      const bool replaced = entry == 0 || (entry & ~kClockMask) == tag(h);
      const uint64_t age = replaced ? UINT64_MAX : (now - entry) & kClockMask;
      if (age < most) continue;
      most = age;
      oldest = slot;
    }
    oldest->store(tag(h) | (now & kClockMask), std::memory_order_relaxed);
  }

  // Evictions since this page's own, and forgets it; or UINT32_MAX when it is not remembered.
  uint32_t take_distance(uint64_t mapping_id, uint64_t key) {
    const uint64_t h = hash(mapping_id, key);
    Slot* set = set_of(h);
    for (Slot* slot = set; slot != set + kWays; ++slot) {
      const uint64_t entry = slot->load(std::memory_order_relaxed);
      if (entry == 0 || (entry & ~kClockMask) != tag(h)) continue;
      slot->store(0, std::memory_order_relaxed);
      const uint64_t now = clock_.load(std::memory_order_relaxed);
      return static_cast<uint32_t>((now - entry) & kClockMask);
    }
    return UINT32_MAX;
  }

 private:
  using Slot = std::atomic<uint64_t>;
  static constexpr uint64_t kWays = 4;
  static constexpr uint64_t kClockMask = 0xffffffffULL;
  static uint64_t hash(uint64_t mapping_id, uint64_t key) { return mix64(key ^ mix64(mapping_id)); }
  static uint64_t tag(uint64_t h) { return (h & ~kClockMask) | (1ULL << 63); }
  Slot* set_of(uint64_t h) { return &table_[h & (table_.size() - 1) & ~(kWays - 1)]; }

  std::vector<Slot> table_;
  std::atomic<uint64_t> clock_{0};
};

}  // namespace cache
