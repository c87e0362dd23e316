// OwnNames: names that were added to a directory through this cache, until its listing has them.
//
// Purpose:        a name that we have made has no cookie yet, so no array can take it. Here it is
//                 found at once; a listing that begins later is fetched again because of it.
// Ownership:      owns its entries; charged to the cache's budget, and counted with the indexes of
//                 names, whose share of it they have in common.
// Thread-safety:  all members from any thread.
// Locks:          a leaf around the entries; charges and uncharges outside it (LockRank::kPool).
// Errors:         without room, or told to drop(), it loses everything, and says so until clear().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "cache/base/clock.h"
#include "cache/base/hash.h"
#include "cache/base/mutex.h"
#include "cache/dir/attr.h"

namespace cache {

class PageCache;

class OwnNames {
 public:
  struct Entry {
    uint64_t ino = 0;
    std::optional<PackedAttr> attr;
    TimePoint asked;      // when the remote was asked for them
    uint64_t number = 0;  // of the change that added it; they rise
    uint8_t type = 0;     // DT_*
  };
  // The owner is to note itself with the hooks (ArrayHooks::note_names) so often.
  static constexpr uint64_t kNoteBytes = 4096;

  explicit OwnNames(PageCache& cache) : cache_(cache) {}
  ~OwnNames() { clear(); }
  OwnNames(const OwnNames&) = delete;
  OwnNames& operator=(const OwnNames&) = delete;

  // In the place of an entry of that name. True: so much has been added that it is to be noted.
  bool put(std::string_view name, const Entry& entry) EXCLUDES(mutex_);
  void erase(std::string_view name) EXCLUDES(mutex_);
  [[nodiscard]] std::optional<Entry> find(std::string_view name) const EXCLUDES(mutex_);
  // Something is here, or was lost. Costs no lock.
  [[nodiscard]] bool any() const { return any_.load(std::memory_order_acquire); }
  [[nodiscard]] bool lost() const { return lost_.load(std::memory_order_acquire); }
  [[nodiscard]] uint64_t size() const EXCLUDES(mutex_);

  void drop() EXCLUDES(mutex_);   // to save memory: loses what is here
  void clear() EXCLUDES(mutex_);  // the listing is forgotten

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return hash_bytes(name); }
  };
  using Map = std::unordered_map<std::string, Entry, Hash, std::equal_to<>>;
  static uint64_t cost(std::string_view name);
  void lose() EXCLUDES(mutex_);
  void release(Map&& entries);

  PageCache& cache_;
  mutable Mutex mutex_{LockRank::kLeaf};
  Map entries_ GUARDED_BY(mutex_);
  uint64_t unnoted_ GUARDED_BY(mutex_) = kNoteBytes;  // bytes put since the last note
  std::atomic<bool> any_{false};   // changed under the mutex; acquire and release order the rest
  std::atomic<bool> lost_{false};  // likewise
};

}  // namespace cache
