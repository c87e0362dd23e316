#include "cache/mm/page_cache.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "cache/mm/address_space.h"
#include "cache/mm/page_hooks.h"

namespace cache {
namespace {

constexpr size_t kPageContent = 4096;
constexpr size_t kSlabPages = SpanPool::kSpanBytes / sizeof(Page);

// A readdir array takes a page and about as much again for its names.
uint64_t expected_pages(uint64_t limit) { return limit / (2 * kPageContent); }

}  // namespace

PageCache::PageCache(const PageCacheOptions& options)
    : options_(options),
      pool_(options.limit_bytes),
      index_(expected_pages(options.limit_bytes)),
      history_(expected_pages(options.limit_bytes) * 2),
      table_bytes_(index_.table_bytes() + history_.table_bytes()) {
  CACHE_CHECK(pool_.charge(table_bytes_) && "the budget is below the working minimum");
  if (options.background == PageCacheOptions::Background::kThread) {
    reclaimer_ = std::thread([this] { run_reclaimer(); });
  }
}

PageCache::~PageCache() {
  {
    MutexLock lock(reclaimer_mutex_);
    stopping_ = true;
    reclaimer_wake_.notify_all();
  }
  if (reclaimer_.joinable()) reclaimer_.join();
  CACHE_CHECK(stats_.pages_resident.get() == 0 && "an address space outlives the cache");
  CACHE_CHECK(stats_.pages_private.get() == 0 && "a pin outlives the cache");
  {
    MutexLock tables_lock(tables_mutex_);
    hook_tables_.clear();
  }
  std::vector<std::byte*> slabs;
  {
    MutexLock lock(free_mutex_);
    slabs.swap(slabs_);
  }
  for (std::byte* slab : slabs) {
    Page* pages = reinterpret_cast<Page*>(slab);
    for (size_t i = 0; i < kSlabPages; ++i) pages[i].~Page();
    pool_.free(slab, SpanPool::kSpanBytes);
  }
  pool_.uncharge(table_bytes_);
}

bool PageCache::background_must_start() const {
  const uint64_t bound = pool_.bound();
  return Watermarks::for_bound(bound).must_start(pool_.available()) || pool_.committed() > bound;
}

bool PageCache::background_may_stop() const {
  const uint64_t bound = pool_.bound();
  return Watermarks::for_bound(bound).may_stop(pool_.available()) && pool_.committed() <= bound;
}

// Tries, reclaiming in between, a bounded number of times.
template <typename Attempt>
auto PageCache::with_reclaim(const Attempt& attempt) -> decltype(attempt()) {
  for (uint32_t step = 0; step <= kMaxDirectSteps; ++step) {
    if (auto got = attempt()) {
      if (background_must_start()) wake_reclaimer();
      return got;
    }
    if (step == kMaxDirectSteps) break;
    stats_.reclaim_direct.add();
    if (!reclaim_some()) break;
  }
  shrink_tables();
  auto got = attempt();
  if (!got) stats_.allocation_failures.add();
  return got;
}

void* PageCache::allocate(size_t bytes) {
  return with_reclaim([&] { return pool_.allocate(bytes); });
}

bool PageCache::charge(uint64_t bytes) {
  return with_reclaim([&] { return pool_.charge(bytes); });
}

Page* PageCache::take_descriptor() {
  MutexLock lock(free_mutex_);
  Page* page = free_pages_;
  if (page != nullptr) free_pages_ = page->next_;
  return page;
}

bool PageCache::more_descriptors() {
  auto* slab = static_cast<std::byte*>(allocate(SpanPool::kSpanBytes));
  if (slab == nullptr) return false;
  MutexLock lock(free_mutex_);
  slabs_.push_back(slab);
  for (size_t i = 0; i < kSlabPages; ++i) {
    Page* page = new (slab + i * sizeof(Page)) Page();
    page->cache_ = this;
    page->next_ = free_pages_;
    free_pages_ = page;
  }
  return true;
}

PageRef PageCache::new_page(PageHooks& hooks) {
  auto* content = static_cast<std::byte*>(allocate(kPageContent));
  if (content == nullptr) return {};
  Page* page = take_descriptor();
  while (page == nullptr && more_descriptors()) page = take_descriptor();
  if (page == nullptr) {
    pool_.free(content, kPageContent);
    return {};
  }
  std::memset(content, 0, kPageContent);  // free_page may see a page that was never filled
  page->hooks_ = &hooks;
  page->content_ = content;
  stats_.pages_private.add(1);
  page->state_.store(page_state::kOne | page_state::kLocked, std::memory_order_release);
  return PageRef::adopt(page);
}

void PageCache::added(Page& page, uint64_t mapping_id) {
  stats_.pages_private.sub(1);
  stats_.pages_resident.add(1);
  const uint32_t distance = history_.take_distance(mapping_id, page.key());
  MutexLock lock(lru_mutex_);
  if (distance != UINT32_MAX) stats_.reclaim_refaults.add();
  lists_.add(page, distance);
}

void PageCache::removed(Page& page) {
  {
    MutexLock lock(lru_mutex_);
    lists_.remove(page);
  }
  stats_.pages_private.add(1);
  stats_.pages_resident.sub(1);
}

void PageCache::free_removed(Page& page) {
  CACHE_DCHECK(page.mapping() == nullptr);
  page.hooks_->free_page(page.content_);
  stats_.free_page_calls.add();
  pool_.free(page.content_, kPageContent);
  page.content_ = nullptr;
  // Still a pin's worth of flags in the word; count 0 keeps try-get away.
  page.state_.store(0, std::memory_order_release);
  stats_.pages_private.sub(1);
  MutexLock lock(free_mutex_);
  page.next_ = free_pages_;
  free_pages_ = &page;
}

void PageCache::finish_victims(Page* const* victims, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    Page& page = *victims[i];
    // Frozen: nobody else can remove it, so its mapping waits for us.
    AddressSpace* mapping = page.mapping();
    history_.evicted(mapping->id(), page.key());
    mapping->remove_frozen(page);
    // From here on the mapping may be gone.
    stats_.pages_resident.sub(1);
    stats_.pages_private.add(1);
    stats_.reclaim_pages.add();
    free_removed(page);
  }
  if (count == 0) return;
  MutexLock lock(victims_queue_.mutex);
  victims_ -= count;
  ++victims_freed_;
  victims_queue_.changed.notify_all();
}

