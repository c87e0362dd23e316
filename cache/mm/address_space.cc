#include "cache/mm/address_space.h"

#include <array>

#include "cache/mm/page_cache.h"
#include "cache/mm/page_hooks.h"
#include "cache/mm/use_trace.h"

namespace cache {

void PageHooks::fill(AddressSpace& mapping, Page& page) { mapping.fill_failed(page); }
bool PageHooks::release_page(Page& /*page*/) { return true; }
void PageHooks::invalidate_page(Page& /*page*/) {}
Status PageHooks::page_mkwrite(AddressSpace& /*mapping*/, Page& /*page*/) { return {}; }

AddressSpace::AddressSpace(PageCache& cache, PageHooks& hooks)
    : cache_(cache), hooks_(hooks), id_(cache.next_mapping_id()) {}

AddressSpace::~AddressSpace() {
  remove_range(0);
  // Frozen pages are reclaim's: it takes this mutex once more for each, and touches nothing of
  // ours after that.
  MutexLock lock(mutex_);
  while (!tree_.empty()) removed_.wait(mutex_);
}

PageRef AddressSpace::find(uint64_t key) { return cache_.index_.find(this, key); }

PageRef AddressSpace::find_hint(Page* hint, uint64_t key) {
  if (hint == nullptr || !hint->try_get()) return {};
  PageRef ref = PageRef::adopt(hint);
  if (!hint->is(this, key)) return {};
  return ref;
}

Result<AddressSpace::Grabbed> AddressSpace::grab(uint64_t key) {
  if (PageRef found = find(key)) return Grabbed{std::move(found), false};
  PageRef fresh = cache_.new_page(hooks_);
  if (!fresh) return Status::error(ENOMEM);
  {
    MutexLock lock(mutex_);
    for (;;) {
      auto it = tree_.find(key);
      if (it == tree_.end()) break;
      if (it->try_get()) return Grabbed{PageRef::adopt(&*it), false};  // `fresh` is freed
      removed_.wait(mutex_);  // frozen: reclaim is about to remove or unfreeze it
    }
    fresh->key_.store(key, std::memory_order_relaxed);
    fresh->mapping_.store(this, std::memory_order_release);
    // The cache's own reference.
    fresh->state_.fetch_add(page_state::kOne, std::memory_order_acq_rel);
    tree_.insert(*fresh);
    cache_.index_.insert(*fresh, this);
    cache_.added(*fresh, id_);
  }
  return Grabbed{std::move(fresh), true};
}

Result<PageRef> AddressSpace::new_private_page() {
  PageRef fresh = cache_.new_page(hooks_);
  if (!fresh) return Status::error(ENOMEM);
  return fresh;
}

Result<PageRef> AddressSpace::read_page(uint64_t key) {
  for (int tries = 0; tries < kMaxFillTries; ++tries) {
    Result<Grabbed> grabbed = grab(key);
    if (!grabbed.ok()) return grabbed.status();
    PageRef page = std::move(grabbed.value().page);
    if (grabbed.value().created) hooks_.fill(*this, *page);
    cache_.wait_unlocked(*page);
    if (page->uptodate()) {
      page->mark_accessed();
      trace_use(id_, key);
      return page;
    }
    if (page->has(page_state::kError)) return Status::error(EIO);
    // An invalidation overtook the fill: ask again.
  }
  return Status::error(EAGAIN);
}

bool AddressSpace::fill_done(Page& page, uint64_t noted_sequence) {
  {
    MutexLock lock(mutex_);
    if (sequence() == noted_sequence && page.mapping() == this) {
      page.set(page_state::kUptodate);
      lock.unlock();
      cache_.unlock_page(page);
      return true;
    }
  }
  end_failed_fill(page);
  return false;
}

void AddressSpace::fill_failed(Page& page) {
  page.set(page_state::kError);
  end_failed_fill(page);
}

void AddressSpace::end_failed_fill(Page& page) {
  const Unlinked unlinked = unlink_if(page, [] { return true; });
  if (unlinked == Unlinked::kNow) {
    forget(page, PageLock::kHeld);
  } else {
    hooks_.invalidate_page(page);  // whoever removed it left the order to us: we hold the lock
  }
  cache_.unlock_page(page);
}

void AddressSpace::unlink(Page& page) {
  tree_.erase(Tree::s_iterator_to(page));
  cache_.index_.remove(page, this);
  page.mapping_.store(nullptr, std::memory_order_release);
}

template <typename Condition>
AddressSpace::Unlinked AddressSpace::unlink_if(Page& page, const Condition& condition) {
  MutexLock lock(mutex_);
  if (page.mapping() != this) return Unlinked::kBefore;
  if (!condition()) return Unlinked::kNot;
  unlink(page);
  return Unlinked::kNow;
}

// fill_done() sets uptodate under the mutex and only while the page is linked, so after unlink()
// the flag stands still and tells which of the two gives the order.
void AddressSpace::forget(Page& page, PageLock lock) {
  if (lock == PageLock::kHeld) {
    hooks_.invalidate_page(page);
  } else if (page.uptodate()) {
    cache_.lock_page(page);
    hooks_.invalidate_page(page);
    cache_.unlock_page(page);
  }
  cache_.removed(page);
  PageRef cache_reference = PageRef::adopt(&page);
}

bool AddressSpace::remove(Page& page) {
  if (unlink_if(page, [] { return true; }) != Unlinked::kNow) return false;
  forget(page, PageLock::kFree);
  return true;
}

bool AddressSpace::remove_clean(Page& page) {
  const Unlinked filling = unlink_if(page, [&] { return !page.uptodate(); });
  if (filling == Unlinked::kNow) forget(page, PageLock::kFree);
  if (filling != Unlinked::kNot) return true;
  cache_.lock_page(page);
  constexpr uint64_t kKept = page_state::kDirty | page_state::kWriteback | page_state::kPrivate;
  const Unlinked clean = unlink_if(page, [&] { return (page.state() & kKept) == 0; });
  if (clean == Unlinked::kNow) forget(page, PageLock::kHeld);
  cache_.unlock_page(page);
  return clean != Unlinked::kNot;
}

void AddressSpace::remove_frozen(Page& page) {
  MutexLock lock(mutex_);
  CACHE_DCHECK(page.mapping() == this);
  unlink(page);
  removed_.notify_all();
}

uint64_t AddressSpace::remove_range(uint64_t first_key) {
  Page* gone = nullptr;
  uint64_t count = 0;
  {
    MutexLock lock(mutex_);
    sequence_.fetch_add(1, std::memory_order_acq_rel);
    for (auto it = tree_.lower_bound(first_key); it != tree_.end();) {
      Page& page = *it++;
      // A pin keeps reclaim from freezing it; a page that is frozen already is on its way out.
      if (!page.try_get()) continue;
      unlink(page);
      page.next_ = gone;
      gone = &page;
      ++count;
    }
  }
  while (gone != nullptr) {
    PageRef pin = PageRef::adopt(gone);
    gone = gone->next_;
    forget(*pin, PageLock::kFree);
  }
  return count;
}

uint64_t AddressSpace::invalidate_all() { return truncate(0); }

uint64_t AddressSpace::truncate(uint64_t first_key) {
  cache_.stats().invalidations.add();
  return remove_range(first_key);
}

bool AddressSpace::invalidate_page(Page& page) {
  // Still being filled: from before the change, so it goes, and its fill will notice.
  const auto never_uptodate = [&] { return !page.uptodate(); };
  if (unlink_if(page, never_uptodate) == Unlinked::kNow) {
    forget(page, PageLock::kFree);
    return true;
  }
  cache_.lock_page(page);
  cache_.wait_writeback(page);
  Unlinked unlinked = page.mapping() == this ? Unlinked::kNot : Unlinked::kBefore;
  if (unlinked == Unlinked::kNot && !page.dirty() &&
      (!page.has(page_state::kPrivate) || hooks_.release_page(page))) {
    // Under the mutex: it may have been dirtied while its owner was asked.
    unlinked = unlink_if(page, [&] { return !page.dirty(); });
  }
  if (unlinked == Unlinked::kNow) forget(page, PageLock::kHeld);
  cache_.unlock_page(page);
  return unlinked != Unlinked::kNot;
}

// In batches: pins on every page at once would leave reclaim with nothing.
Status AddressSpace::invalidate_pages(uint64_t first_key, uint64_t last_key) {
  cache_.stats().invalidations.add();
  {
    MutexLock lock(mutex_);
    sequence_.fetch_add(1, std::memory_order_acq_rel);
  }
  bool busy = false;
  bool more = true;
  for (uint64_t next = first_key; more;) {
    std::array<PageRef, kInvalidateBatch> batch;
    size_t count = 0;
    {
      MutexLock lock(mutex_);
      auto it = tree_.lower_bound(next);
      const auto in_range = [&]() REQUIRES(mutex_) {
        return it != tree_.end() && it->key() <= last_key;
      };
      for (; in_range() && count < batch.size(); ++it) {
        if (it->try_get()) batch[count++] = PageRef::adopt(&*it);
      }
      more = in_range();
      if (more) next = it->key();
    }
    for (size_t i = 0; i < count; ++i) busy |= !invalidate_page(*batch[i]);
  }
  return busy ? Status::error(EBUSY) : Status();
}

Status AddressSpace::begin_modify(Page& page) {
  cache_.lock_page(page);
  Status status = page.mapping() == this ? Status() : Status::error(EAGAIN);
  if (status.ok()) status = hooks_.page_mkwrite(*this, page);
  if (status.ok()) {
    // Under the mapping's mutex a truncate can't fall between the look and the flag; under the
    // page lock write-back can't clean the page before our caller's write has been announced.
    MutexLock lock(mutex_);
    if (page.mapping() != this) {
      status = Status::error(EAGAIN);
    } else if (!page.mark_dirty()) {
      status = Status::error(EIO);  // never uptodate
    }
  }
  if (!status.ok()) cache_.unlock_page(page);
  return status;
}

void AddressSpace::end_modify(Page& page) { cache_.unlock_page(page); }

Status AddressSpace::begin_fill_dirty(Page& page) {
  CACHE_DCHECK(page.locked() && !page.uptodate());
  const Status status = hooks_.page_mkwrite(*this, page);
  if (!status.ok()) fill_failed(page);
  return status;
}

Status AddressSpace::end_fill_dirty(Page& page, uint64_t noted_sequence) {
  {
    MutexLock lock(mutex_);
    if (sequence() == noted_sequence && page.mapping() == this) {
      page.set(page_state::kUptodate | page_state::kDirty);
      lock.unlock();
      cache_.unlock_page(page);
      return {};
    }
  }
  end_failed_fill(page);
  return Status::error(EAGAIN);
}

bool AddressSpace::begin_writeback(Page& page) {
  CACHE_DCHECK(page.locked());
  if (!page.dirty()) return false;
  // Write-back first, so that the page is never both clean and idle in between.
  page.set(page_state::kWriteback);
  page.clear(page_state::kDirty);
  return true;
}

void AddressSpace::end_writeback(Page& page) { cache_.end_writeback(page); }

uint64_t AddressSpace::page_count() const {
  MutexLock lock(mutex_);
  return tree_.size();
}

void AddressSpace::check_invariants() const {
  MutexLock lock(mutex_);
  uint64_t previous = 0;
  bool first = true;
  for (const Page& page : tree_) {
    CACHE_CHECK(page.mapping() == this);
    CACHE_CHECK(first || page.key() > previous);
    previous = page.key();
    first = false;
  }
}

}  // namespace cache
