// SpanPool: the memory behind the cache, with a hard bound on what is committed.
//
// Purpose:        hands out pages and name storage from spans of 64 KiB, one size class a span; an
//                 empty span goes back to the system, but for a few that are kept for what a full
//                 cache takes next: as it evicts and fills, each span would cost the page tables'
//                 work twice. What goes back, and what comes, does so by whole runs: where a
//                 hypervisor has a say, a page costs 26 us by its own fault, and 18 us in a span of
//                 sixteen; giving back 64 KiB costs as much as a MiB. A pool that has grown to some
//                 MiB takes blocks of 2 MiB at a time, as huge pages where the system has any: 1 us
//                 a page there, and less for everybody's translation buffers. Such a block stays
//                 whole, its empty spans waiting for the next ones, as long as they are few. The
//                 bound counts whole spans, empty ones that are kept too, so fragmentation is
//                 inside it: what the pool says is what the process holds.
// Ownership:      whoever allocates frees, with the same size. Spans live in one reserved range.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kPool, for a bitmap operation, and madvise/page faults at most. Never
//                 blocks on I/O or on another lock, so free_page hooks may call free().
// Errors:         allocate() gives null and charge() false when the bound would be passed; the
//                 caller reclaims and tries again. Nothing ever grows past the bound; what was
//                 committed before the bound was lowered goes as it is freed.
//                 Under AddressSanitizer free memory is poisoned: a use after free is reported.
// Source:         slab classes as in jemalloc (Evans 2006) and tcmalloc; the lowest-addressed
//                 partial span is used first, which keeps high spans emptying. Kept spans:
//                 jemalloc's dirty extents, by number instead of by time. Blocks: tcmalloc's
//                 hugepage-aware filler (Hunter et al. 2021), with one rule for when to break one.
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/base/mutex.h"

namespace cache {

class SpanPool {
 public:
  static constexpr size_t kSpanBytes = size_t{64} << 10;
  static constexpr size_t kMaxObject = kSpanBytes;
  // Empty spans kept outside blocks: so many, and no more than a sixteenth of those in use.
  static constexpr uint64_t kMostKept = 64;
  // Blocks are taken from so many spans in use on, and broken, the last of them, below half.
  static constexpr uint64_t kBlockBytes = uint64_t{2} << 20;
  static constexpr uint64_t kBlockSpans = kBlockBytes / kSpanBytes;
  static constexpr uint64_t kUsedForBlocks = 256;
  // Empty spans in blocks: those of two blocks, and as many as a quarter of the spans in use.
  static constexpr uint64_t kMostSpare = 2 * kBlockSpans;

  explicit SpanPool(uint64_t limit_bytes);
  ~SpanPool();  // every object has been freed and every charge taken back
  SpanPool(const SpanPool&) = delete;
  SpanPool& operator=(const SpanPool&) = delete;

  // 1 to kMaxObject bytes, 64-byte aligned, uninitialised.
  void* allocate(size_t bytes) EXCLUDES(mutex_);
  void free(void* object, size_t bytes) EXCLUDES(mutex_);
  // What an object of this size takes from its span.
  static size_t rounded(size_t bytes);

  // Memory that the cache holds elsewhere (anchors, tables): counted under the same bound.
  bool charge(uint64_t bytes) EXCLUDES(mutex_);
  void uncharge(uint64_t bytes) EXCLUDES(mutex_);

  // Lowers or raises the bound, at most to the limit given at construction. What is committed
  // stays until it is freed: meanwhile no span is added, only free objects are handed out.
  void set_bound(uint64_t bytes) EXCLUDES(mutex_);

  [[nodiscard]] uint64_t limit() const { return limit_; }
  [[nodiscard]] uint64_t bound() const EXCLUDES(mutex_);
  [[nodiscard]] uint64_t committed() const EXCLUDES(mutex_);  // spans and charges, bytes
  [[nodiscard]] uint64_t peak() const EXCLUDES(mutex_);
  // What could still be allocated without reclaim: room under the bound and free objects.
  [[nodiscard]] uint64_t available() const EXCLUDES(mutex_);
  void check_invariants() const EXCLUDES(mutex_);

