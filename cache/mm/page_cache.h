// PageCache: pages of many address spaces under one memory budget.
//
// Purpose:        owns descriptors, page memory, the index, the reclaim lists and the reclaimer.
// Ownership:      outlives every AddressSpace and every PageRef. The destructor checks that nothing
//                 is left.
// Thread-safety:  all members from any thread.
// Locks:          see cache/LOCKING.md. Lookups take none; reclaim takes kLru, then, with none
//                 held, kMapping of each victim.
// Errors:         allocation gives null when direct reclaim, bounded a call, could not make room.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "cache/base/mutex.h"
#include "cache/mm/page.h"
#include "cache/mm/page_hooks.h"
#include "cache/mm/page_index.h"
#include "cache/mm/reclaim_lists.h"
#include "cache/mm/refault.h"
#include "cache/mm/span_pool.h"
#include "cache/mm/watermarks.h"
#include "cache/stats.h"

namespace cache {

// After so long is asked for memory again that nobody could be given: everything was pinned by
// others at that moment, or dirty.
constexpr std::chrono::milliseconds kMemoryWait{5};

struct PageCacheOptions {
  uint64_t limit_bytes = uint64_t{256} << 20;  // hard bound on everything the cache holds
  uint64_t min_bytes = uint64_t{16} << 20;     // what pressure from outside leaves
  enum class Background : uint8_t { kThread, kNone } background = Background::kThread;
};

class PageCache {
 public:
  explicit PageCache(const PageCacheOptions& options);
  ~PageCache();
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;

  Stats& stats() { return stats_; }
  // The bound, what is committed under it now, and the most there ever was. Bytes.
  [[nodiscard]] uint64_t limit_bytes() const { return pool_.limit(); }
  [[nodiscard]] uint64_t bound_bytes() const { return pool_.bound(); }
  [[nodiscard]] uint64_t bytes() const { return pool_.committed(); }
  [[nodiscard]] uint64_t peak_bytes() const { return pool_.peak(); }
  // What an empty cache holds: its tables. Bytes, part of bytes().
  [[nodiscard]] uint64_t table_bytes() const { return table_bytes_; }
  // Pages that somebody but the cache holds. Walks all descriptors: for statistics.
  uint64_t pinned_pages() EXCLUDES(free_mutex_);

  // Removes every clean page that nobody holds (and whose owner agrees); returns how many.
  uint64_t drop_clean() EXCLUDES(lru_mutex_);
  // Under pressure from outside: sets the bound to max(bytes, min_bytes) until it is raised again
  // (up to limit_bytes), and reclaims until it is kept or nothing more can be taken. What is pinned
  // beyond it then goes when reclaim next runs.
  void set_pressure_bound(uint64_t bytes) EXCLUDES(lru_mutex_);

  // Storage for what pages point to: as SpanPool, with reclaim when the bound is reached.
  // No lock below kLru may be held that reclaim needs (kMapping and higher).
  void* allocate(size_t bytes);
  void free(void* object, size_t bytes) { pool_.free(object, bytes); }
  bool charge(uint64_t bytes);
  void uncharge(uint64_t bytes) { pool_.uncharge(bytes); }

  // Page lock and write-back, for pin holders.
  void lock_page(Page& page);
  void unlock_page(Page& page);
  void wait_unlocked(Page& page);
  void wait_writeback(Page& page);
  void end_writeback(Page& page);

  // The hook table of a kind, made when first asked for and kept until the cache ends: so it
  // outlives every page. T is constructed from a PageCache&.
  template <typename T>
  T& hook_table() EXCLUDES(tables_mutex_);

  // One step of reclaim: looks at a bounded number of pages, takes up to `want` (at most kBatch)
  // and returns how many were freed. 0 does not mean that there are none.
  uint32_t reclaim(uint32_t want) EXCLUDES(lru_mutex_);
  void check_invariants() EXCLUDES(lru_mutex_);

