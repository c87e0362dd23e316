// AddressSpace: the pages of one object (a directory's arrays, a file's data), by 64-bit key.
//
// Purpose:        find, grab, fill, truncate, invalidate; and an end that waits for reclaim's grip.
// Ownership:      a page in the index is owned by the cache; a PageRef pins it. Refers to a
//                 PageCache and a hook table, which outlive it.
// Thread-safety:  all members from any thread; the destructor when nobody else calls any more.
// Locks:          LockRank::kMapping around the tree. find() takes no lock.
// Errors:         ENOMEM when reclaim can't make room; EBUSY from invalidate_pages.
#pragma once

#include <atomic>
#include <boost/intrusive/set.hpp>
#include <cstdint>

#include "cache/base/mutex.h"
#include "cache/base/result.h"
#include "cache/mm/page.h"

namespace cache {

class AddressSpace {
 public:
  AddressSpace(PageCache& cache, PageHooks& hooks);
  ~AddressSpace();  // invalidates everything; returns when no page, nor reclaim, refers to it
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  // A pinned page or none. It may be locked or not uptodate: look before reading.
  PageRef find(uint64_t key);
  // Pins `hint` if it still is this mapping's page of this key; saves the index.
  PageRef find_hint(Page* hint, uint64_t key);

  struct Grabbed {
    PageRef page;
    bool created = false;  // then locked and not uptodate: the caller fills it
  };
  // Finds or makes the page. Waits for reclaim to let go of one that it is removing.
  Result<Grabbed> grab(uint64_t key) EXCLUDES(mutex_);
  // A page that is never findable: locked, not uptodate; freed with its last pin.
  Result<PageRef> new_private_page();
  // Finds or fills through the hook table, waits for the fill. EIO when it failed; EAGAIN when
  // invalidations overtook kMaxFillTries fills in a row.
  Result<PageRef> read_page(uint64_t key) EXCLUDES(mutex_);

  // Moves whenever something is invalidated. Note it before asking the remote.
  [[nodiscard]] uint64_t sequence() const { return sequence_.load(std::memory_order_acquire); }
  // Ends a fill: uptodate and unlocked, unless an invalidation came since `noted_sequence`, or the
  // page has been removed. Then it is removed, unlocked, not uptodate, and false is returned.
  bool fill_done(Page& page, uint64_t noted_sequence) EXCLUDES(mutex_);
  void fill_failed(Page& page) EXCLUDES(mutex_);

  // Out of the index at once, pinned or not. Returns the number of pages removed. They wait for the
  // page locks of uptodate pages, to give the invalidate_page order, but never for a fill: whoever
  // fills a removed page gives the order when it ends the fill.
  uint64_t invalidate_all() EXCLUDES(mutex_);
  uint64_t truncate(uint64_t first_key) EXCLUDES(mutex_);  // every key from this one on
  // For pin holders. False: somebody else did.
  bool remove(Page& page) EXCLUDES(mutex_);
  // Only if it is not uptodate, or neither dirty, nor under write-back, nor with private state;
  // else false. Waits for the lock of an uptodate page.
  bool remove_clean(Page& page) EXCLUDES(mutex_);

  // Coherence: removes every clean page of [first_key, last_key], goes on past failures, waits for
  // write-back (not for fills: their pages go at once), writes nothing. EBUSY when a page was
  // (re)dirtied or its owner refused to release it.
  Status invalidate_pages(uint64_t first_key = 0, uint64_t last_key = ~uint64_t{0})
      EXCLUDES(mutex_);
  // Runs page_mkwrite with the page locked and marks it dirty before the lock is dropped.
  // EAGAIN: the page was truncated; look it up again.
  Status make_writable(Page& page) EXCLUDES(mutex_) {
    return modify(page, [] {});
  }
  // The same with the change itself, change(), under the same page lock: neither a reader that
  // takes the lock nor write-back sees half of it.
  template <typename Change>
  Status modify(Page& page, const Change& change) EXCLUDES(mutex_);
  // Ends a fill whose content comes from who writes: page_mkwrite, change(), then uptodate and
  // dirty in one step. EAGAIN: as when fill_done() is false; other errors: page_mkwrite's, and the
  // page is removed.
  template <typename Change>
  Status fill_dirty(Page& page, uint64_t noted_sequence, const Change& change) EXCLUDES(mutex_);
  bool begin_writeback(Page& page);  // page locked; false when it was not dirty
  void end_writeback(Page& page);