namespace {

// Asks the owner of private state, under the reclaim lists' mutex: its hook may not block.
bool owner_agrees(PageCache& cache, Page& page) {
  if (!page.try_get()) return false;
  PageRef pin = PageRef::adopt(&page);
  if (!page.try_lock()) return false;
  // An owner that agrees gives its state up: not asked for a page that can't be taken anyway.
  constexpr uint32_t kOursAndTheCaches = 2;
  const uint64_t state = page.state();
  if (page_state::count(state) != kOursAndTheCaches ||
      (state & (page_state::kDirty | page_state::kWriteback)) != 0) {
    cache.unlock_page(page);
    return false;
  }
  const bool agreed = page.hooks().release_page(page);
  if (agreed) page.clear(page_state::kPrivate);
  cache.unlock_page(page);
  return agreed;
}

}  // namespace

uint32_t PageCache::reclaim(uint32_t want) { return reclaim_step(want).taken; }

PageCache::Step PageCache::reclaim_step(uint32_t want) {
  std::array<Page*, kBatch> victims;
  Step step;
  {
    MutexLock lock(lru_mutex_);
    const auto may_take = [this](Page& page) { return owner_agrees(*this, page); };
    step.looked = lists_.take(std::min(want, lists_.step_bound()), kScan, may_take, victims.data(),
                              &step.taken);
    // Before the lists' mutex goes: who finds them empty must see that there are victims.
    MutexLock queue_lock(victims_queue_.mutex);
    victims_ += step.taken;
  }
  stats_.reclaim_scanned.add(step.looked);
  finish_victims(victims.data(), step.taken);
  return step;
}

bool PageCache::reclaim_some() {
  uint64_t fruitless = 0;
  for (;;) {
    const Step step = reclaim_step(kBatch);
    if (step.taken > 0 || wait_for_victims()) return true;
    fruitless += step.looked;
    const auto resident = static_cast<uint64_t>(std::max<int64_t>(stats_.pages_resident.get(), 0));
    if (step.looked == 0 || fruitless > 2 * resident + kScan) return false;
  }
}

// Those who hold victims take a mapping's mutex and the pool's, never what we may hold.
bool PageCache::wait_for_victims() {
  constexpr auto kPatience = std::chrono::seconds(5);
  MutexLock lock(victims_queue_.mutex);
  if (victims_ == 0) return false;
  const uint64_t seen = victims_freed_;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (victims_freed_ == seen) {
    if (!victims_queue_.changed.wait_until(victims_queue_.mutex, deadline)) break;
  }
  return victims_freed_ != seen;
}

