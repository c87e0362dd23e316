// ArrayHooks: the hook table of readdir arrays, and the list of directories that keep an index of
// names, or names of their own adding.
//
// Ownership:      PageCache::hook_table<ArrayHooks>() keeps the one of a cache.
// Thread-safety:  all members from any thread.
// Locks:          free_page takes LockRank::kPool only; the list's is a leaf.
// Bound:          all of these together take at most a sixteenth of what the cache may hold: the
//                 oldest goes first. Under pressure all go.
#pragma once

#include <list>
#include <memory>
#include <unordered_map>

#include "cache/base/mutex.h"
#include "cache/mm/page_hooks.h"

namespace cache {

class PageCache;

// Who keeps names beside its pages.
class IndexOwner {
 public:
  virtual void drop_names() = 0;  // any thread; takes kPool and higher

 protected:
  ~IndexOwner() = default;
};

class ArrayHooks final : public PageHooks {
 public:
  explicit ArrayHooks(PageCache& cache) : cache_(cache) {}
  // Releases the names and attributes of an array, sealed or not.
  void free_page(std::byte* content) noexcept override;
  void shrink() noexcept override;

  // That one has some now, or more; that it has none. Any number of owners costs the same.
  void note_names(const std::shared_ptr<IndexOwner>& owner) EXCLUDES(mutex_);
  void forget_owner(const IndexOwner& owner) EXCLUDES(mutex_);

 private:
  struct Noted {
    const IndexOwner* key;
    std::weak_ptr<IndexOwner> owner;
  };
  std::shared_ptr<IndexOwner> take_oldest() EXCLUDES(mutex_);
  void forget_locked(const IndexOwner* owner) REQUIRES(mutex_);

  PageCache& cache_;
  Mutex mutex_{LockRank::kLeaf};
  std::list<Noted> noted_ GUARDED_BY(mutex_);  // the oldest first
  std::unordered_map<const IndexOwner*, std::list<Noted>::iterator> places_ GUARDED_BY(mutex_);
};

}  // namespace cache
