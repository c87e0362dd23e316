// ReclaimLists: in which order pages are given up.
//
// Purpose:        resists scans and loops, where LRU has no hits at all: a stable main part (nine
//                 tenths) that is only given up for pages that proved themselves, and a probation
//                 queue (one tenth) through which everything new passes.
// Ownership:      refers to pages; a page on a list is in the index or frozen by the caller.
// Thread-safety:  the caller holds one lock (LockRank::kLru) around every member.
//
//   new page                      -> probation, at its young end
//   probation over its tenth and
//     main below nine tenths      -> the oldest of probation moves to main (the cache is filling)
//   refault within main's size    -> main directly
//   reclaim, probation's old end: referenced -> main; else taken
//   reclaim, main's old end (only when main is over nine tenths, or probation gives nothing):
//                                 referenced -> young end, bit cleared; else taken
//
// A loop over twice the cache finds main's nine tenths again in every round; a scan passes through
// probation and leaves main alone. Sources: S3-FIFO (Yang et al. 2023), Linux mm/workingset.c.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>

#include "cache/mm/page.h"

namespace cache {

class ReclaimLists {
 public:
  ~ReclaimLists();
  void add(Page& page, bool refaulted);
  void remove(Page& page);

  // Looks at up to `scan` pages, freezes up to `want` of them (Page::freeze) and appends them,
  // taken off the lists, to `victims`. Returns how many it looked at.
  // `may_take` is asked about pages with private state, pinned meanwhile.
  template <typename MayTake>
  uint32_t take(uint32_t want, uint32_t scan, const MayTake& may_take, Page** victims,
                uint32_t* taken);
  // The same without regard to order or use: for dropping everything.
  uint32_t take_any(uint32_t want, Page** victims);

  [[nodiscard]] uint64_t size() const { return lists_[0].size() + lists_[1].size(); }
  [[nodiscard]] uint64_t main_size() const { return lists_[kMain].size(); }

 private:
  static constexpr uint8_t kProbation = 0;
  static constexpr uint8_t kMain = 1;
  using Hook =
      boost::intrusive::member_hook<Page, boost::intrusive::list_member_hook<>, &Page::lru_hook>;
  using List = boost::intrusive::list<Page, Hook>;

  void push(Page& page, uint8_t which);
  void move(Page& page, uint8_t to);
  [[nodiscard]] bool main_has_room() const { return main_size() * 10 < size() * 9; }
  [[nodiscard]] uint8_t next_list() const;

  List lists_[2];  // front: young, back: old
};

template <typename MayTake>
uint32_t ReclaimLists::take(uint32_t want, uint32_t scan, const MayTake& may_take, Page** victims,
                            uint32_t* taken) {
  uint32_t looked = 0;
  uint32_t fruitless = 0;
  for (; looked < scan && *taken < want && size() > 0; ++looked, ++fruitless) {
    uint8_t which = next_list();
    // Everything on this list is in use: see what the other one has.
    const uint8_t other = which == kMain ? kProbation : kMain;
    if (fruitless >= lists_[which].size() && !lists_[other].empty()) which = other;
    Page& page = lists_[which].back();
    if (page.clear(page_state::kReferenced)) {
      move(page, kMain);
    } else if (page.has(page_state::kPrivate) && !may_take(page)) {
      move(page, kMain);
    } else if (page.freeze()) {
      remove(page);
      victims[(*taken)++] = &page;
      fruitless = 0;
    } else {
      move(page, which);  // in use: leave it
    }
  }
  return looked;
}

}  // namespace cache
