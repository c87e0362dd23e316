// PageTestPeer: sets up descriptors by hand, for tests of what works on descriptors alone.
#pragma once

#include "cache/mm/page.h"

namespace cache {

struct PageTestPeer {
  static void set_state(Page& page, uint64_t state) { page.state_.store(state); }
  // In the order of AddressSpace::grab: the key, then the mapping.
  static void set_identity(Page& page, AddressSpace* mapping, uint64_t key) {
    page.key_.store(key, std::memory_order_relaxed);
    page.mapping_.store(mapping, std::memory_order_release);
  }
};

}  // namespace cache
