// Attributes and change tokens, as NFS servers tell them.
//
// Purpose:        turns what a server says of an object into cache::Attr, and decides whether its
//                 change token can be believed.
// The token:      a hash of the file id and the change attribute (v4) or ctime, mtime and size.
//                 Servers stamp in steps: two changes within one tick can leave all of them equal,
//                 so an object that may have changed within the last step gets a token that never
//                 comes again, and is looked at once more later.
// Own changes:    a server tells a directory's state before and after each (wcc_data,
// change_info4).
//                 The state after it is young by nature, and so gets a token that never comes
//                 again; it is remembered, so that the next change that begins with that state
//                 continues from that token: a chain of own changes is proven, and what another
//                 client did within the same tick is found when the token is next looked at.
// The server's now: nobody tells it. Change times can't be set by anybody, so the server's clock is
//                 at least the latest one that was seen, plus what has passed here since: a lower
//                 bound that no wrong clock can spoil. An object that by this machine's clock
//                 changed more than kOldByOurClock ago counts as settled, too.
// Thread-safety:  all members from any thread.
// Source:         the trouble with stamps is that of racy git
//                 (Documentation/technical/racy-git.txt).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "cache/dir/attr.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/nfs/xdr_reader.h"

struct fattr3;

namespace fusefs::nfs {

// Nanoseconds since 1970.
using WallTime = int64_t;
WallTime wall_time(const cache::Timespec& time);
WallTime wall_now();

class ChangeTokens {
 public:
  static constexpr WallTime kStep = 1'000'000'000;
  static constexpr WallTime kWholeSecondStep = 2'050'000'000;  // ctime without nanoseconds
  static constexpr WallTime kOldByOurClock = 60'000'000'000;

  ChangeTokens();

  // The token of an object as a server described it. `change` is v4's attribute, 0 for v3; `asked`
  // and `wall` are the times, by our clocks, at which the question was sent.
  uint64_t token(const cache::Attr& attr, uint64_t change, cache::TimePoint asked, WallTime wall);

  // That of a directory's listing. While the state is the one that our last change led to it is
  // that change's, so that the next one is known to lead on from what was listed. (Whoever asks for
  // the attributes alone is told one that never comes again: that is when another's change is
  // noticed.)
  uint64_t listing_token(const cache::Attr& attr, uint64_t change, cache::TimePoint asked,
                         WallTime wall);

  // Whether a change made after the question was answered shows. Pure but for what was learned.
  [[nodiscard]] bool settled(const cache::Timespec& ctime, cache::TimePoint asked,
                             WallTime wall) const;

  uint64_t unique();

  // What became of a directory that had the state `before` and has the state `after`, each told by
  // its `ino` and either `change` (v4) or times and size (v3).
  struct State {
    cache::Attr attr;
    uint64_t change = 0;
  };
  DirChange changed(const State& before, const State& after);
  // We have just made it, and its token is attr.change: changes of ours lead on from that.
  void note_made(const State& made);

 private:
  static constexpr size_t kMaxChains = 1024;  // directories; the one longest unchanged is dropped

  static uint64_t stamp(const cache::Attr& attr, uint64_t change);
  void end_chain(uint64_t stamp);
  void begin_chain(uint64_t stamp, uint64_t token) REQUIRES(chains_mutex_);

  [[nodiscard]] WallTime server_now_at_least(cache::TimePoint when) const;
  void learn(const cache::Timespec& ctime);

  const uint64_t seed_;
  std::atomic<uint64_t> count_{0};
  // Server's clock less ours (steady), at least. Only ever grows. Relaxed: nothing else is ordered
  // by it, and an older bound is only weaker.
  std::atomic<WallTime> lead_;

  cache::Mutex chains_mutex_{cache::LockRank::kLeaf};
  std::unordered_map<uint64_t, uint64_t> chains_ GUARDED_BY(chains_mutex_);  // stamp -> token
  std::deque<uint64_t> chain_ages_ GUARDED_BY(chains_mutex_);  // stamps, the oldest first
  // Relaxed: who sees 0 too late only ends a chain too late.
  std::atomic<size_t> chain_count_{0};
};

// v3's attributes; an object of an unknown type, or with times that are none, gets mode 0 (cached
// listings then leave its attributes out). `change` is not set.
cache::Attr to_attr(const fattr3& wire);
// The same from the wire; what is missing is zero.
cache::Attr read_attr3(XdrReader& in);

// DT_* of a mode.
uint8_t dirent_type(uint32_t mode);

}  // namespace fusefs::nfs
