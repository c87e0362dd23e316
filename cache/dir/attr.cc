#include "cache/dir/attr.h"

#include <sys/stat.h>

#include <algorithm>

namespace cache {
namespace {

constexpr int64_t kEpochShift = int64_t{1} << 31;  // packed 0 is 1901-12-13
constexpr int64_t kMaxPackedSeconds = (int64_t{1} << 34) - 1;

uint64_t pack_time(const Timespec& time) {
  const int64_t shifted = std::clamp(time.seconds, -kEpochShift, kMaxPackedSeconds - kEpochShift);
  const uint64_t seconds = static_cast<uint64_t>(shifted + kEpochShift);
  return seconds << 30 | std::min<uint32_t>(time.nanoseconds, 999'999'999);
}

Timespec unpack_time(uint64_t packed) {
  return {.seconds = static_cast<int64_t>(packed >> 30) - kEpochShift,
          .nanoseconds = static_cast<uint32_t>(packed & ((1u << 30) - 1))};
}

bool is_device(uint32_t mode) { return S_ISBLK(mode) || S_ISCHR(mode); }

}  // namespace

PackedAttr pack_attr(const Attr& attr) {
  return {.size = attr.size,
          .blocks = is_device(attr.mode) ? attr.rdev : attr.blocks,
          .atime = pack_time(attr.atime),
          .mtime = pack_time(attr.mtime),
          .ctime = pack_time(attr.ctime),
          .change = attr.change,
          .mode = attr.mode,
          .nlink = attr.nlink,
          .uid = attr.uid,
          .gid = attr.gid};
}

Attr unpack_attr(const PackedAttr& packed, uint64_t ino) {
  Attr attr;
  attr.ino = ino;
  attr.mode = packed.mode;
  attr.nlink = packed.nlink;
  attr.uid = packed.uid;
  attr.gid = packed.gid;
  attr.size = packed.size;
  (is_device(packed.mode) ? attr.rdev : attr.blocks) = packed.blocks;
  attr.atime = unpack_time(packed.atime);
  attr.mtime = unpack_time(packed.mtime);
  attr.ctime = unpack_time(packed.ctime);
  attr.change = packed.change;
  return attr;
}

}  // namespace cache
