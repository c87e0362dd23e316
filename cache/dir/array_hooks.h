// ArrayHooks: the hook table of readdir arrays, and the list of directories with an index of names.
//
// Ownership:      PageCache::hook_table<ArrayHooks>() keeps the one of a cache.
// Thread-safety:  all members from any thread.
// Locks:          free_page takes LockRank::kPool only; the list's is a leaf.
// Bound:          all indexes of names together take at most a sixteenth of what the cache may
// hold:
//                 the oldest goes first. Under pressure all go.
#pragma once

#include <memory>
#include <vector>

#include "cache/base/mutex.h"
#include "cache/mm/page_hooks.h"

namespace cache {

class PageCache;

// Who keeps an index of names beside its pages.
class IndexOwner {
 public:
  virtual void drop_index() = 0;  // any thread; takes leaf locks only

 protected:
  ~IndexOwner() = default;
};

class ArrayHooks final : public PageHooks {
 public:
  explicit ArrayHooks(PageCache& cache) : cache_(cache) {}
  // Releases the names and attributes of an array, sealed or not.
  void free_page(std::byte* content) noexcept override;
  void shrink() noexcept override;

  // That one has an index now.
  void note_index(std::weak_ptr<IndexOwner> owner) EXCLUDES(mutex_);

 private:
  std::shared_ptr<IndexOwner> take_oldest() EXCLUDES(mutex_);

  PageCache& cache_;
  Mutex mutex_{LockRank::kLeaf};
  std::vector<std::weak_ptr<IndexOwner>> indexed_ GUARDED_BY(mutex_);  // the oldest first
};

}  // namespace cache
