// DirFdCache: a few open directory descriptors, each standing where an answer ended.
//
// Purpose:        the request that continues a listing needs no seek, which costs a walk from the
//                 beginning on some filesystems and a rebuilt block on others.
// When it is right: a descriptor may carry a snapshot (overlay, btrfs), so one is handed out only
//                 while the directory's change token is what it was when the descriptor was
//                 opened: it then can't differ from a fresh one. The token contains the device
//                 and inode number, so another directory that took the path over never matches;
//                 a directory that changed just now has a token that matches nothing.
// Ownership:      owns the descriptors it keeps; take() hands one over.
// Bounds:         `capacity` descriptors, the least recently kept closed first, and none older
//                 than kMaxAge at any call: a descriptor keeps a filesystem busy and a removed
//                 directory's blocks occupied.
// Thread-safety:  all members may be called from any thread. Closing happens outside the lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "fusefs/backends/local/unique_fd.h"

namespace fusefs::local {

class DirFdCache {
 public:
  static constexpr std::chrono::seconds kMaxAge{10};

  struct Place {
    std::string directory;
    uint64_t cookie = 0;
    uint64_t token = 0;  // the directory's when the descriptor was opened
    bool operator==(const Place&) const = default;
  };

  explicit DirFdCache(size_t capacity) : capacity_(capacity) {}

  // The descriptor that stands there, or an invalid one.
  UniqueFd take(const Place& place);
  void keep(Place place, UniqueFd fd);
  // Closes all: file descriptors have run out.
  void clear();

  [[nodiscard]] size_t size() const;

 private:
  struct Kept {
    Place place;
    UniqueFd fd;
    cache::TimePoint since;
  };
  using List = std::list<Kept>;

  // Moves what is too old to `expired`. The list is in the order of keeping.
  void expire_locked(List* expired) REQUIRES(mutex_);

  const size_t capacity_;
  const cache::RealClock clock_{};
  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  // Newest first. A linear search: the capacity is small, and an answer costs far more.
  List kept_ GUARDED_BY(mutex_);
};

}  // namespace fusefs::local
