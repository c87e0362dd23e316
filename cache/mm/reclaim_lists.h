// ReclaimLists: in which order pages are given up.
//
// Purpose:        resists scans and loops, where LRU has no hits at all: a stable main part (15/16)
//                 whose pages only make room for pages that prove to be used more often, and a
//                 probation queue (1/16) through which everything new passes.
// Ownership:      refers to pages; a page on a list is in the index or frozen by the caller.
// Thread-safety:  the caller holds one lock (LockRank::kLru) around every member.
//
//   new page                      -> probation, at its young end; and main's hand looks at one page
//   probation over its share and
//     main below its own          -> the oldest of probation moves to main (the cache is filling)
//   refault; or referenced at
//     probation's old end         -> main, while it has room; else contest
//   contest                       -> main's hand looks at up to kLooks pages: one idle for clearly
//                                    longer than we were away goes to probation's old end, and we
//                                    to main; if there is none, we to probation
//   main's hand                   -> the oldest page goes to the young end; when it was referenced
//                                    the bit is cleared and the time noted
//   reclaim, probation's old end: referenced -> contest; else taken
//   reclaim, main's old end (only when probation is below half its share, or gives nothing):
//                                 referenced -> young end, bit cleared; else taken
//
// Time is counted in evictions, as in the history of refaults: so how long a page was away and how
// long another has been idle can be compared. In a loop that does not fit, every page is away for
// one round and none is idle for longer: main stays as it is, and has its hits again in every
// round. When the programs turn to something else, main's pages stay idle, and whatever is read a
// second time takes their place, also where the new loop is longer than the cache. New pages bring
// no contest: a scan passes through probation. The margin is for the first round of a loop, in
// which the pages were away for less, since the cache was still filling.
//
// Reclaim and refill move probation between half its share and all of it, and main stays as it is:
// were main to give its share of every reclaim, it would be a queue like any other.
//
// A list through which reclaim has gone once in vain is passed over for the other one; every page
// taken from the other brings kForgiven of its pages back into question, so that neither a pinned
// main nor a pinned probation hides what the other could give.
//
// Sources: S3-FIFO (Yang et al. 2023) for the two lists, Linux mm/workingset.c for the comparison
// of refault distance and age, WSClock (Carr and Hennessy 1981) for the hand. The numbers, against
// other policies: tools/bench/reclaim.
#pragma once

#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <cstdint>

#include "cache/mm/page.h"

namespace cache {

class ReclaimLists {
 public:
  ~ReclaimLists();
  // `distance`: evictions since this page's own, or kNew (RefaultHistory::take_distance).
  void add(Page& page, uint32_t distance);
  static constexpr uint32_t kNew = UINT32_MAX;
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

  // The most that one step may take: at most half of probation's share, since more would reach into
  // the stable part.
  [[nodiscard]] uint32_t step_bound() const {
    return static_cast<uint32_t>(std::clamp<uint64_t>(size() / (2 * kShares), 1, kBatch));
  }
  // Probation has one of so many shares of the pages, and main the others. Reclaim leaves half of
  // it, so what is read ahead must fit into that.
  static constexpr uint64_t kShares = 16;
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
  // The page is on no list; it was last used so many evictions ago.
  void contest(Page& page, uint32_t distance);
  [[nodiscard]] bool main_has_room() const {
    return main_size() * kShares < size() * (kShares - 1);
  }
  // One step of main's hand: the oldest page goes to the young end. Returns how many evictions ago
  // it was last seen to have been used.
  uint32_t look_at_main();
  [[nodiscard]] uint8_t next_list();
  [[nodiscard]] bool exhausted(uint8_t which) const {
    return fruitless_[which] >= lists_[which].size();
  }
  void taken_from(uint8_t which);

  static constexpr uint64_t kForgiven = 8;
  static constexpr uint32_t kMarginPercent = 125;
  static constexpr int kLooks = 4;  // bounds a contest

  List lists_[2];           // front: young, back: old
  uint32_t evictions_ = 0;  // the clock; wraps
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
        contest(page, static_cast<uint32_t>(lists_[kProbation].size()));
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
