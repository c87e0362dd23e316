// ArrayHooks: the hook table of readdir arrays.
//
// Ownership:      PageCache::hook_table<ArrayHooks>() keeps the one of a cache.
// Thread-safety:  free_page from any thread; takes LockRank::kPool only.
#pragma once

#include "cache/mm/page_hooks.h"

namespace cache {

class PageCache;

class ArrayHooks final : public PageHooks {
 public:
  explicit ArrayHooks(PageCache& cache) : cache_(cache) {}
  // Releases the names and attributes of an array, sealed or not.
  void free_page(std::byte* content) noexcept override;

 private:
  PageCache& cache_;
};

}  // namespace cache
