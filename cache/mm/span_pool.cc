#include "cache/mm/span_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <new>

#include "cache/base/check.h"
#include "cache/base/round_up.h"

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#endif

namespace cache {
namespace {

constexpr size_t kGranule = 64;
constexpr size_t kSpanBytes = SpanPool::kSpanBytes;
constexpr uint64_t kInUsePerKept = 16;
constexpr uint64_t kMostAboveBound = 16;
constexpr uint64_t kInUsePerSpare = 4;
constexpr uint64_t kLeastAlone = 64;
constexpr uint64_t kMostAlone = 4096;
constexpr uint32_t kPage = 4096;  // of the system's; smaller objects may never fill their spans

// Classes: every granule up to 1 KiB, then the largest sizes of which n fit in a span.
struct Classes {
  std::array<uint32_t, 128> size{};
  std::array<uint8_t, kSpanBytes / kGranule + 1> of_granules{};
  uint16_t count = 0;

  constexpr Classes() {
    for (size_t bytes = kGranule; bytes <= 1024; bytes += kGranule) add(bytes);
    for (size_t n = 63; n >= 1; --n) {
      const size_t bytes = kSpanBytes / n / kGranule * kGranule;
      if (bytes > size[count - 1]) add(bytes);
    }
    for (size_t granules = 1, c = 0; granules < of_granules.size(); ++granules) {
      while (size[c] < granules * kGranule) ++c;
      of_granules[granules] = static_cast<uint8_t>(c);
    }
  }
  constexpr void add(size_t bytes) { size[count++] = static_cast<uint32_t>(bytes); }
};
constexpr Classes kClasses;
static_assert(kClasses.size[kClasses.count - 1] == kSpanBytes);

uint16_t class_of(size_t bytes) {
  CACHE_CHECK(bytes >= 1 && bytes <= kSpanBytes);
  return kClasses.of_granules[(bytes + kGranule - 1) / kGranule];
}
uint16_t objects_in(uint16_t size_class) {
  return static_cast<uint16_t>(kSpanBytes / kClasses.size[size_class]);
}

void* reserve(uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CACHE_CHECK(at != MAP_FAILED && "no address space for the cache");
  // Huge pages would make resident memory larger than what is committed; but see commit_block().
  madvise(at, bytes, MADV_NOHUGEPAGE);
  return at;
}

std::byte* align_up(std::byte* at, uint64_t alignment) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  return at + (round_up(address, alignment) - address);
}

// All pages of a span at once. A kernel that can't (before 5.14) has them come one by one.
void populate(std::byte* span) {
#ifdef MADV_POPULATE_WRITE
  madvise(span, kSpanBytes, MADV_POPULATE_WRITE);
#else
  static_cast<void>(span);
#endif
}

// Has a huge page come at that place, if there is one: it comes with the first of its pages. Else
// there may be some small ones.
bool populate_huge(std::byte* block) {
  if (madvise(block, SpanPool::kBlockBytes, MADV_HUGEPAGE) != 0) return false;
  populate(block);
  unsigned char last = 0;
  const bool came =
      mincore(block + SpanPool::kBlockBytes - kPage, kPage, &last) == 0 && (last & 1) != 0;
  // Nor may the kernel gather small ones into a huge one later, which we would not know of.
  if (!came) madvise(block, SpanPool::kBlockBytes, MADV_NOHUGEPAGE);
  return came;
}

#if defined(__SANITIZE_ADDRESS__)
#define CACHE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CACHE_ASAN 1
#endif
#endif
#ifdef CACHE_ASAN
void poison(void* at, size_t bytes) { __asan_poison_memory_region(at, bytes); }
void unpoison(void* at, size_t bytes) { __asan_unpoison_memory_region(at, bytes); }
#else
void poison(void* /*at*/, size_t /*bytes*/) {}
void unpoison(void* /*at*/, size_t /*bytes*/) {}
#endif

}  // namespace

SpanPool::SpanPool(uint64_t limit_bytes)
    : limit_(limit_bytes),
      reserved_(round_up(limit_bytes, kSpanBytes)),
      span_count_(reserved_ / kSpanBytes),
      mapped_(static_cast<std::byte*>(reserve(reserved_ + kBlockBytes))),
      region_(align_up(mapped_, kBlockBytes)),
      spans_(static_cast<Span*>(reserve(span_count_ * sizeof(Span)))),
      blocks_(static_cast<Block*>(reserve((span_count_ / kBlockSpans + 1) * sizeof(Block)))),
      bound_(limit_bytes),
      partial_(kClasses.count) {
  poison(region_, reserved_);
}