uint64_t PageCache::drop_clean() {
  std::array<Page*, kBatch> victims;
  uint64_t total = 0;
  for (;;) {
    uint32_t taken = 0;
    {
      MutexLock lock(lru_mutex_);
      const auto may_take = [this](Page& page) { return owner_agrees(*this, page); };
      taken = lists_.take_any(kBatch, may_take, victims.data());
      MutexLock queue_lock(victims_queue_.mutex);
      victims_ += taken;
    }
    if (taken == 0) return total;
    finish_victims(victims.data(), taken);
    total += taken;
  }
}

void PageCache::shrink_tables() {
  std::vector<PageHooks*> tables;  // they live as long as the cache
  {
    MutexLock lock(tables_mutex_);
    for (const auto& table : hook_tables_) tables.push_back(table.get());
  }
  for (PageHooks* table : tables) table->shrink();
}

void PageCache::set_pressure_bound(uint64_t bytes) {
  const uint64_t target =
      std::clamp(bytes, std::min(options_.min_bytes, pool_.limit()), pool_.limit());
  pool_.set_bound(target);
  if (target < pool_.limit()) shrink_tables();
  // Those who fill meanwhile may use what is freed, so the number of steps, of a page at least, is
  // bounded: twice what there is. The background goes on from there.
  const int64_t steps = 2 * stats_.pages_resident.get() + 64;
  for (int64_t i = 0; i < steps && pool_.committed() > target; ++i) {
    if (!reclaim_some()) return;
  }
  if (pool_.committed() > target) wake_reclaimer();
}

uint64_t PageCache::pinned_pages() {
  uint64_t pinned = 0;
  MutexLock lock(free_mutex_);
  for (std::byte* slab : slabs_) {
    const Page* pages = reinterpret_cast<const Page*>(slab);
    for (size_t i = 0; i < kSlabPages; ++i) {
      const uint64_t own = pages[i].mapping() != nullptr ? 1 : 0;
      if (page_state::count(pages[i].state()) > own) ++pinned;
    }
  }
  return pinned;
}

void PageCache::wake_reclaimer() {
  if (reclaim_wanted_.exchange(true, std::memory_order_acq_rel)) return;
  MutexLock lock(reclaimer_mutex_);
  reclaimer_wake_.notify_one();
}

void PageCache::run_reclaimer() {
  for (;;) {
    {
      MutexLock lock(reclaimer_mutex_);
      while (!stopping_ && !reclaim_wanted_.load(std::memory_order_acquire)) {
        reclaimer_wake_.wait(reclaimer_mutex_);
      }
      if (stopping_) return;
    }
    reclaim_wanted_.store(false, std::memory_order_release);
    while (!background_may_stop()) {
      if (!reclaim_some()) break;  // everything is in use: the next allocation wakes us
    }
  }
}

void PageCache::wait_clear(Page& page, uint64_t flags) {
  WaitQueue& queue = queue_of(page);
  MutexLock lock(queue.mutex);
  for (;;) {
    page.set(page_state::kWaiters);
    if ((page.state() & flags) == 0) return;
    queue.changed.wait(queue.mutex);
  }
}

void PageCache::wait_unlocked(Page& page) {
  if (page.locked()) wait_clear(page, page_state::kLocked);
}

void PageCache::wait_writeback(Page& page) {
  if (page.has(page_state::kWriteback)) wait_clear(page, page_state::kWriteback);
}

void PageCache::lock_page(Page& page) {
  while (!page.try_lock()) wait_clear(page, page_state::kLocked);
}

void PageCache::unlock_page(Page& page) {
  const uint64_t before = page.state_.fetch_and(~(page_state::kLocked | page_state::kWaiters),
                                                std::memory_order_acq_rel);
  CACHE_CHECK((before & page_state::kLocked) != 0);
  if ((before & page_state::kWaiters) == 0) return;
  WaitQueue& queue = queue_of(page);
  MutexLock lock(queue.mutex);
  queue.changed.notify_all();
}

void PageCache::end_writeback(Page& page) {
  const uint64_t before = page.state_.fetch_and(~(page_state::kWriteback | page_state::kWaiters),
                                                std::memory_order_acq_rel);
  if ((before & page_state::kWaiters) == 0) return;
  WaitQueue& queue = queue_of(page);
  MutexLock lock(queue.mutex);
  queue.changed.notify_all();
}

void PageCache::check_invariants() {
  pool_.check_invariants();
  MutexLock lock(lru_mutex_);
  CACHE_CHECK(static_cast<int64_t>(lists_.size()) <= stats_.pages_resident.get());
}

}  // namespace cache
