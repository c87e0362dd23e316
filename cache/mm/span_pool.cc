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
  // Huge pages would make resident memory larger than what is committed.
  madvise(at, bytes, MADV_NOHUGEPAGE);
  return at;
}

// All pages of a span at once. A kernel that can't (before 5.14) has them come one by one.
void populate(std::byte* span) {
#ifdef MADV_POPULATE_WRITE
  madvise(span, kSpanBytes, MADV_POPULATE_WRITE);
#else
  static_cast<void>(span);
#endif
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
      region_(static_cast<std::byte*>(reserve(reserved_))),
      spans_(static_cast<Span*>(reserve(span_count_ * sizeof(Span)))),
      bound_(limit_bytes),
      partial_(kClasses.count) {
  poison(region_, reserved_);
}

SpanPool::~SpanPool() {
  CACHE_CHECK(committed() == 0 && "memory leaked from the cache");
  unpoison(region_, reserved_);  // the address range may be mapped again by others
  for (SpanSet& set : partial_) set.clear();
  kept_.clear();
  empty_.clear();
  munmap(region_, reserved_);
  munmap(spans_, span_count_ * sizeof(Span));
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
  Span* span = nullptr;
  if (!kept_.empty() && committed_ <= bound_) {
    span = &*kept_.begin();
    kept_.erase(kept_.begin());
    --kept_spans_;
  } else {
    if (kSpanCost > bound_ || committed_ > bound_ - kSpanCost) return nullptr;
    if (!empty_.empty()) {
      span = &*empty_.begin();
      empty_.erase(empty_.begin());
    } else if (next_fresh_ < span_count_) {
      span = new (&spans_[next_fresh_++]) Span();
    } else {
      return nullptr;
    }
    committed_ += kSpanCost;
    peak_ = std::max(peak_, committed_);
    if (kClasses.size[size_class] >= kPage) populate(base_of(*span));
  }
  ++in_use_;
  span->size_class = size_class;
  span->free_objects = objects_in(size_class);
  span->in_use = true;
  std::fill(std::begin(span->used), std::end(span->used), 0);
  partial_[size_class].insert(*span);
  free_object_bytes_ += uint64_t{span->free_objects} * kClasses.size[size_class];
  return span;
}

void SpanPool::return_span(Span& span) {
  SpanSet& partial = partial_[span.size_class];
  partial.erase(partial.iterator_to(span));
  free_object_bytes_ -= uint64_t{span.free_objects} * kClasses.size[span.size_class];
  span.in_use = false;
  --in_use_;
  kept_.insert(span);
  ++kept_spans_;
  // Many go together, as neighbours where they can.
  if (committed_ > bound_) {
    const bool enough = committed_ - kept_spans_ * kSpanCost <= bound_;
    if (enough || kept_spans_ >= kMostAboveBound) trim_kept(0);
  } else if (const uint64_t most = most_kept(); kept_spans_ > most) {
    trim_kept(most / 2);
  }
}

uint64_t SpanPool::most_kept() const { return std::min(kMostKept, in_use_ / kInUsePerKept); }

// Gives kept spans back to the system, the highest first, until `most` are left.
void SpanPool::trim_kept(uint64_t most) {
  while (kept_spans_ > most) {
    const Span* const last = &*kept_.rbegin();
    const Span* first = last;
    do {
      Span& span = *kept_.rbegin();
      first = &span;
      kept_.erase(kept_.iterator_to(span));
      empty_.insert(span);
      --kept_spans_;
      committed_ -= kSpanCost;
    } while (kept_spans_ > most && &*kept_.rbegin() == first - 1);
    madvise(base_of(*first), static_cast<size_t>(last - first + 1) * kSpanBytes, MADV_DONTNEED);
  }
}

bool SpanPool::charge(uint64_t bytes) {
  MutexLock lock(mutex_);
  if (bytes > bound_) return false;
  if (committed_ > bound_ - bytes) {
    const uint64_t lacks = committed_ - (bound_ - bytes);
    if (lacks > kept_spans_ * kSpanCost) return false;
    trim_kept(kept_spans_ - (lacks + kSpanCost - 1) / kSpanCost);
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
  if (committed_ > bound_) trim_kept(0);
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
  return bound_ - committed_ + kept_spans_ * kSpanCost + free_object_bytes_;
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
  CACHE_CHECK((in_use_ + kept_spans_) * kSpanCost <= committed_);
  CACHE_CHECK(committed_ <= peak_ && peak_ <= limit_);
}

}  // namespace cache