 private:
  static constexpr uint32_t kMaxObjects = 1024;
  struct Span;
  struct SpanOrder {
    bool operator()(const Span& a, const Span& b) const { return &a < &b; }
  };
  struct Block {
    uint8_t committed = 0;  // spans
    uint8_t spare = 0;      // of them in spare_; 0 when not huge
    bool huge = false;      // one page; all of its spans are committed
  };
  struct Span : boost::intrusive::set_base_hook<boost::intrusive::optimize_size<true>> {
    uint16_t size_class = 0;
    uint16_t free_objects = 0;
    bool in_use = false;
    uint64_t used[kMaxObjects / 64] = {};
  };
  // What a span counts under the bound, bytes.
  static constexpr uint64_t kSpanCost = kSpanBytes + sizeof(Span);
  using SpanSet = boost::intrusive::set<Span, boost::intrusive::compare<SpanOrder>,
                                        boost::intrusive::constant_time_size<false>>;

  Span* take_span(uint16_t size_class) REQUIRES(mutex_);
  Span* take_empty() REQUIRES(mutex_);
  Span* commit_span(uint16_t size_class) REQUIRES(mutex_);
  [[nodiscard]] bool may_take_block(uint64_t index) REQUIRES(mutex_);
  bool commit_block(uint64_t index) REQUIRES(mutex_);
  Span& claim(uint64_t index) REQUIRES(mutex_);
  void return_span(Span& span) REQUIRES(mutex_);
  [[nodiscard]] uint64_t most_kept() const REQUIRES(mutex_);
  [[nodiscard]] uint64_t most_spare() const REQUIRES(mutex_);
  void trim_kept(uint64_t most) REQUIRES(mutex_);
  void trim_spare(uint64_t most) REQUIRES(mutex_);
  // Its spare spans go, and it is a block no more: its used ones are as any others from then on.
  void give_back_block(Block& block) REQUIRES(mutex_);
  void uncommit(Span& first, uint64_t count) REQUIRES(mutex_);
  // Empty ones, in bytes.
  [[nodiscard]] uint64_t idle() const REQUIRES(mutex_) {
    return (kept_spans_ + spare_spans_) * kSpanCost;
  }
  [[nodiscard]] uint64_t index_of(const Span& span) const {
    return static_cast<uint64_t>(&span - spans_);
  }
  [[nodiscard]] Block& block_of(const Span& span) { return blocks_[index_of(span) / kBlockSpans]; }
  [[nodiscard]] std::byte* base_of(const Span& span) const;

  const uint64_t limit_;
  const uint64_t reserved_;    // bytes of address space
  const uint64_t span_count_;  // constant after construction
  std::byte* const mapped_;
  std::byte* const region_;  // in it, at a block's boundary
  Span* const spans_;        // one a 64 KiB of the region, touched only when used
  Block* const blocks_;      // the same, one a 2 MiB
  mutable Mutex mutex_{LockRank::kPool};
  uint64_t bound_ GUARDED_BY(mutex_);
  uint64_t committed_ GUARDED_BY(mutex_) = 0;
  uint64_t peak_ GUARDED_BY(mutex_) = 0;
  uint64_t free_object_bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t in_use_ GUARDED_BY(mutex_) = 0;      // spans that hold objects
  uint64_t next_fresh_ GUARDED_BY(mutex_) = 0;  // spans from here on were never used
  SpanSet kept_ GUARDED_BY(mutex_);             // committed, hold nothing, in no block
  uint64_t kept_spans_ GUARDED_BY(mutex_) = 0;
  SpanSet spare_ GUARDED_BY(mutex_);  // ... in a block
  uint64_t spare_spans_ GUARDED_BY(mutex_) = 0;
  uint64_t spare_blocks_ GUARDED_BY(mutex_) = 0;  // that hold nothing at all
  // After a block for which there was no huge page, so many spans come alone.
  uint64_t alone_ GUARDED_BY(mutex_) = 0;
  uint64_t alone_next_ GUARDED_BY(mutex_) = 0;
  SpanSet empty_ GUARDED_BY(mutex_);  // used before, given back
  std::vector<SpanSet> partial_ GUARDED_BY(mutex_);
};

}  // namespace cache
