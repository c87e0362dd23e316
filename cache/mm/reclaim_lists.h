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
//   refault within main's size,
//     referenced on probation     -> contest with the oldest of main, unless main has room:
//                                    idle       -> it goes to probation's old end, we to main
//                                    referenced -> bit cleared, to main's young end; we go to
//                                                  probation's young end
//   reclaim, probation's old end: referenced -> contest; else taken
//   reclaim, main's old end (only when probation is below half its share, or gives nothing):
//                                 referenced -> young end, bit cleared; else taken
//
// Reclaim and refill move probation between half its share and all of it, and main stays as it is:
// were main to give its share of every reclaim, it would be a queue like any other, and a loop
// would have no hits. A contest looks at one page of main: those that are in use win it for ever,
// those that are not are replaced after two turns.
//
// A list through which reclaim has gone once in vain is passed over for the other one; every page
// taken from the other brings kForgiven of its pages back into question, so that neither a pinned
// main nor a pinned probation hides what the other could give.
//
// A loop over twice the cache finds main's nine tenths again in every round; a scan passes through
// probation and leaves main alone. Sources: S3-FIFO (Yang et al. 2023), Linux mm/workingset.c.
#pragma once

#include <algorithm>
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
  template <typename MayTake>
  uint32_t take_any(uint32_t want, const MayTake& may_take, Page** victims);

  // Whether a page that comes back so many evictions after its own should have stayed.
  [[nodiscard]] bool is_refault(uint32_t distance) const {
    return distance < std::max<uint64_t>(main_size(), 1);
  }
  // The most that one step may take: at most a thirty-second of a small cache, since more would
  // reach into the stable part.
  [[nodiscard]] uint32_t step_bound() const {
    return static_cast<uint32_t>(std::min<uint64_t>(size() / 32 + 1, kBatch));
  }
  static constexpr uint32_t kBatch = 32;  // pages a step
  static constexpr uint32_t kScan = 256;  // pages looked at in a step, under one lock

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
  // The page is on no list.
  void contest(Page& page);
  [[nodiscard]] bool main_has_room() const { return main_size() * 10 < size() * 9; }
  [[nodiscard]] uint8_t next_list();
  [[nodiscard]] bool exhausted(uint8_t which) const {
    return fruitless_[which] >= lists_[which].size();
  }
  void taken_from(uint8_t which);

  static constexpr uint64_t kForgiven = 8;

  List lists_[2];  // front: young, back: old
  // Pages looked at since something was taken from the list.
  uint64_t fruitless_[2] = {0, 0};
};

template <typename MayTake>
uint32_t ReclaimLists::take(uint32_t want, uint32_t scan, const MayTake& may_take, Page** victims,
                            uint32_t* taken) {
  uint32_t looked = 0;
  for (; looked < scan && *taken < want && size() > 0; ++looked) {
    const uint8_t which = next_list();
    Page& page = lists_[which].back();
    ++fruitless_[which];
    if (page.clear(page_state::kReferenced)) {
      remove(page);
      if (which == kMain) {
        push(page, kMain);
      } else {
        contest(page);
      }
    } else if ((page.has(page_state::kPrivate) && !may_take(page)) || !page.freeze()) {
      move(page, which);  // in use: leave it
    } else {
      remove(page);
      victims[(*taken)++] = &page;
      taken_from(which);
    }
  }
  return looked;
}

template <typename MayTake>
uint32_t ReclaimLists::take_any(uint32_t want, const MayTake& may_take, Page** victims) {
  uint32_t taken = 0;
  for (List& list : lists_) {
    for (auto it = list.begin(); it != list.end() && taken < want;) {
      Page& page = *it++;
      if (page.has(page_state::kPrivate) && !may_take(page)) continue;
      if (!page.freeze()) continue;
      remove(page);
      victims[taken++] = &page;
    }
  }
  return taken;
}

}  // namespace cache