  [[nodiscard]] uint64_t page_count() const EXCLUDES(mutex_);
  [[nodiscard]] uint64_t id() const { return id_; }  // never that of another mapping
  [[nodiscard]] PageHooks& hooks() const { return hooks_; }

  // Calls `visit(Page&)` for resident pages in key order until it returns false, under the
  // mapping's mutex: keep it short. Pages may be pinned from within by try_get.
  template <typename Visit>
  void for_each(const Visit& visit) EXCLUDES(mutex_);
  void check_invariants() const EXCLUDES(mutex_);

 private:
  friend class PageCache;
  struct KeyOf {
    using type = uint64_t;
    type operator()(const Page& page) const { return page.key(); }
  };
  using Hook = boost::intrusive::member_hook<
      Page, boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>>,
      &Page::tree_hook>;
  using Tree = boost::intrusive::set<Page, Hook, boost::intrusive::key_of_value<KeyOf>>;

  // Unlinks; forget() drops the cache's reference, outside the mutex.
  void unlink(Page& page) REQUIRES(mutex_);
  // Reclaim's half of a removal: the page is frozen.
  void remove_frozen(Page& page) EXCLUDES(mutex_);
  // The other half of a removal, of a page that has been unlinked and is pinned by the caller.
  enum class PageLock : uint8_t { kHeld, kFree };
  void forget(Page& page, PageLock lock);
  uint64_t remove_range(uint64_t first_key) EXCLUDES(mutex_);
  // On success the page is dirty and stays locked.
  Status begin_modify(Page& page) EXCLUDES(mutex_);
  void end_modify(Page& page);
  Status begin_fill_dirty(Page& page) EXCLUDES(mutex_);
  Status end_fill_dirty(Page& page, uint64_t noted_sequence) EXCLUDES(mutex_);
  void end_failed_fill(Page& page) EXCLUDES(mutex_);
  // False: dirty, or its owner refused.
  bool invalidate_page(Page& page) EXCLUDES(mutex_);
  enum class Unlinked : uint8_t { kNow, kBefore, kNot };
  template <typename Condition>
  Unlinked unlink_if(Page& page, const Condition& condition) EXCLUDES(mutex_);

  static constexpr int kMaxFillTries = 4;
  static constexpr size_t kInvalidateBatch = 64;

  PageCache& cache_;
  PageHooks& hooks_;
  const uint64_t id_;
  std::atomic<uint64_t> sequence_{1};
  mutable Mutex mutex_{LockRank::kMapping};
  CondVar removed_;  // a frozen page was removed or unfrozen
  Tree tree_ GUARDED_BY(mutex_);
};

template <typename Visit>
void AddressSpace::for_each(const Visit& visit) {
  MutexLock lock(mutex_);
  for (Page& page : tree_) {
    if (!visit(page)) return;
  }
}

template <typename Change>
Status AddressSpace::modify(Page& page, const Change& change) {
  const Status status = begin_modify(page);
  if (!status.ok()) return status;
  change();
  end_modify(page);
  return {};
}

template <typename Change>
Status AddressSpace::fill_dirty(Page& page, uint64_t noted_sequence, const Change& change) {
  const Status status = begin_fill_dirty(page);
  if (!status.ok()) return status;
  change();
  return end_fill_dirty(page, noted_sequence);
}

}  // namespace cache