SpanPool::~SpanPool() {
  CACHE_CHECK(committed() == 0 && "memory leaked from the cache");
  unpoison(region_, reserved_);  // the address range may be mapped again by others
  for (SpanSet& set : partial_) set.clear();
  kept_.clear();
  spare_.clear();
  empty_.clear();
  munmap(mapped_, reserved_ + kBlockBytes);
  munmap(spans_, span_count_ * sizeof(Span));
  munmap(blocks_, (span_count_ / kBlockSpans + 1) * sizeof(Block));
}

std::byte* SpanPool::base_of(const Span& span) const {
  return region_ + static_cast<size_t>(&span - spans_) * kSpanBytes;
}

size_t SpanPool::rounded(size_t bytes) { return kClasses.size[class_of(bytes)]; }

void* SpanPool::allocate(size_t bytes) {
  const uint16_t size_class = class_of(bytes);
  MutexLock lock(mutex_);
  SpanSet& partial = partial_[size_class];
  Span* span = partial.empty() ? take_span(size_class) : &*partial.begin();
  if (span == nullptr) return nullptr;
  uint32_t word = 0;
  while (span->used[word] == ~uint64_t{0}) ++word;
  const uint32_t bit = static_cast<uint32_t>(std::countr_one(span->used[word]));
  span->used[word] |= uint64_t{1} << bit;
  free_object_bytes_ -= kClasses.size[size_class];
  if (--span->free_objects == 0) partial.erase(partial.iterator_to(*span));
  std::byte* object = base_of(*span) + size_t{word * 64 + bit} * kClasses.size[size_class];
  unpoison(object, bytes);
  return object;
}

void SpanPool::free(void* object, size_t bytes) {
  const uint16_t size_class = class_of(bytes);
  const size_t offset = static_cast<size_t>(static_cast<std::byte*>(object) - region_);
  CACHE_CHECK(offset < reserved_);
  Span& span = spans_[offset / kSpanBytes];
  const size_t index = offset % kSpanBytes / kClasses.size[size_class];
  MutexLock lock(mutex_);
  CACHE_CHECK(span.in_use && span.size_class == size_class);
  CACHE_CHECK(offset % kSpanBytes % kClasses.size[size_class] == 0);
  CACHE_CHECK((span.used[index / 64] >> (index % 64) & 1) != 0 && "freed twice");
  span.used[index / 64] &= ~(uint64_t{1} << (index % 64));
  poison(object, kClasses.size[size_class]);
  free_object_bytes_ += kClasses.size[size_class];
  if (++span.free_objects == 1) partial_[size_class].insert(span);
  if (span.free_objects == objects_in(size_class)) return_span(span);
}

SpanPool::Span* SpanPool::take_span(uint16_t size_class) {
  Span* const span = idle() > 0 && committed_ <= bound_ ? take_empty() : commit_span(size_class);
  if (span == nullptr) return nullptr;
  ++in_use_;
  span->size_class = size_class;
  span->free_objects = objects_in(size_class);
  span->in_use = true;
  std::fill(std::begin(span->used), std::end(span->used), 0);
  partial_[size_class].insert(*span);
  free_object_bytes_ += uint64_t{span->free_objects} * kClasses.size[size_class];
  return span;
}

// Of a block first: they stay together.
SpanPool::Span* SpanPool::take_empty() {
  if (spare_.empty()) {
    Span* const span = &*kept_.begin();
    kept_.erase(kept_.begin());
    --kept_spans_;
    return span;
  }
  // From one that is used already, if there is any: an empty one is the lowest by chance only.
  Span* const span = &*spare_.begin();
  spare_.erase(spare_.begin());
  --spare_spans_;
  Block& block = block_of(*span);
  if (block.spare-- == kBlockSpans) --spare_blocks_;
  return span;
}

SpanPool::Span* SpanPool::commit_span(uint16_t size_class) {
  if (kSpanCost > bound_ || committed_ > bound_ - kSpanCost) return nullptr;
  const uint64_t index = empty_.empty() ? next_fresh_ : index_of(*empty_.begin());
  if (index == span_count_) return nullptr;
  if (may_take_block(index) && commit_block(index)) return take_empty();
  Span& span = claim(index);
  ++block_of(span).committed;
  committed_ += kSpanCost;
  peak_ = std::max(peak_, committed_);
  if (kClasses.size[size_class] >= kPage) populate(base_of(span));
  return &span;
}

