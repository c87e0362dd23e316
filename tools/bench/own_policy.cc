// The cache's own policy: the real lists and the real history, without memory behind the pages.
#include <optional>

#include "cache/mm/reclaim_lists.h"
#include "cache/mm/refault.h"
#include "tools/bench/reclaim_policy.h"

namespace cache {

// Descriptors by hand, as PageCache::new_page, AddressSpace::grab and fill_done leave them: what
// the lists look at is the key and the state word.
struct PolicyBenchPeer {
  static void begin(Page& page, uint64_t key) {
    page.key_.store(key, std::memory_order_relaxed);
    page.state_.store(page_state::kOne | page_state::kUptodate, std::memory_order_relaxed);
  }
};

}  // namespace cache

namespace bench {
namespace {

class Own final : public Policy {
 public:
  Own(uint32_t capacity, uint32_t pages)
      : descriptors_(capacity), where_(pages, nullptr), history_(uint64_t{2} * capacity) {
    for (cache::Page& page : descriptors_) free_.push_back(&page);
  }
  ~Own() override {
    for (cache::Page* page : where_) {
      if (page != nullptr) lists_.remove(*page);
    }
  }
  Own(const Own&) = delete;
  Own& operator=(const Own&) = delete;

  bool use(PageNumber number) override {
    if (cache::Page* page = where_[number]; page != nullptr) {
      page->mark_accessed();
      return true;
    }
    while (free_.empty()) reclaim();
    cache::Page* page = free_.back();
    free_.pop_back();
    where_[number] = page;
    cache::PolicyBenchPeer::begin(*page, number);
    lists_.add(*page, history_.take_distance(kMapping, number));
    page->mark_accessed();  // by whoever it was filled for
    return false;
  }

 private:
  static constexpr uint64_t kMapping = 1;

  void reclaim() {  // PageCache::reclaim_step
    cache::Page* victims[cache::ReclaimLists::kBatch];
    uint32_t taken = 0;
    lists_.take(
        lists_.step_bound(), cache::ReclaimLists::kScan, [](cache::Page&) { return true; }, victims,
        &taken);
    for (uint32_t i = 0; i < taken; ++i) {
      history_.evicted(kMapping, victims[i]->key());
      where_[victims[i]->key()] = nullptr;
      free_.push_back(victims[i]);
    }
  }

  std::vector<cache::Page> descriptors_;
  std::vector<cache::Page*> free_;
  std::vector<cache::Page*> where_;
  cache::ReclaimLists lists_;
  cache::RefaultHistory history_;
};

}  // namespace

std::unique_ptr<Policy> make_own(uint32_t capacity, uint32_t pages) {
  return std::make_unique<Own>(capacity, pages);
}

}  // namespace bench
