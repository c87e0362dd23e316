#include "cache/mm/page.h"

#include "cache/mm/page_cache.h"

namespace cache {

using page_state::count;

bool Page::freeze() {
  uint64_t state = state_.load(std::memory_order_relaxed);
  for (;;) {
    if (count(state) != 1) return false;
    constexpr uint64_t kInUse =
        page_state::kLocked | page_state::kDirty | page_state::kWriteback | page_state::kPrivate;
    if ((state & kInUse) != 0) return false;
    // One word holds count and flags: a dirtying or a pin that lands after this look makes the
    // exchange fail, so 'freeze, then test dirty' is a single step here.
    if (state_.compare_exchange_weak(state, state - page_state::kOne, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)) {
      return true;
    }
  }
}

bool Page::mark_dirty() {
  uint64_t state = state_.load(std::memory_order_relaxed);
  do {
    CACHE_DCHECK(count(state) > 0);  // the caller's pin
    if ((state & page_state::kUptodate) == 0) return false;
  } while (!state_.compare_exchange_weak(state, state | page_state::kDirty,
                                         std::memory_order_acq_rel, std::memory_order_relaxed));
  return true;
}

void PageRef::reset() {
  Page* page = std::exchange(page_, nullptr);
  if (page == nullptr) return;
  const uint64_t before = page->state_.fetch_sub(page_state::kOne, std::memory_order_acq_rel);
  CACHE_DCHECK(count(before) > 0);
  if (count(before) == 1) page->cache_->free_removed(*page);
}

PageRef PageRef::duplicate() const {
  if (page_ == nullptr) return {};
  const uint64_t before = page_->state_.fetch_add(page_state::kOne, std::memory_order_relaxed);
  CACHE_CHECK(count(before) > 0);
  return adopt(page_);
}

}  // namespace cache
