// Page: the descriptor of one cached page, its state word, and the pin.
//
// Purpose:        says who may touch a page when, in one atomic word.
// Ownership:      descriptors belong to the PageCache and are never given back while it lives
//                 (type-stable): a stale pointer always points to *some* descriptor, and try-get
//                 plus a second look at mapping and key tells whether it is the one meant.
// Thread-safety:  as each member says. The content is written by whoever holds the page lock of a
//                 page that is not uptodate, and read by whoever pins an uptodate page.
//
// The state word: count in the low 32 bits, flags above. Everything that decides over a page's
// life is one read-modify-write of it:
//
//   FROM              -> TO                function, operation, why it is safe
//   free (count 0)    -> FILLING (2)       PageCache::new_page + AddressSpace::grab: the allocator
//                                          alone knows it; store-release publishes key and mapping
//   FILLING           -> UPTODATE          AddressSpace::fill_done: or(UPTODATE), under the page
//                                          lock and the mapping's mutex, so that no invalidation
//                                          falls between the sequence check and the flag
//   FILLING           -> DIRTY             AddressSpace::fill_dirty: or(UPTODATE | DIRTY), as
//                                          fill_done, for content that comes from who writes
//   FILLING           -> removed           AddressSpace::fill_failed
//   count n > 0       -> n + 1             try_get: CAS, never from 0: nobody revives a page that
//                                          reclaim froze or that is free
//   count n > 1       -> n - 1             put
//   count 1, removed  -> 0, free           put: whoever makes the step to 0 runs free_page
//   count 1, findable -> 0, frozen         freeze: CAS of the whole word from exactly 1, clean and
//                                          without private state; a pin or a dirtying in between
//                                          makes it fail
//   frozen            -> removed, free     reclaim, under the mapping's mutex
//   UPTODATE          -> DIRTY             mark_dirty: CAS, only with UPTODATE set, by a pin holder
//   DIRTY             -> WRITEBACK         begin_writeback, page lock held
//   WRITEBACK         -> UPTODATE          end_writeback
//
// Count 0 with a mapping is 'frozen'; count 0 without is 'free'. `mapping` goes to null when the
// page leaves the index, before the cache's own reference is dropped.
#pragma once

#include <atomic>
#include <boost/intrusive/list_hook.hpp>
#include <boost/intrusive/set_hook.hpp>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "cache/base/check.h"

