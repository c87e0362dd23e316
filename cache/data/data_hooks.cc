#include "cache/data/data_hooks.h"

#include "cache/data/file_core.h"

namespace cache {

Status DataHooks::page_mkwrite(AddressSpace& mapping, Page& page) {
  return static_cast<DataSpace&>(mapping).core().mkwrite(page);
}

bool DataHooks::release_page(Page& /*page*/) {
  refused_.store(true, std::memory_order_relaxed);
  return false;
}

void DataHooks::free_page(std::byte* /*content*/) noexcept { cache_.stats().data_pages.sub(1); }

}  // namespace cache
