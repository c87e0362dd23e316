// DirCore: what is held of a listing, for people and their tools.
#include <algorithm>

#include "cache/dir/dir_core.h"

namespace cache {

DirectoryInfo DirCore::info() const {
  MutexLock lock(mutex_);
  DirectoryInfo info;
  info.arrays = pages_->page_count();
  info.anchors = anchors_.size();
  info.change = change_;
  info.invalidations = invalidations_;
  info.fills = static_cast<uint32_t>(fill_owners_.size());
  info.attrs_refused = attrs_refused_;
  info.hits = hits_.load(std::memory_order_relaxed);
  info.misses = misses_;
  info.requests = requests_;
  info.waited = waited_;
  info.forgotten = forgotten_;
  info.forgotten_at = forgotten_at_;
  info.own_changes = own_changes_;
  info.own_searched = own_searched_;
  return info;
}

DirectoryContent DirCore::content() const {
  DirectoryContent content;
  uint64_t places = 0;
  uint64_t end = 0;
  bool has_end = false;
  int64_t listing = TimePoint::max().time_since_epoch().count();
  int64_t attrs = listing;
  pages_->for_each([&](const Page& page) {
    if (!page.uptodate()) return true;
    const ArrayView view = ArrayView::of(page.content());
    const ArrayHeader& header = view.header();
    content.entries += view.count() - view.removed_count();
    places += view.count();
    content.bytes += kPageBytes + header.names_bytes;
    listing = std::min(listing, header.filled);
    if (view.has_attrs()) {
      content.bytes += view.count() * sizeof(PackedAttr);
      ++content.arrays_with_attrs;
      attrs = std::min(attrs, header.filled);
    }
    if ((header.flags & kArrayEof) != 0) {
      has_end = true;
      end = uint64_t{header.position} + view.count();
    }
    return true;
  });
  // Positions count from the beginning, so nothing is missing when as many are held.
  content.complete = has_end && places == end;
  content.oldest_listing = TimePoint(Duration(listing));
  content.oldest_attrs = TimePoint(Duration(attrs));
  return content;
}

DirectoryMap DirCore::map(uint32_t most_cells) const {
  DirectoryMap map;
  {
    MutexLock lock(mutex_);
    // The last array known holds one entry at least.
    const uint32_t last = anchors_.last_position();
    map.entries = last > 0 ? uint64_t{last} + 1 : 0;
  }
  struct Span {
    uint64_t from, to;
  };
  std::vector<Span> held;
  pages_->for_each([&](const Page& page) {
    if (!page.uptodate()) return true;
    const ArrayView view = ArrayView::of(page.content());
    const uint64_t from = view.header().position;
    held.push_back({from, from + view.count()});
    map.entries = std::max(map.entries, held.back().to);
    map.end_known |= (view.header().flags & kArrayEof) != 0;
    return true;
  });
  const uint64_t cells = std::min<uint64_t>(most_cells, map.entries);
  std::vector<uint64_t> counts(cells);
  for (const Span& span : held) {
    for (uint64_t at = span.from; at < span.to;) {
      const uint64_t cell = at * cells / map.entries;
      const uint64_t next = ((cell + 1) * map.entries + cells - 1) / cells;  // where it ends
      const uint64_t to = std::min(span.to, next);
      counts[cell] += to - at;
      at = to;
    }
  }
  map.filled.resize(cells);
  for (uint64_t cell = 0; cell < cells; ++cell) {
    const uint64_t from = (cell * map.entries + cells - 1) / cells;
    const uint64_t to = ((cell + 1) * map.entries + cells - 1) / cells;
    const uint64_t percent = counts[cell] * 100 / (to - from);
    map.filled[cell] = static_cast<uint8_t>(std::min<uint64_t>(percent, 100));
  }
  return map;
}

}  // namespace cache
