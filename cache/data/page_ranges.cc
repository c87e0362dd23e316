#include "cache/data/page_ranges.h"

#include <algorithm>
#include <iterator>

#include "cache/base/check.h"

namespace cache {

uint64_t PageRanges::insert(uint64_t first, uint64_t end) {
  if (first >= end) return 0;
  const uint64_t before = pages_;
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin() && std::prev(it)->second >= first) {
    --it;
    if (it->second >= end) return 0;
    first = it->first;
  }
  while (it != ranges_.end() && it->first <= end) {
    end = std::max(end, it->second);
    pages_ -= it->second - it->first;
    it = ranges_.erase(it);
  }
  ranges_.emplace_hint(it, first, end);
  pages_ += end - first;
  return pages_ - before;
}

uint64_t PageRanges::erase(uint64_t first, uint64_t end) {
  if (first >= end) return 0;
  const uint64_t before = pages_;
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin() && std::prev(it)->second > first) --it;
  while (it != ranges_.end() && it->first < end) {
    const PageRange whole{it->first, it->second};
    pages_ -= whole.size();
    it = ranges_.erase(it);
    if (whole.first < first) {
      ranges_.emplace_hint(it, whole.first, first);
      pages_ += first - whole.first;
    }
    if (whole.end > end) {
      it = ranges_.emplace_hint(it, end, whole.end);
      pages_ += whole.end - end;
    }
  }
  return before - pages_;
}

uint64_t PageRanges::clear() {
  const uint64_t before = pages_;
  ranges_.clear();
  pages_ = 0;
  return before;
}

bool PageRanges::contains(uint64_t page) const { return overlaps(page, page + 1); }

bool PageRanges::overlaps(uint64_t first, uint64_t end) const {
  const std::optional<PageRange> found = next(first);
  return found.has_value() && found->first < end;
}

std::optional<PageRange> PageRanges::next(uint64_t from) const {
  auto it = ranges_.upper_bound(from);
  if (it != ranges_.begin() && std::prev(it)->second > from) --it;
  if (it == ranges_.end()) return std::nullopt;
  return PageRange{std::max(it->first, from), it->second};
}

uint64_t PageRanges::end() const { return ranges_.empty() ? 0 : ranges_.rbegin()->second; }

void PageRanges::check_invariants() const {
  uint64_t pages = 0;
  bool begun = false;
  uint64_t last_end = 0;
  for (const auto& [first, range_end] : ranges_) {
    CACHE_CHECK(first < range_end);
    CACHE_CHECK(!begun || first > last_end);
    pages += range_end - first;
    last_end = range_end;
    begun = true;
  }
  CACHE_CHECK(pages == pages_);
}

}  // namespace cache
