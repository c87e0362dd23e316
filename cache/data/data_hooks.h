// Data pages: their hook table and their address space.
#pragma once

#include <atomic>
#include <cstdint>

#include "cache/mm/address_space.h"
#include "cache/mm/page_hooks.h"

namespace cache {

class FileCore;

constexpr uint64_t kDataPage = 4096;

// The pages of one file, by their number in it.
class DataSpace final : public AddressSpace {
 public:
  DataSpace(PageCache& cache, PageHooks& hooks, FileCore& core)
      : AddressSpace(cache, hooks), core_(core) {}
  [[nodiscard]] FileCore& core() const { return core_; }

 private:
  FileCore& core_;
};

class DataHooks final : public PageHooks {
 public:
  explicit DataHooks(PageCache& cache) : cache_(cache) {}

  // Counts the page as dirty and queues it for write-back. It may not fail: room for dirty data is
  // reserved before a page is locked, where waiting is allowed. Takes kFile and kWriteBack.
  Status page_mkwrite(AddressSpace& mapping, Page& page) override;
  // Pages with private state are written but not committed: their content may be needed once more.
  // Refused, and noted: the write-back thread asks for commits then.
  bool release_page(Page& page) override;
  void free_page(std::byte* content) noexcept override;

  // Whether reclaim was refused since this was last called.
  bool take_refused() { return refused_.exchange(false, std::memory_order_relaxed); }

 private:
  PageCache& cache_;
  std::atomic<bool> refused_{false};
};

}  // namespace cache