namespace cache {

class AddressSpace;
class PageCache;
class PageHooks;

namespace page_state {
constexpr uint64_t kOne = 1;
constexpr uint64_t kCountMask = 0xffffffffULL;
constexpr uint64_t kLocked = 1ULL << 32;
constexpr uint64_t kUptodate = 1ULL << 33;
constexpr uint64_t kDirty = 1ULL << 34;
constexpr uint64_t kWriteback = 1ULL << 35;
constexpr uint64_t kReferenced = 1ULL << 36;
constexpr uint64_t kError = 1ULL << 37;
constexpr uint64_t kWaiters = 1ULL << 38;  // somebody sleeps until the lock or write-back ends
constexpr uint64_t kPrivate = 1ULL << 39;  // release_page must be asked before reclaim
constexpr uint64_t kMark = 1ULL << 40;     // readahead: whoever reads this asks for more
constexpr uint64_t kUsed = 1ULL << 41;     // has been read once: that alone is no reason to keep it

constexpr uint32_t count(uint64_t state) { return static_cast<uint32_t>(state & kCountMask); }
}  // namespace page_state

class Page {
 public:
  Page() = default;
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  // Adds a pin unless the count is zero. Any thread, any time: descriptors are type-stable.
  bool try_get() {
    uint64_t state = state_.load(std::memory_order_relaxed);
    do {
      if (page_state::count(state) == 0) return false;
      // acquire: what the publisher wrote before its release store is seen.
    } while (!state_.compare_exchange_weak(state, state + page_state::kOne,
                                           std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  // From exactly one reference (the cache's) to none, and only when clean, unlocked, not under
  // write-back and without private state. False: in use, leave it.
  bool freeze();

  // Pin holders only below.
  [[nodiscard]] bool has(uint64_t flags) const {
    return (state_.load(std::memory_order_acquire) & flags) == flags;
  }
  [[nodiscard]] bool uptodate() const { return has(page_state::kUptodate); }
  [[nodiscard]] bool locked() const { return has(page_state::kLocked); }
  [[nodiscard]] bool dirty() const { return has(page_state::kDirty); }
  void set(uint64_t flags) { state_.fetch_or(flags, std::memory_order_acq_rel); }
  // Returns whether any of them had been set.
  bool clear(uint64_t flags) {
    return (state_.fetch_and(~flags, std::memory_order_acq_rel) & flags) != 0;
  }
  // Once for each use (not for each call that a use takes). The first use is what the page was
  // filled for, by a scan or by readahead; only the second makes it worth keeping.
  // A relaxed look first: the bits are nearly always set already, and a store would bounce the
  // line.
  void mark_accessed() {
    const uint64_t state = state_.load(std::memory_order_relaxed);
    const uint64_t next =
        (state & page_state::kUsed) != 0 ? page_state::kReferenced : page_state::kUsed;
    if ((state & next) == 0) state_.fetch_or(next, std::memory_order_relaxed);
  }
  // Only an uptodate page may be dirtied; false otherwise.
  bool mark_dirty();
  bool try_lock() {
    return (state_.fetch_or(page_state::kLocked, std::memory_order_acquire) &
            page_state::kLocked) == 0;
  }

  [[nodiscard]] uint64_t key() const { return key_.load(std::memory_order_relaxed); }
  // Null once removed. Without the mapping's mutex it may change at any moment.
  [[nodiscard]] AddressSpace* mapping() const { return mapping_.load(std::memory_order_acquire); }
  // The second look after try-get. The mapping first: grab() stores it after the key, so whoever
  // sees the mapping sees the key that came with it. The other way round the key of an earlier life
  // could be matched with the mapping of the present one.
  [[nodiscard]] bool is(const AddressSpace* mapping, uint64_t key) const {
    return mapping_.load(std::memory_order_acquire) == mapping &&
           key_.load(std::memory_order_relaxed) == key;
  }
  [[nodiscard]] std::byte* content() const { return content_; }
  [[nodiscard]] PageHooks& hooks() const { return *hooks_; }
  [[nodiscard]] uint64_t state() const { return state_.load(std::memory_order_acquire); }

 private:
  friend class AddressSpace;
  friend class PageCache;
  friend class PageIndex;
  friend class PageRef;
  friend class ReclaimLists;
  friend struct PageTestPeer;     // tests/support/page_peer.h
  friend struct PolicyBenchPeer;  // tools/bench/own_policy.cc

  std::atomic<uint64_t> state_{0};
  std::atomic<AddressSpace*> mapping_{nullptr};
  std::atomic<uint64_t> key_{0};
  std::atomic<Page*> hash_next_{nullptr};  // PageIndex
  PageHooks* hooks_ = nullptr;             // written while free; outlives the page
  PageCache* cache_ = nullptr;             // constant
  std::byte* content_ = nullptr;           // written while free
  // The free list (under its mutex), or a chain of removed pages in the hands of one thread.
  Page* next_ = nullptr;

 public:
  // Guarded by the mapping's mutex and by the reclaim lists' mutex.
  boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>> tree_hook;
  boost::intrusive::list_member_hook<> lru_hook;
  uint8_t lru_list = 0;
  uint32_t lru_stamp = 0;  // the lists' clock when it last went to a young end
};
static_assert(sizeof(Page) <= 112);

// A pin. Moves, never copies; what it pins keeps its content until the last pin is gone.
class PageRef {
 public:
  PageRef() = default;
  // Takes over a reference that was counted already.
  static PageRef adopt(Page* page) {
    PageRef ref;
    ref.page_ = page;
    return ref;
  }
  PageRef(PageRef&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}
  PageRef& operator=(PageRef&& other) noexcept {
    if (this != &other) {
      reset();
      page_ = std::exchange(other.page_, nullptr);
    }
    return *this;
  }
  PageRef(const PageRef&) = delete;
  PageRef& operator=(const PageRef&) = delete;
  ~PageRef() { reset(); }

  void reset();
  [[nodiscard]] PageRef duplicate() const;
  explicit operator bool() const { return page_ != nullptr; }
  Page& operator*() const { return *page_; }
  Page* operator->() const { return page_; }
  [[nodiscard]] Page* get() const { return page_; }

 private:
  Page* page_ = nullptr;
};

}  // namespace cache
