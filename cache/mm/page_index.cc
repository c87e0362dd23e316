#include "cache/mm/page_index.h"

#include <algorithm>
#include <bit>

#include "cache/base/hash.h"

namespace cache {

PageIndex::PageIndex(uint64_t expected_pages)
    : buckets_(std::bit_ceil(std::max<uint64_t>(expected_pages, kStripes))) {}

size_t PageIndex::bucket_of(const AddressSpace* mapping, uint64_t key) const {
  const uint64_t where = reinterpret_cast<uintptr_t>(mapping);
  return mix64(key ^ mix64(where)) & (buckets_.size() - 1);
}

PageIndex::Walk PageIndex::walk(Bucket& bucket, const AddressSpace* mapping, uint64_t key,
                                PageRef* found) {
  const uint64_t before = bucket.sequence.load(std::memory_order_acquire);
  int steps = 0;
  for (Page* page = bucket.head.load(std::memory_order_acquire);
       page != nullptr && steps < kMaxSteps;
       page = page->hash_next_.load(std::memory_order_acquire), ++steps) {
    if (!page->is(mapping, key)) continue;
    if (!page->try_get()) return Walk::kUnsure;  // frozen, or freed and being reused
    PageRef ref = PageRef::adopt(page);
    if (page->is(mapping, key)) {
      *found = std::move(ref);
      return Walk::kFound;
    }
  }
  // The loads above are acquire: this one can't move before them, and a chain that led astray was
  // changed after its page had been taken from this bucket, whose sequence moved before that.
  const uint64_t after = bucket.sequence.load(std::memory_order_acquire);
  const bool settled = steps < kMaxSteps && before == after && before % 2 == 0;
  return settled ? Walk::kMissed : Walk::kUnsure;
}

PageRef PageIndex::find(const AddressSpace* mapping, uint64_t key) {
  const size_t at = bucket_of(mapping, key);
  Bucket& bucket = buckets_[at];
  PageRef found;
  for (int i = 0; i < kLocklessTries; ++i) {
    const Walk result = walk(bucket, mapping, key, &found);
    if (result != Walk::kUnsure) return found;
  }
  // A frozen page ends here too: reclaim is about to remove it, which is a miss.
  MutexLock lock(stripes_[at % kStripes].mutex);
  walk(bucket, mapping, key, &found);
  return found;
}

void PageIndex::insert(Page& page, AddressSpace* mapping) {
  const size_t at = bucket_of(mapping, page.key());
  Bucket& bucket = buckets_[at];
  MutexLock lock(stripes_[at % kStripes].mutex);
  bucket.sequence.fetch_add(1, std::memory_order_acq_rel);
  page.hash_next_.store(bucket.head.load(std::memory_order_relaxed), std::memory_order_release);
  bucket.head.store(&page, std::memory_order_release);
  bucket.sequence.fetch_add(1, std::memory_order_acq_rel);
}

void PageIndex::remove(Page& page, const AddressSpace* mapping) {
  const size_t at = bucket_of(mapping, page.key());
  Bucket& bucket = buckets_[at];
  MutexLock lock(stripes_[at % kStripes].mutex);
  bucket.sequence.fetch_add(1, std::memory_order_acq_rel);
  std::atomic<Page*>* link = &bucket.head;
  for (;;) {
    Page* next = link->load(std::memory_order_relaxed);
    CACHE_CHECK(next != nullptr && "page not in its chain");
    if (next == &page) break;
    link = &next->hash_next_;
  }
  // The page keeps its own link: a reader that stands on it goes on from here.
  link->store(page.hash_next_.load(std::memory_order_relaxed), std::memory_order_release);
  bucket.sequence.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace cache
