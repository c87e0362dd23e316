#include "cache/mm/address_space.h"

#include <vector>

#include "cache/mm/page_cache.h"
#include "cache/mm/page_hooks.h"

namespace cache {

void PageHooks::fill(AddressSpace& mapping, Page& page) { mapping.fill_failed(page); }
bool PageHooks::release_page(Page& /*page*/) { return true; }
void PageHooks::invalidate_page(Page& /*page*/) {}
Status PageHooks::page_mkwrite(AddressSpace& /*mapping*/, Page& /*page*/) { return {}; }

AddressSpace::AddressSpace(PageCache& cache, PageHooks& hooks)
    : cache_(cache), hooks_(hooks), id_(cache.next_mapping_id()) {}

AddressSpace::~AddressSpace() {
  invalidate_all();
  // Frozen pages are reclaim's: it takes this mutex once more for each, and touches nothing of
  // ours after that.
  MutexLock lock(mutex_);
  while (!tree_.empty()) removed_.wait(mutex_);
}

PageRef AddressSpace::find(uint64_t key) { return cache_.index_.find(this, key); }

PageRef AddressSpace::find_hint(Page* hint, uint64_t key) {
  if (hint == nullptr || !hint->try_get()) return {};
  PageRef ref = PageRef::adopt(hint);
  if (hint->key() != key || hint->mapping() != this) return {};
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
  Result<Grabbed> grabbed = grab(key);
  if (!grabbed.ok()) return grabbed.status();
  PageRef page = std::move(grabbed.value().page);
  if (grabbed.value().created) hooks_.fill(*this, *page);
  cache_.wait_unlocked(*page);
  if (!page->uptodate()) return Status::error(EIO);
  page->mark_accessed();
  return page;
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
  fill_failed(page);
  return false;
}

void AddressSpace::fill_failed(Page& page) {
  remove(page);
  cache_.unlock_page(page);
}

void AddressSpace::unlink(Page& page) {
  tree_.erase(Tree::s_iterator_to(page));
  cache_.index_.remove(page, this);
  page.mapping_.store(nullptr, std::memory_order_release);
}

void AddressSpace::forget(PageRef cache_reference) {
  hooks_.invalidate_page(*cache_reference);
  cache_.removed(*cache_reference);
}

bool AddressSpace::remove(Page& page) {
  {
    MutexLock lock(mutex_);
    if (page.mapping() != this) return false;
    unlink(page);
  }
  forget(PageRef::adopt(&page));
  return true;
}

void AddressSpace::remove_frozen(Page& page) {
  MutexLock lock(mutex_);
  DCHECK(page.mapping() == this);
  unlink(page);
  removed_.notify_all();
}

uint64_t AddressSpace::remove_range(uint64_t first_key) {
  std::vector<Page*> gone;
  {
    MutexLock lock(mutex_);
    sequence_.fetch_add(1, std::memory_order_acq_rel);
    for (auto it = tree_.lower_bound(first_key); it != tree_.end();) {
      Page& page = *it++;
      // A pin keeps reclaim from freezing it; a page that is frozen already is on its way out.
      if (!page.try_get()) continue;
      unlink(page);
      gone.push_back(&page);
    }
  }
  for (Page* page : gone) {
    PageRef pin = PageRef::adopt(page);
    forget(PageRef::adopt(page));
  }
  cache_.stats().invalidations.add();
  return gone.size();
}

uint64_t AddressSpace::invalidate_all() { return remove_range(0); }
uint64_t AddressSpace::truncate(uint64_t first_key) { return remove_range(first_key); }

bool AddressSpace::remove_if_clean(Page& page) {
  {
    MutexLock lock(mutex_);
    if (page.mapping() != this) return true;  // somebody else removed it
    if (page.dirty()) return false;           // redirtied while its owner was asked
    unlink(page);
  }
  forget(PageRef::adopt(&page));
  return true;
}

Status AddressSpace::invalidate_pages() {
  std::vector<PageRef> pages;
  {
    MutexLock lock(mutex_);
    sequence_.fetch_add(1, std::memory_order_acq_rel);
    for (Page& page : tree_) {
      if (page.try_get()) pages.push_back(PageRef::adopt(&page));
    }
  }
  bool busy = false;
  for (PageRef& page : pages) {
    cache_.lock_page(*page);
    cache_.wait_writeback(*page);
    const bool refused = page->has(page_state::kPrivate) && !hooks_.release_page(*page);
    if (page->dirty() || refused || !remove_if_clean(*page)) busy = true;
    cache_.unlock_page(*page);
    page.reset();
  }
  cache_.stats().invalidations.add();
  return busy ? Status::error(EBUSY) : Status();
}

Status AddressSpace::make_writable(Page& page) {
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
  cache_.unlock_page(page);
  return status;
}

bool AddressSpace::begin_writeback(Page& page) {
  DCHECK(page.locked());
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
    CHECK(page.mapping() == this);
    CHECK(first || page.key() > previous);
    previous = page.key();
    first = false;
  }
}

}  // namespace cache
