// HandleCache: the file handles of the objects that were met last.
//
// Purpose:        the daemon names objects by their path (nfs_backend.h), a server by handles. A
//                 path that is not here costs a LOOKUP a part.
// What may be wrong: a name that was given to another object since. A handle comes with the number
//                 of its object, which whoever asks for it knows, too.
// Bounds:         `capacity` handles, the one longest unused dropped first: about 250 bytes each.
// Thread-safety:  all members from any thread.
// Locks:          a leaf.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/backends/nfs/nfs_protocol.h"

namespace fusefs::nfs {

class HandleCache {
 public:
  struct Known {
    uint64_t ino = 0;
    Handle handle;
  };

  explicit HandleCache(size_t capacity) : capacity_(capacity) {}

  std::optional<Known> find(std::string_view path);
  void put(std::string_view path, uint64_t ino, const Handle& handle);
  // Forgets that path and all paths that lead to it.
  void forget_way(std::string_view path);
  // Forgets that path and all below it: the object was removed, or another one has its name.
  void forget_tree(std::string_view path);
  // What was at `from`, and below it, is at `to` now.
  void move_tree(std::string_view from, std::string_view to);
  [[nodiscard]] size_t size();

 private:
  struct Entry {
    std::string path;
    Known known;
  };
  using List = std::list<Entry>;
  using Index = std::map<std::string_view, List::iterator>;  // sorted: a tree's paths lie together

  void erase_locked(Index::iterator found) REQUIRES(mutex_);
  std::vector<List::iterator> tree_locked(std::string_view path) REQUIRES(mutex_);

  const size_t capacity_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  List entries_ GUARDED_BY(mutex_);  // the last used first
  Index index_ GUARDED_BY(mutex_);   // into entries_
};

}  // namespace fusefs::nfs
