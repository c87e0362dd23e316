// FileLocks: who of this mount holds which locks of files, where the remote keeps them.
//
// Purpose:        each holder (a process, for fcntl's locks; an open file, for flock's) has a file
//                 of his own open at the back end, to which his locks belong; what is held here is
//                 known here, so that a lock that somebody of this mount has is waited for without
//                 asking the remote, and those who wait learn at once that it is free.
// Ownership:      owns the holders, and by them what is open; shared with calls under way.
// Thread-safety:  all members from any thread.
// Locks:          a leaf, held across no call of the back end's.
// Bounds:         kMaxWaiters wait at a time; more are refused.
// Source:         Linux fs/nfs: locks as points at which caches agree with the server; the back
//                 end's holder is an open file description (F_OFD_SETLK), or a lock_owner4.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/interrupt.h"
#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/request.h"

namespace fusefs {

class FileLocks {
 public:
  static constexpr size_t kMaxWaiters = 192;

  // Of one file. An open file may hold locks of both kinds (flock, F_OFD_SETLK).
  struct Key {
    uint64_t nodeid = 0;
    uint64_t owner = 0;
    LockKind kind = LockKind::kRange;
    auto operator<=>(const Key&) const = default;
  };

  class Holder {
   public:
    Holder(FileLocks& locks, CallerPtr opener, const Key& key)
        : locks_(locks), opener_(std::move(opener)), key_(key) {}
    ~Holder() {
      if (file_ != 0 && !locks_.closed_.load()) locks_.backend_.release(file_);
    }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    [[nodiscard]] const Key& key() const { return key_; }
    [[nodiscard]] const CallerPtr& opener() const { return opener_; }
    // 0: none yet. During one's Turn.
    [[nodiscard]] Backend::FileHandle file() const { return file_; }
    void set_file(Backend::FileHandle file) { file_ = file; }

   private:
    friend class FileLocks;
    FileLocks& locks_;
    const CallerPtr opener_;
    const Key key_;
    Backend::FileHandle file_ = 0;
    // Guarded by the lock of FileLocks.
    bool busy_ = false;    // somebody has his turn
    size_t users_ = 0;     // turns, begun or waited for
    bool ended_ = false;   // goes with the last of them
    uint64_t handle_ = 0;  // the open file that was used last to lock
    uint32_t pid_ = 0;     // who has set one last
    LockRanges ranges_;
  };
  using HolderPtr = std::shared_ptr<Holder>;

  // A holder's calls to the back end are made one after the other. He is kept meanwhile. A call
  // that was given up keeps the turn until it is answered, and what it got is given back.
  class Turn {
   public:
    Turn(FileLocks& locks, HolderPtr holder) : locks_(locks), holder_(std::move(holder)) {}
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    [[nodiscard]] const HolderPtr& holder() const { return holder_; }

   private:
    FileLocks& locks_;
    const HolderPtr holder_;
  };
  using TurnPtr = std::shared_ptr<Turn>;

  explicit FileLocks(Backend& backend) : backend_(backend) {}

  // EINTR, ETIMEDOUT: somebody else has the turn. The holder is made where there is none, for
  // whoever locks through the open file `handle`.
  Result<TurnPtr> take_turn(const Key& key, const CallerPtr& opener, uint64_t handle,
                            const Patience& patience);
  Result<TurnPtr> take_turn(HolderPtr holder, const Patience& patience);

  [[nodiscard]] HolderPtr find(const Key& key);
  // Those that hold nothing, and are about to get nothing.
  void remove_idle(uint64_t nodeid);
  // Those who used an open file last. When that is closed for good they have no locks any more:
  // processes lose theirs with any close, and other holders are such open files themselves.
  [[nodiscard]] std::vector<HolderPtr> of_handle(uint64_t nodeid, uint64_t handle);
  void remove(const HolderPtr& holder);
  // All of them, and whoever comes late is not released any more: the back end is about to go.
  void clear();

  // What another holder of this mount has that is in the way.
  [[nodiscard]] std::optional<FileLock> conflict(const Key& key, const FileLock& lock);
  void note_set(const HolderPtr& holder, const FileLock& lock);
  // What he holds of that range: one piece after the other, those of no lock as well.
  [[nodiscard]] std::vector<FileLock> held_of(const HolderPtr& holder, const FileLock& range);
  // The remote has lost them.
  void note_lost(const HolderPtr& holder);
  [[nodiscard]] bool holds_any(const HolderPtr& holder);
  [[nodiscard]] bool holds_write(const HolderPtr& holder);
  // Anybody here has locked a range of that file, and not all of it.
  [[nodiscard]] bool any_range(uint64_t nodeid);

  // Grows whenever somebody here gives up something of that file (or of some others).
  [[nodiscard]] uint64_t changes(uint64_t nodeid);
  // Until that has grown beyond `seen`, or so long. EINTR, or ENOLCK: too many wait.
  Status wait(uint64_t nodeid, uint64_t seen, cache::TimePoint until, cache::Interrupt& interrupt);

 private:
  static constexpr size_t kCounters = 64;
  uint64_t& counter(uint64_t nodeid) REQUIRES(mutex_) { return changes_[nodeid % kCounters]; }
  void note_change(uint64_t nodeid) REQUIRES(mutex_);
  void erase_ended(const HolderPtr& holder) REQUIRES(mutex_);
  [[nodiscard]] std::function<void()> waker();

  Backend& backend_;
  std::atomic<bool> closed_{false};
  std::atomic<size_t> count_{0};  // of holders; relaxed: who locks before writing has seen his own
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  std::map<Key, HolderPtr> holders_ GUARDED_BY(mutex_);
  std::array<uint64_t, kCounters> changes_ GUARDED_BY(mutex_){};
  size_t waiters_ GUARDED_BY(mutex_) = 0;
};

}  // namespace fusefs