 private:
  friend class AddressSpace;
  friend class PageRef;
  static constexpr uint32_t kBatch = ReclaimLists::kBatch;
  static constexpr uint32_t kScan = ReclaimLists::kScan;
  static constexpr uint32_t kMaxDirectSteps = 256;  // bounds one allocation's reclaim
  static constexpr size_t kWaitQueues = 64;

  struct WaitQueue {
    Mutex mutex{LockRank::kWait};
    CondVar changed;
  };

  uint64_t next_mapping_id() { return mapping_ids_.fetch_add(1, std::memory_order_relaxed); }
  // Locked, not uptodate, one reference; null when there is no memory.
  PageRef new_page(PageHooks& hooks);
  Page* take_descriptor() EXCLUDES(free_mutex_);
  bool more_descriptors() EXCLUDES(free_mutex_);
  void added(Page& page, uint64_t mapping_id) EXCLUDES(lru_mutex_);
  void removed(Page& page) EXCLUDES(lru_mutex_);  // from the index, by other than reclaim
  void free_removed(Page& page);                  // count 0, not findable
  struct Step {
    uint32_t taken = 0;
    uint32_t looked = 0;
  };
  Step reclaim_step(uint32_t want) EXCLUDES(lru_mutex_);
  // Steps until something was taken or another thread's victims were freed. False when every page
  // has been looked at twice (the first look takes the referenced bit) in vain.
  bool reclaim_some();
  void finish_victims(Page* const* victims, uint32_t count);
  // Waits for pages that other threads have frozen; false when there are none.
  bool wait_for_victims();
  template <typename Attempt>
  auto with_reclaim(const Attempt& attempt) -> decltype(attempt());
  [[nodiscard]] bool background_must_start() const;
  [[nodiscard]] bool background_may_stop() const;
  void wake_reclaimer();
  void run_reclaimer();
  WaitQueue& queue_of(const Page& page) {
    return queues_[(reinterpret_cast<uintptr_t>(&page) >> 7) % kWaitQueues];
  }
  void wait_clear(Page& page, uint64_t flags);

  const PageCacheOptions options_;
  Stats stats_;
  SpanPool pool_;
  PageIndex index_;
  RefaultHistory history_;
  const uint64_t table_bytes_;
  std::atomic<uint64_t> mapping_ids_{1};
  std::array<WaitQueue, kWaitQueues> queues_;

  Mutex lru_mutex_{LockRank::kLru};
  ReclaimLists lists_ GUARDED_BY(lru_mutex_);

  Mutex free_mutex_{LockRank::kWait};  // never held together with a wait queue
  Page* free_pages_ GUARDED_BY(free_mutex_) = nullptr;
  std::vector<std::byte*> slabs_ GUARDED_BY(free_mutex_);

  void shrink_tables() EXCLUDES(tables_mutex_);

  Mutex tables_mutex_{LockRank::kLeaf};
  std::vector<std::unique_ptr<PageHooks>> hook_tables_ GUARDED_BY(tables_mutex_);

  // Pages that are frozen and not yet freed, and how often some were freed.
  WaitQueue victims_queue_;
  uint64_t victims_ GUARDED_BY(victims_queue_.mutex) = 0;
  uint64_t victims_freed_ GUARDED_BY(victims_queue_.mutex) = 0;

  std::atomic<bool> reclaim_wanted_{false};
  Mutex reclaimer_mutex_{LockRank::kReclaimer};
  CondVar reclaimer_wake_;
  bool stopping_ GUARDED_BY(reclaimer_mutex_) = false;
  std::thread reclaimer_;
};

template <typename T>
T& PageCache::hook_table() {
  MutexLock lock(tables_mutex_);
  for (const auto& table : hook_tables_) {
    if (auto* known = dynamic_cast<T*>(table.get())) return *known;
  }
  hook_tables_.push_back(std::make_unique<T>(*this));
  return static_cast<T&>(*hook_tables_.back());
}

}  // namespace cache
