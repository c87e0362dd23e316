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
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

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
  [[nodiscard]] size_t size();

 private:
  struct Entry {
    std::string path;
    Known known;
  };
  using List = std::list<Entry>;

  const size_t capacity_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  List entries_ GUARDED_BY(mutex_);  // the last used first
  std::unordered_map<std::string_view, List::iterator> index_ GUARDED_BY(mutex_);  // into entries_
};

}  // namespace fusefs::nfs