// It begins a block of which nothing is committed, there is room for it, and need.
bool SpanPool::may_take_block(uint64_t index) {
  if (index % kBlockSpans != 0 || blocks_[index / kBlockSpans].committed != 0) return false;
  const bool whole = index + kBlockSpans <= span_count_ &&
                     (index == next_fresh_ || index + kBlockSpans <= next_fresh_);
  if (!whole || in_use_ < kUsedForBlocks || committed_ + kBlockSpans * kSpanCost > bound_) {
    return false;
  }
  if (alone_ == 0) return true;
  alone_ -= std::min(alone_, kBlockSpans);
  return false;
}

bool SpanPool::commit_block(uint64_t index) {
  if (!populate_huge(region_ + index * kSpanBytes)) {
    alone_next_ = std::clamp(alone_next_ * 2, kLeastAlone, kMostAlone);
    alone_ = alone_next_;
    return false;
  }
  alone_next_ = 0;
  for (uint64_t i = 0; i < kBlockSpans; ++i) spare_.insert(claim(index + i));
  spare_spans_ += kBlockSpans;
  ++spare_blocks_;
  blocks_[index / kBlockSpans] = {.committed = kBlockSpans, .spare = kBlockSpans, .huge = true};
  committed_ += kBlockSpans * kSpanCost;
  peak_ = std::max(peak_, committed_);
  return true;
}

// One that is not committed; it is in no set then.
SpanPool::Span& SpanPool::claim(uint64_t index) {
  if (index == next_fresh_) return *new (&spans_[next_fresh_++]) Span();
  empty_.erase(empty_.iterator_to(spans_[index]));
  return spans_[index];
}

void SpanPool::return_span(Span& span) {
  SpanSet& partial = partial_[span.size_class];
  partial.erase(partial.iterator_to(span));
  free_object_bytes_ -= uint64_t{span.free_objects} * kClasses.size[span.size_class];
  span.in_use = false;
  --in_use_;
  Block& block = block_of(span);
  if (block.huge) {
    spare_.insert(span);
    ++spare_spans_;
    if (++block.spare == kBlockSpans) ++spare_blocks_;
  } else {
    kept_.insert(span);
    ++kept_spans_;
  }
  // Many go together, as neighbours where they can.
  if (committed_ > bound_) {
    // Blocks go whole where they can: one call of the system, and no huge page to be split.
    if (block.spare == kBlockSpans) give_back_block(block);
    const bool enough = committed_ - idle() <= bound_;
    if (enough || kept_spans_ >= kMostAboveBound) trim_kept(0);
    if (enough || spare_spans_ >= kMostSpare) trim_spare(0);
    return;
  }
  if (const uint64_t most = most_kept(); kept_spans_ > most) trim_kept(most / 2);
  if (spare_blocks_ > 1 && block.spare == kBlockSpans) give_back_block(block);
  if (const uint64_t most = most_spare(); spare_spans_ > most) trim_spare(most / 2);
}

uint64_t SpanPool::most_kept() const { return std::min(kMostKept, in_use_ / kInUsePerKept); }

uint64_t SpanPool::most_spare() const {
  return in_use_ < kUsedForBlocks / 2 ? 0 : kMostSpare + in_use_ / kInUsePerSpare;
}

// Gives kept spans back to the system, the highest first, until `most` are left.
void SpanPool::trim_kept(uint64_t most) {
  while (kept_spans_ > most) {
    const Span* const last = &*kept_.rbegin();
    Span* first = nullptr;
    do {
      first = &*kept_.rbegin();
      kept_.erase(kept_.iterator_to(*first));
      --kept_spans_;
    } while (kept_spans_ > most && &*kept_.rbegin() == first - 1);
    uncommit(*first, static_cast<uint64_t>(last - first) + 1);
  }
}

// The same of spare ones, all of a block at a time.
void SpanPool::trim_spare(uint64_t most) {
  while (spare_spans_ > most) give_back_block(block_of(*spare_.rbegin()));
}

