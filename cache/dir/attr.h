// Attributes of a file as a listing or a stat carries them.
//
// Attr is the working form; PackedAttr the stored form, 64 bytes an entry, outside the page.
// Packed times follow ext4: 34 bits of seconds from 1901-12-13 (reaching 2446) and 30 bits of
// nanoseconds, so every time an ext4 directory can hold survives; others are clamped.
#pragma once

#include <cstdint>

namespace cache {

struct Timespec {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
  bool operator==(const Timespec&) const = default;
};

struct Attr {
  uint64_t ino = 0;   // inode number as the remote tells it
  uint32_t mode = 0;  // type and permission bits, as in st_mode
  uint32_t nlink = 1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;    // as in st_rdev
  uint64_t size = 0;    // bytes
  uint64_t blocks = 0;  // units of 512 bytes
  Timespec atime, mtime, ctime;
  // Changes whenever the object does; 0: unknown. A directory's is its change token: equal tokens
  // mean 'unchanged since'. A back end whose clock is too coarse to promise that gives a token
  // that never comes again.
  uint64_t change = 0;
  bool operator==(const Attr&) const = default;
};

struct PackedAttr {
  uint64_t size;
  uint64_t blocks;  // of a device: rdev; its file holds no blocks
  uint64_t atime, mtime, ctime;
  uint64_t change;  // a directory's saves its first listing the request for the token
  uint32_t mode, nlink, uid, gid;
};
static_assert(sizeof(PackedAttr) == 64);

// `ino` is not stored (the array's entry has it); rdev only of devices, whose blocks are not.
PackedAttr pack_attr(const Attr& attr);
Attr unpack_attr(const PackedAttr& packed, uint64_t ino);

}  // namespace cache
