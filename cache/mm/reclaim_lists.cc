#include "cache/mm/reclaim_lists.h"

#include <algorithm>

namespace cache {

ReclaimLists::~ReclaimLists() { CACHE_CHECK(size() == 0); }

void ReclaimLists::push(Page& page, uint8_t which) {
  page.lru_list = which;
  page.lru_stamp = evictions_;
  lists_[which].push_front(page);
}

void ReclaimLists::add(Page& page, uint32_t distance) {
  if (distance != kNew) return contest(page, distance);
  push(page, kProbation);
  // One a page keeps both lists at their shares without a long walk under the lock.
  if (main_has_room() && lists_[kProbation].size() * kShares > size()) {
    move(lists_[kProbation].back(), kMain);
  } else if (!lists_[kMain].empty()) {
    look_at_main();
  }
}

uint32_t ReclaimLists::look_at_main() {
  Page& oldest = lists_[kMain].back();
  lists_[kMain].pop_back();
  lists_[kMain].push_front(oldest);
  if (oldest.clear(page_state::kReferenced)) oldest.lru_stamp = evictions_;
  return evictions_ - oldest.lru_stamp;
}

void ReclaimLists::contest(Page& page, uint32_t distance) {
  if (main_has_room() || lists_[kMain].empty()) return push(page, kMain);
  for (int looks = 0; looks < kLooks; ++looks) {
    const uint64_t idle = look_at_main();
    if (idle * 100 <= uint64_t{distance} * kMarginPercent) continue;
    Page& loser = lists_[kMain].front();
    remove(loser);
    loser.lru_list = kProbation;
    lists_[kProbation].push_back(loser);
    return push(page, kMain);
  }
  push(page, kProbation);
}

void ReclaimLists::remove(Page& page) { lists_[page.lru_list].erase(List::s_iterator_to(page)); }

void ReclaimLists::move(Page& page, uint8_t to) {
  remove(page);
  push(page, to);
}

uint8_t ReclaimLists::next_list() {
  if (lists_[kProbation].empty()) return kMain;
  if (lists_[kMain].empty()) return kProbation;
  const uint8_t due = lists_[kProbation].size() * 2 * kShares > size() ? kProbation : kMain;
  if (!exhausted(due)) return due;
  const uint8_t other = due == kMain ? kProbation : kMain;
  if (!exhausted(other)) return other;
  fruitless_[kProbation] = fruitless_[kMain] = 0;  // both in vain: begin again
  return due;
}

void ReclaimLists::taken_from(uint8_t which) {
  const uint8_t other = which == kMain ? kProbation : kMain;
  ++evictions_;
  fruitless_[which] = 0;
  fruitless_[other] -= std::min(fruitless_[other], kForgiven);
}

}  // namespace cache
