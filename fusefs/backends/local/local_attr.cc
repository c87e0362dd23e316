#include "fusefs/backends/local/local_attr.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <atomic>

#include "cache/base/hash.h"

namespace fusefs::local {
namespace {

using cache::Attr;
using cache::Result;
using cache::Status;
using cache::Timespec;

constexpr unsigned kStatMask = STATX_BASIC_STATS;

uint64_t random_seed() {
  uint64_t seed = 0;
  if (::getrandom(&seed, sizeof(seed), 0) != static_cast<ssize_t>(sizeof(seed))) {
    const Timespec now = now_realtime();
    seed = cache::mix64(static_cast<uint64_t>(now.seconds) << 30 ^ now.nanoseconds) ^
           static_cast<uint64_t>(::getpid());
  }
  return seed;
}

Timespec to_timespec(const statx_timestamp& time) { return {time.tv_sec, time.tv_nsec}; }

uint64_t not_zero(uint64_t token) { return token == 0 ? 1 : token; }

}  // namespace

Timespec now_realtime() {
  struct timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return {now.tv_sec, static_cast<uint32_t>(now.tv_nsec)};
}

bool may_change_unseen(const Timespec& ctime, const Timespec& now) {
  constexpr int64_t kFar = 10;  // seconds; keeps the product below inside 64 bits
  const int64_t window = ctime.nanoseconds == 0 ? kWholeSecondNanoseconds : kTickNanoseconds;
  if (ctime.seconds < now.seconds - kFar || ctime.seconds > now.seconds + kFar) return false;
  const int64_t apart = (now.seconds - ctime.seconds) * 1'000'000'000 +
                        (int64_t{now.nanoseconds} - int64_t{ctime.nanoseconds});
  return apart < window && apart > -window;
}

uint64_t unique_token() {
  static const uint64_t seed = random_seed();
  // Relaxed: only that every caller gets another number matters.
  static std::atomic<uint64_t> count{0};
  return not_zero(cache::mix64(seed + count.fetch_add(1, std::memory_order_relaxed)));
}

uint64_t change_token(const Attr& attr, uint64_t device, const Timespec& now) {
  if (may_change_unseen(attr.ctime, now)) return unique_token();
  uint64_t token = cache::mix64(attr.ino) ^ device;
  for (const uint64_t part :
       {static_cast<uint64_t>(attr.ctime.seconds), uint64_t{attr.ctime.nanoseconds},
        static_cast<uint64_t>(attr.mtime.seconds), uint64_t{attr.mtime.nanoseconds}, attr.size}) {
    token = cache::mix64(token + 0x9e3779b97f4a7c15ULL) ^ part;
  }
  return not_zero(cache::mix64(token));
}

Attr to_attr(const struct ::statx& answer, const Timespec& now) {
  Attr attr;
  attr.ino = answer.stx_ino;
  attr.mode = answer.stx_mode;
  attr.nlink = answer.stx_nlink;
  attr.uid = answer.stx_uid;
  attr.gid = answer.stx_gid;
  attr.rdev = makedev(answer.stx_rdev_major, answer.stx_rdev_minor);
  attr.size = answer.stx_size;
  attr.blocks = answer.stx_blocks;
  attr.atime = to_timespec(answer.stx_atime);
  attr.mtime = to_timespec(answer.stx_mtime);
  attr.ctime = to_timespec(answer.stx_ctime);
  attr.change = change_token(attr, makedev(answer.stx_dev_major, answer.stx_dev_minor), now);
  return attr;
}

Result<Attr> stat_fd(int fd) {
  const Timespec now = now_realtime();
  struct ::statx answer = {};
  if (::statx(fd, "", AT_EMPTY_PATH, kStatMask, &answer) != 0) return Status::error(errno);
  return to_attr(answer, now);
}

Result<Attr> stat_at(int directory, const char* name, const Timespec& now) {
  struct ::statx answer = {};
  constexpr int kFlags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  if (::statx(directory, name, kFlags, kStatMask, &answer) != 0) return Status::error(errno);
  return to_attr(answer, now);
}

}  // namespace fusefs::local