void SpanPool::give_back_block(Block& block) {
  const uint64_t begin = static_cast<uint64_t>(&block - blocks_) * kBlockSpans;
  if (block.spare == kBlockSpans) --spare_blocks_;
  // What is left, or comes, would bring a huge page once more.
  madvise(region_ + begin * kSpanBytes, kBlockBytes, MADV_NOHUGEPAGE);
  block.huge = false;
  block.spare = 0;
  for (uint64_t i = begin; i < begin + kBlockSpans;) {
    const uint64_t first = i;
    for (; i < begin + kBlockSpans && !spans_[i].in_use; ++i) {
      spare_.erase(spare_.iterator_to(spans_[i]));
      --spare_spans_;
    }
    if (i > first) uncommit(spans_[first], i - first);
    if (i < begin + kBlockSpans) ++i;
  }
}

// Neighbours that are in no set.
void SpanPool::uncommit(Span& first, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    Span& span = (&first)[i];
    empty_.insert(span);
    --block_of(span).committed;
  }
  committed_ -= count * kSpanCost;
  madvise(base_of(first), count * kSpanBytes, MADV_DONTNEED);
}

bool SpanPool::charge(uint64_t bytes) {
  MutexLock lock(mutex_);
  if (bytes > bound_) return false;
  if (committed_ > bound_ - bytes) {
    const uint64_t lacks = committed_ - (bound_ - bytes);
    if (lacks > idle()) return false;
    const uint64_t spans = (lacks + kSpanCost - 1) / kSpanCost;
    const uint64_t kept = std::min(spans, kept_spans_);
    trim_kept(kept_spans_ - kept);
    trim_spare(spare_spans_ - (spans - kept));
  }
  committed_ += bytes;
  peak_ = std::max(peak_, committed_);
  return true;
}

void SpanPool::uncharge(uint64_t bytes) {
  MutexLock lock(mutex_);
  CACHE_CHECK(committed_ >= bytes);
  committed_ -= bytes;
}

void SpanPool::set_bound(uint64_t bytes) {
  MutexLock lock(mutex_);
  bound_ = std::min(limit_, bytes);
  if (committed_ <= bound_) return;
  trim_kept(0);
  trim_spare(0);
}

uint64_t SpanPool::bound() const {
  MutexLock lock(mutex_);
  return bound_;
}

uint64_t SpanPool::committed() const {
  MutexLock lock(mutex_);
  return committed_;
}

uint64_t SpanPool::peak() const {
  MutexLock lock(mutex_);
  return peak_;
}

uint64_t SpanPool::available() const {
  MutexLock lock(mutex_);
  if (committed_ > bound_) return free_object_bytes_;
  return bound_ - committed_ + idle() + free_object_bytes_;
}

void SpanPool::check_invariants() const {
  MutexLock lock(mutex_);
  uint64_t spans = 0;
  uint64_t free_bytes = 0;
  for (uint64_t i = 0; i < next_fresh_; ++i) {
    const Span& span = spans_[i];
    if (!span.in_use) continue;
    ++spans;
    uint32_t used = 0;
    for (const uint64_t word : span.used) used += static_cast<uint32_t>(std::popcount(word));
    CACHE_CHECK(used + span.free_objects == objects_in(span.size_class));
    CACHE_CHECK(used > 0);
    free_bytes += uint64_t{span.free_objects} * kClasses.size[span.size_class];
  }
  CACHE_CHECK(free_bytes == free_object_bytes_);
  CACHE_CHECK(spans == in_use_);
  CACHE_CHECK(kept_spans_ == kept_.size());
  CACHE_CHECK(kept_spans_ <= std::max(most_kept(), kMostAboveBound));
  CACHE_CHECK(spare_spans_ == spare_.size());
  CACHE_CHECK(spare_spans_ <= std::max(most_spare(), kMostSpare));
  CACHE_CHECK((in_use_ + kept_spans_ + spare_spans_) * kSpanCost <= committed_);
  uint64_t held = 0;
  uint64_t spare = 0;
  uint64_t empty_blocks = 0;
  for (uint64_t i = 0; i * kBlockSpans < next_fresh_; ++i) {
    const Block& block = blocks_[i];
    CACHE_CHECK(block.huge ? block.committed == kBlockSpans : block.spare == 0);
    held += block.committed;
    spare += block.spare;
    empty_blocks += block.spare == kBlockSpans ? 1 : 0;
  }
  CACHE_CHECK(held == in_use_ + kept_spans_ + spare_spans_);
  CACHE_CHECK(spare == spare_spans_ && empty_blocks == spare_blocks_);
  CACHE_CHECK(committed_ <= peak_ && peak_ <= limit_);
}

}  // namespace cache
