#include "fusefs/backends/nfs/nfs_attr.h"

#include <nfsc/libnfs-zdr.h>
// The above first: the next needs its types.
#include <nfsc/libnfs-raw-nfs.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "cache/base/hash.h"
#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/wire_enum.h"

namespace fusefs::nfs {
namespace {

using cache::Attr;
using cache::TimePoint;
using cache::Timespec;

uint64_t random_seed() {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != static_cast<ssize_t>(sizeof seed)) {
    seed = cache::mix64(static_cast<uint64_t>(wall_now())) ^ static_cast<uint64_t>(getpid());
  }
  return seed;
}

uint64_t not_zero(uint64_t token) { return token == 0 ? 1 : token; }

WallTime steady_nanoseconds(TimePoint when) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
}

uint32_t type_bits3(uint32_t type) {
  switch (type) {
    case NF3REG:
      return S_IFREG;
    case NF3DIR:
      return S_IFDIR;
    case NF3BLK:
      return S_IFBLK;
    case NF3CHR:
      return S_IFCHR;
    case NF3LNK:
      return S_IFLNK;
    case NF3SOCK:
      return S_IFSOCK;
    case NF3FIFO:
      return S_IFIFO;
    default:
      return 0;
  }
}

Timespec to_time(const nfstime3& wire) {
  // Unsigned, as Linux takes them: they reach to 2106.
  return {static_cast<int64_t>(wire.seconds), std::min(wire.nseconds, kNanoseconds - 1)};
}

}  // namespace

WallTime wall_time(const Timespec& time) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / kNanoseconds - 1;
  return std::clamp(time.seconds, -kMost, kMost) * kNanoseconds + time.nanoseconds;
}

WallTime wall_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<int64_t>(now.tv_sec) * kNanoseconds + now.tv_nsec;
}

ChangeTokens::ChangeTokens()
    : seed_(random_seed()), lead_(std::numeric_limits<WallTime>::min() / 2) {}

uint64_t ChangeTokens::unique() {
  return not_zero(cache::mix64(seed_ + count_.fetch_add(1, std::memory_order_relaxed)));
}

WallTime ChangeTokens::server_now_at_least(TimePoint when) const {
  return lead_.load(std::memory_order_relaxed) + steady_nanoseconds(when);
}

void ChangeTokens::learn(const Timespec& ctime) {
  // The server's clock showed at least `ctime` when it answered, some time before now.
  const WallTime lead = wall_time(ctime) - steady_nanoseconds(std::chrono::steady_clock::now());
  WallTime known = lead_.load(std::memory_order_relaxed);
  while (known < lead && !lead_.compare_exchange_weak(known, lead, std::memory_order_relaxed)) {
  }
}

bool ChangeTokens::settled(const Timespec& ctime, TimePoint asked, WallTime wall) const {
  const WallTime changed = wall_time(ctime);
  if (wall - changed > kOldByOurClock) return true;
  const WallTime step = ctime.nanoseconds == 0 ? kWholeSecondStep : kStep;
  return server_now_at_least(asked) - changed >= step;
}

uint64_t ChangeTokens::token(const Attr& attr, uint64_t change, TimePoint asked, WallTime wall) {
  const bool believed = settled(attr.ctime, asked, wall);
  if (!believed) {
    learn(attr.ctime);
    return unique();
  }
  const uint64_t token = stamp(attr, change);
  // From here on the state goes by this name.
  if (S_ISDIR(attr.mode) && chain_count_.load(std::memory_order_relaxed) != 0) end_chain(token);
  return token;
}

uint64_t ChangeTokens::listing_token(const Attr& attr, uint64_t change, TimePoint asked,
                                     WallTime wall) {
  if (!settled(attr.ctime, asked, wall)) {
    cache::MutexLock lock(chains_mutex_);
    const auto chain = chains_.find(stamp(attr, change));
    if (chain != chains_.end()) return chain->second;
  }
  return token(attr, change, asked, wall);
}

