// PageRanges: a set of page numbers as disjoint ranges.
//
// Purpose:        which pages of a file are dirty, or under way, or not committed: mostly a few
//                 long runs.
// Thread-safety:  none; its owner's lock.
// Cost:           logarithmic in the number of ranges.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace cache {

struct PageRange {
  uint64_t first = 0;
  uint64_t end = 0;  // exclusive
  [[nodiscard]] uint64_t size() const { return end - first; }
  [[nodiscard]] bool overlaps(uint64_t other_first, uint64_t other_end) const {
    return first < other_end && other_first < end;
  }
  bool operator==(const PageRange&) const = default;
};

class PageRanges {
 public:
  // Each tells how many pages were added or removed.
  uint64_t insert(uint64_t first, uint64_t end);
  uint64_t erase(uint64_t first, uint64_t end);
  uint64_t clear();

  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] uint64_t pages() const { return pages_; }
  [[nodiscard]] bool contains(uint64_t page) const;
  [[nodiscard]] bool overlaps(uint64_t first, uint64_t end) const;
  // The first page at or after this one that is in the set, with the pages that follow it.
  [[nodiscard]] std::optional<PageRange> next(uint64_t from) const;
  // One past the last page; 0 for none.
  [[nodiscard]] uint64_t end() const;
  [[nodiscard]] const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }
  void check_invariants() const;

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first -> end; never empty, never touching
  uint64_t pages_ = 0;
};

}  // namespace cache
