#include "cache/dir/attr.h"

#include <catch2/catch.hpp>
#include <limits>

using cache::Attr;
using cache::pack_attr;
using cache::Timespec;
using cache::unpack_attr;

namespace {
Timespec round_trip(Timespec time) {
  Attr attr;
  attr.mtime = time;
  return unpack_attr(pack_attr(attr), 0).mtime;
}
constexpr int64_t kMin = -(int64_t{1} << 31);                          // 1901
constexpr int64_t kMax = (int64_t{1} << 34) - 1 - (int64_t{1} << 31);  // 2446
}  // namespace

TEST_CASE("attributes survive packing, the inode number comes from the entry") {
  Attr attr;
  attr.ino = 42;
  attr.mode = 0120777;
  attr.nlink = ~uint32_t{0};
  attr.uid = ~uint32_t{0} - 1;
  attr.gid = 12345;
  attr.size = ~uint64_t{0};
  attr.blocks = ~uint64_t{0} - 7;
  attr.atime = {1, 1};
  attr.mtime = {-1, 999'999'999};
  attr.ctime = {1'700'000'000, 123'456'789};
  attr.change = ~uint64_t{0} - 3;
  CHECK(unpack_attr(pack_attr(attr), 42) == attr);
  CHECK(unpack_attr(pack_attr(attr), 43).ino == 43);
}

TEST_CASE("devices keep their numbers, where others have blocks") {
  for (const uint32_t mode : {0060660u, 0020666u}) {
    Attr attr;
    attr.mode = mode;
    attr.rdev = ~uint64_t{0} - 5;
    CHECK(unpack_attr(pack_attr(attr), 0) == attr);
  }
}

TEST_CASE("every time that ext4 can hold survives") {
  for (const int64_t seconds : {kMin, kMin + 1, int64_t{-1}, int64_t{0}, int64_t{1},
                                (int64_t{1} << 31) - 1, int64_t{1} << 31, kMax - 1, kMax}) {
    for (const uint32_t nanoseconds : {0u, 1u, 999'999'999u}) {
      const Timespec time{seconds, nanoseconds};
      CHECK(round_trip(time) == time);
    }
  }
}

TEST_CASE("times beyond are clamped, and bad nanoseconds from a remote do no harm") {
  using Limits = std::numeric_limits<int64_t>;
  CHECK(round_trip({Limits::max(), 5}).seconds == kMax);
  CHECK(round_trip({kMax + 1, 5}).seconds == kMax);
  CHECK(round_trip({Limits::min(), 5}).seconds == kMin);
  CHECK(round_trip({kMin - 1, 5}).seconds == kMin);
  CHECK(round_trip({7, ~uint32_t{0}}) == Timespec{7, 999'999'999});
}
