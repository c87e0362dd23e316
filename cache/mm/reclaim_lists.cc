#include "cache/mm/reclaim_lists.h"

namespace cache {

ReclaimLists::~ReclaimLists() { CHECK(size() == 0); }

void ReclaimLists::push(Page& page, uint8_t which) {
  page.lru_list = which;
  lists_[which].push_front(page);
}

void ReclaimLists::add(Page& page, bool refaulted) {
  push(page, refaulted ? kMain : kProbation);
  // One a page keeps both lists at their shares without a long walk under the lock.
  if (main_has_room() && lists_[kProbation].size() * 10 > size()) {
    move(lists_[kProbation].back(), kMain);
  }
}

void ReclaimLists::remove(Page& page) { lists_[page.lru_list].erase(List::s_iterator_to(page)); }

void ReclaimLists::move(Page& page, uint8_t to) {
  remove(page);
  push(page, to);
}

uint8_t ReclaimLists::next_list() const {
  if (lists_[kProbation].empty()) return kMain;
  if (lists_[kMain].empty()) return kProbation;
  return main_size() * 10 > size() * 9 ? kMain : kProbation;
}

uint32_t ReclaimLists::take_any(uint32_t want, Page** victims) {
  uint32_t taken = 0;
  for (List& list : lists_) {
    for (auto it = list.begin(); it != list.end() && taken < want;) {
      Page& page = *it++;
      if (page.has(page_state::kPrivate) || !page.freeze()) continue;
      remove(page);
      victims[taken++] = &page;
    }
  }
  return taken;
}

}  // namespace cache