uint64_t ChangeTokens::stamp(const Attr& attr, uint64_t change) {
  uint64_t token = cache::mix64(attr.ino);
  const auto add = [&token](uint64_t part) {
    token = cache::mix64(token + 0x9e3779b97f4a7c15ULL) ^ part;
  };
  add(change);
  if (change == 0) {
    for (const Timespec& time : {attr.ctime, attr.mtime}) {
      add(static_cast<uint64_t>(time.seconds));
      add(time.nanoseconds);
    }
    add(attr.size);
  }
  return not_zero(cache::mix64(token));
}

void ChangeTokens::end_chain(uint64_t stamp) {
  cache::MutexLock lock(chains_mutex_);
  chains_.erase(stamp);
  chain_count_.store(chains_.size(), std::memory_order_relaxed);
}

DirChange ChangeTokens::changed(const State& before, const State& after) {
  DirChange change{.before = stamp(before.attr, before.change), .after = unique()};
  const uint64_t next = stamp(after.attr, after.change);
  cache::MutexLock lock(chains_mutex_);
  if (const auto chain = chains_.find(change.before); chain != chains_.end()) {
    change.before = chain->second;
    chains_.erase(chain);
  }
  begin_chain(next, change.after);
  return change;
}

void ChangeTokens::note_made(const State& made) {
  const uint64_t name = stamp(made.attr, made.change);
  if (!S_ISDIR(made.attr.mode) || made.attr.change == name) return;
  cache::MutexLock lock(chains_mutex_);
  begin_chain(name, made.attr.change);
}

void ChangeTokens::begin_chain(uint64_t stamp, uint64_t token) {
  chains_[stamp] = token;
  chain_ages_.push_back(stamp);
  while (chain_ages_.size() > kMaxChains) {
    // Older than all that are worth keeping, unless the same state was told again since.
    const uint64_t oldest = chain_ages_.front();
    chain_ages_.pop_front();
    if (std::find(chain_ages_.begin(), chain_ages_.end(), oldest) == chain_ages_.end())
      chains_.erase(oldest);
  }
  chain_count_.store(chains_.size(), std::memory_order_relaxed);
}

Attr read_attr3(XdrReader& in) {
  fattr3 wire{};
  const uint32_t type = in.u32();
  std::memcpy(&wire.type, &type, sizeof type);
  wire.mode = in.u32();
  wire.nlink = in.u32();
  wire.uid = in.u32();
  wire.gid = in.u32();
  wire.size = in.u64();
  wire.used = in.u64();
  wire.rdev.specdata1 = in.u32();
  wire.rdev.specdata2 = in.u32();
  wire.fsid = in.u64();
  wire.fileid = in.u64();
  for (nfstime3* const time : {&wire.atime, &wire.mtime, &wire.ctime}) {
    time->seconds = in.u32();
    time->nseconds = in.u32();
  }
  return to_attr(wire);
}

uint8_t dirent_type(uint32_t mode) { return static_cast<uint8_t>((mode & S_IFMT) >> 12); }

Attr to_attr(const fattr3& wire) {
  Attr attr;
  const uint32_t type = type_bits3(wire_number(wire.type));
  attr.ino = wire.fileid;
  attr.mode = type == 0 ? 0 : type | (wire.mode & 07777);
  attr.nlink = wire.nlink;
  attr.uid = wire.uid;
  attr.gid = wire.gid;
  if (type == S_IFCHR || type == S_IFBLK) {
    attr.rdev = makedev(wire.rdev.specdata1, wire.rdev.specdata2);
  }
  attr.size = wire.size;
  attr.blocks = wire.used / 512 + (wire.used % 512 != 0 ? 1 : 0);
  attr.atime = to_time(wire.atime);
  attr.mtime = to_time(wire.mtime);
  attr.ctime = to_time(wire.ctime);
  return attr;
}

}  // namespace fusefs::nfs
