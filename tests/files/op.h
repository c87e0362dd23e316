// Op: one operation on a file system, as it is done to the one under test and to another beside it.
//
// Purpose:        everything that is random about an operation is in it, so that doing it twice
//                 does the same.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace files {

enum class Kind : uint8_t {
  kOpen,  // of files, into a slot; what was open there is closed first
  kRead,
  kWrite,   // at the file position; at the end of the file with O_APPEND
  kPwrite,  // at `offset`
  kMapRead,
  kMapWrite,  // and msync()
  kFtruncate,
  kTruncate,
  kFsync,
  kClose,
  kFallocate,
  kCopyRange,  // from `slot` at `offset` to `slot2` at `offset2`
  kMkdir,
  kRmdir,
  kUnlink,
  kRename,
  kLink,
  kSymlink,
  kReadlink,
  kMkfifo,
  kChmod,
  kFchmod,
  kChown,
  kUtimens,
  kFutimens,
  kList,
  kStat,
  kFstat,
  kAccess,
  kSetxattr,
  kGetxattr,
  kRemovexattr,
  kListxattr,
  kHold,        // opens a directory and keeps it
  kMakeInHeld,  // openat() in the one that is kept
  kListHeld,
};
constexpr unsigned kSlots = 6;  // of open files

struct Op {
  Kind kind = Kind::kStat;
  std::string path{}, other{};  // below the root; a symlink's target or an attribute's name
  unsigned slot = 0, slot2 = 0;
  int flags = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint64_t offset = 0, offset2 = 0, length = 0;
  uint64_t seed = 0;    // of what is written
  int64_t seconds = 0;  // of a modification time; 0: now
  int64_t nanoseconds = 0;
  bool look = false;  // attributes of all that it names are compared afterwards
};

// "link", "rename", ...: as describe() has it.
const char* name_of(Kind kind);
// In words, for people who look for a bug.
std::string describe(const Op& op);

// The bytes that a seed stands for; the same for the same length.
std::string content(uint64_t seed, size_t length);

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // In [0, n).
  uint64_t below(uint64_t n) { return engine_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  uint64_t next() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

// Lengths and places as programs have them: small, odd, and around pages.
uint64_t random_length(Random& random, uint64_t most);
uint64_t random_offset(Random& random, uint64_t most);

}  // namespace files
