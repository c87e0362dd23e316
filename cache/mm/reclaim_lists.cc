#include "cache/mm/reclaim_lists.h"

#include <algorithm>

namespace cache {

ReclaimLists::~ReclaimLists() { CHECK(size() == 0); }

void ReclaimLists::push(Page& page, uint8_t which) {
  page.lru_list = which;
  lists_[which].push_front(page);
}

void ReclaimLists::add(Page& page, bool refaulted) {
  if (refaulted) return contest(page);
  push(page, kProbation);
  // One a page keeps both lists at their shares without a long walk under the lock.
  if (main_has_room() && lists_[kProbation].size() * 10 > size()) {
    move(lists_[kProbation].back(), kMain);
  }
}

void ReclaimLists::contest(Page& page) {
  if (main_has_room() || lists_[kMain].empty()) return push(page, kMain);
  Page& oldest = lists_[kMain].back();
  remove(oldest);
  if (oldest.clear(page_state::kReferenced)) {
    push(oldest, kMain);
    push(page, kProbation);
    return;
  }
  oldest.lru_list = kProbation;
  lists_[kProbation].push_back(oldest);
  push(page, kMain);
}

void ReclaimLists::remove(Page& page) { lists_[page.lru_list].erase(List::s_iterator_to(page)); }

void ReclaimLists::move(Page& page, uint8_t to) {
  remove(page);
  push(page, to);
}

uint8_t ReclaimLists::next_list() {
  if (lists_[kProbation].empty()) return kMain;
  if (lists_[kMain].empty()) return kProbation;
  const uint8_t due = lists_[kProbation].size() * 20 > size() ? kProbation : kMain;
  if (!exhausted(due)) return due;
  const uint8_t other = due == kMain ? kProbation : kMain;
  if (!exhausted(other)) return other;
  fruitless_[kProbation] = fruitless_[kMain] = 0;  // both in vain: begin again
  return due;
}

void ReclaimLists::taken_from(uint8_t which) {
  const uint8_t other = which == kMain ? kProbation : kMain;
  fruitless_[which] = 0;
  fruitless_[other] -= std::min(fruitless_[other], kForgiven);
}

}  // namespace cache
