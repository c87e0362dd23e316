// TreeAhead: the listings that a walk through the tree will want next, fetched before it comes.
//
// Purpose:        a program that lists directory after directory (find, du, rsync, a training job)
//                 waits a round trip or more in each. When directories are opened in an order that
//                 can be told ahead, those that follow are fetched side by side before it comes:
//                 depth first, as far as listings at hand tell, by as many as AheadWindow says.
// Orders:         as the parents list them, or by name, as ls, rsync and all that sort take them.
//                 What is held already is passed over, at no cost: a warm walk is as it was.
// What counts:    a directory that follows one of the last few opened, or is the first one in one
//                 of them: several workers that share a tree are as good as one. Opening one here
//                 and one there fetches nothing.
// Ownership:      of the session. Keeps a pin on the inode and an opening of the listing of each
//                 directory that it fetched, until the walk comes to it, or kLife has passed.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kLeaf, never across a call to anything else.
// Errors:         none: what could not be fetched is fetched by who opens it, and fails there.
// Bounds:         the window; a share of the cache, by what a small listing takes there.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "cache/dir/directory.h"
#include "fusefs/ahead_window.h"
#include "fusefs/dir_state.h"
#include "fusefs/inode_table.h"

namespace fusefs {

class SessionImpl;

class TreeAhead {
 public:
  static constexpr cache::Duration kLife = std::chrono::seconds(10);
  static constexpr uint64_t kBytesEach = uint64_t{32} << 10;  // of the cache, for a small listing
  static constexpr uint64_t kShares = 4;                      // a share of the cache for all
  static constexpr size_t kRecent = 8;         // directories opened last that a walk may go on from
  static constexpr size_t kNear = 3;           // so far behind them: workers overtake one another
  static constexpr size_t kMostSorted = 4096;  // of one parent; larger ones in their order only
  static constexpr uint32_t kDeepest = 64;     // levels up, and down

  // `most`: directories, 0 for none ever.
  TreeAhead(SessionImpl& session, uint32_t most);
  ~TreeAhead();  // waits for completions that are inside, not for the remote
  TreeAhead(const TreeAhead&) = delete;
  TreeAhead& operator=(const TreeAhead&) = delete;

  // A listing of this directory begins, from its start.
  void pass_begins(const Inode& directory, const DirState& dir, const CallerPtr& caller);
  // Lets go of what nobody came for in time. To be called now and then.
  void drop_old();
  [[nodiscard]] WalkFigures figures();

 private:
  // A directory that is fetched, and not yet opened by anybody else.
  struct Ahead {
    Ahead(InodeRef inode_in, std::shared_ptr<DirState> dir_in, cache::TimePoint since_in)
        : inode(std::move(inode_in)), dir(std::move(dir_in)), since(since_in) {
      dir->directory().opened();
    }
    ~Ahead() { dir->directory().closed(); }
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

    const InodeRef inode;
    const std::shared_ptr<DirState> dir;
    const cache::TimePoint since;
    std::atomic<bool> begun{false};  // its listing was asked for
  };
  using AheadPtr = std::shared_ptr<Ahead>;  // by the completion of its token's request, too
  class Gate;
  struct Opened {
    uint64_t nodeid = 0;
    uint64_t parent = 0;
    uint64_t ino = 0;
  };
  struct Prediction;

  enum class Order : uint8_t { kListed, kByName };
  using Siblings = std::vector<cache::Subdirectory>;

  [[nodiscard]] bool follows(const Inode& directory);
  [[nodiscard]] static bool near(const Inode& directory, const std::vector<Opened>& recent,
                                 DirState& listing, Order order);
  [[nodiscard]] static Siblings following(DirState& listing, uint64_t after_ino, size_t most,
                                          Order order);
  void fetch(const Inode& from, const CallerPtr& caller, uint32_t count);
  void predict(Prediction& prediction, const Inode& from);
  void predict_within(Prediction& prediction, const Inode& parent, uint64_t after_ino,
                      uint32_t depth);
  void fetch_one(Prediction& prediction, InodeRef child, const cache::Subdirectory& told);
  void ask_token(const AheadPtr& ahead, const CallerPtr& caller);
  void begin(Ahead& ahead, const TimedAttr& attr);
  [[nodiscard]] bool take(const Inode& directory);
  void add(const AheadPtr& ahead);

  SessionImpl& session_;
  const uint32_t most_;
  const std::shared_ptr<Gate> gate_;
  std::atomic<Order> order_{Order::kListed};  // in which the present walk was recognised
  std::atomic<bool> predicting_{false};  // one thread at a time; the others need not wait for it
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  AheadWindow window_ GUARDED_BY(mutex_);
  std::deque<AheadPtr> ahead_ GUARDED_BY(mutex_);  // oldest first
  std::array<Opened, kRecent> recent_ GUARDED_BY(mutex_){};
  uint64_t opened_ GUARDED_BY(mutex_) = 0;
  uint32_t pause_ GUARDED_BY(mutex_) = 0;  // openings to pass by: there was nothing to fetch
  WalkFigures figures_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
