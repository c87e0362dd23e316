// ArrayRig: a cache with pages to build readdir arrays on, and a plain model of an array.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cache/dir/array_builder.h"
#include "cache/dir/array_hooks.h"
#include "cache/dir/readdir_array.h"
#include "cache/mm/address_space.h"
#include "cache/mm/page_cache.h"

namespace test {

struct ArrayRig {
  explicit ArrayRig(uint64_t limit_bytes = uint64_t{2} << 20)
      : pages({.limit_bytes = limit_bytes,
               .min_bytes = 0,
               .background = cache::PageCacheOptions::Background::kNone}),
        mapping(pages, pages.hook_table<cache::ArrayHooks>()) {}

  // A page as a fill has it: pinned, locked, not yet an array.
  cache::PageRef new_page() {
    auto page = mapping.new_private_page();
    return page.ok() ? std::move(page).value() : cache::PageRef();
  }
  bool all_zero() {
    cache::Stats& stats = pages.stats();
    return stats.names_bytes.get() == 0 && stats.attrs_bytes.get() == 0 &&
           stats.entries_resident.get() == 0 && stats.pages_private.get() == 0 &&
           stats.anchors.get() == 0;
  }

  cache::PageCache pages;
  cache::AddressSpace mapping;
};

struct ModelEntry {
  uint64_t cookie = 0;
  uint64_t ino = 0;
  uint8_t type = 0;
  std::string name;
  bool operator==(const ModelEntry&) const = default;
};

inline std::vector<ModelEntry> entries_of(const cache::ArrayView& view) {
  std::vector<ModelEntry> entries;
  for (uint32_t i = 0; i < view.count(); ++i) {
    entries.push_back({view.cookie(i), view.ino(i), view.type(i), std::string(view.name(i))});
  }
  return entries;
}

// What find_cookie promises, the slow way.
inline uint32_t first_with_cookie(const std::vector<ModelEntry>& entries, uint64_t cookie) {
  uint32_t i = 0;
  while (i < entries.size() && entries[i].cookie != cookie) ++i;
  return i;
}

}  // namespace test
