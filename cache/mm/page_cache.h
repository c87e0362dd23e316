// PageCache: pages of many address spaces under one memory budget.
#pragma once

#include <cstdint>

#include "cache/stats.h"

namespace cache {

struct PageCacheOptions {
  uint64_t limit_bytes = uint64_t{256} << 20;  // hard bound on everything the cache holds
  uint64_t min_bytes = uint64_t{16} << 20;     // what pressure from outside leaves
};

class PageCache {
 public:
  explicit PageCache(const PageCacheOptions& options);
  ~PageCache();
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;

  Stats& stats();
  // The bound, what is committed under it now, and the most there ever was. Bytes.
  uint64_t limit_bytes() const;
  uint64_t bytes() const;
  uint64_t peak_bytes() const;
  // Pages that somebody but the cache holds. Walks all descriptors: for statistics.
  uint64_t pinned_pages() const;

  // Removes every clean page that nobody holds; returns how many.
  uint64_t drop_clean();
  // Under pressure from outside: reclaims until at most max(bytes, min_bytes) are held and keeps
  // that as the bound until it is raised again (up to limit_bytes).
  void set_pressure_bound(uint64_t bytes);
};

}  // namespace cache
