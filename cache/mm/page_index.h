// PageIndex: from (mapping, key) to page, without a lock for lookups.
//
// Purpose:        one hash table for all mappings, of fixed size (the budget bounds the pages).
// Thread-safety:  find() from any thread, lock-free; insert() and remove() from any thread.
// Locks:          writers take a stripe (LockRank::kIndexStripe) for a few instructions.
//
// Why a lookup needs no lock: chains are singly linked by atomics, and descriptors are type-stable,
// so a reader always stands on a descriptor, though perhaps on one that has been removed and put
// into another chain meanwhile. A *hit* is made safe by try-get and then comparing mapping and key
// again: with a pin held neither can become another page's. A *miss* is only believed when the
// bucket's sequence is even and did not move during the walk; writers make it odd before they touch
// the chain and even again after. After kLocklessTries the reader takes the stripe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "cache/base/mutex.h"
#include "cache/mm/page.h"

namespace cache {

class PageIndex {
 public:
  explicit PageIndex(uint64_t expected_pages);

  // Bytes of the table, to be charged to the budget.
  [[nodiscard]] uint64_t table_bytes() const { return buckets_.size() * sizeof(Bucket); }

  // A pinned page that was in the index at some moment during the call, or none.
  PageRef find(const AddressSpace* mapping, uint64_t key);
  // The caller holds the mapping's mutex: no two writers race for one key.
  void insert(Page& page, AddressSpace* mapping);
  void remove(Page& page, const AddressSpace* mapping);

 private:
  static constexpr int kLocklessTries = 8;
  static constexpr int kMaxSteps = 512;  // a longer chain is a walk gone astray
  static constexpr size_t kStripes = 64;
  struct Bucket {
    std::atomic<Page*> head{nullptr};
    std::atomic<uint64_t> sequence{0};
  };
  enum class Walk : uint8_t { kFound, kMissed, kUnsure };

  size_t bucket_of(const AddressSpace* mapping, uint64_t key) const;
  static Walk walk(Bucket& bucket, const AddressSpace* mapping, uint64_t key, PageRef* found);

  std::vector<Bucket> buckets_;  // a power of two
  struct Stripe {
    Mutex mutex{LockRank::kIndexStripe};
  };
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace cache
