#include "tests/files/op.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace files {
namespace {

constexpr std::array kNames = {
    "open",      "read",        "write",     "pwrite", "mmap read",   "mmap write",
    "ftruncate", "truncate",    "fsync",     "close",  "fallocate",   "copy_file_range",
    "mkdir",     "rmdir",       "unlink",    "rename", "link",        "symlink",
    "readlink",  "mkfifo",      "chmod",     "fchmod", "chown",       "utimensat",
    "futimens",  "list",        "lstat",     "fstat",  "access",      "setxattr",
    "getxattr",  "removexattr", "listxattr", "hold",   "openat held", "list held"};
static_assert(kNames.size() == static_cast<size_t>(Kind::kListHeld) + 1);

std::string flag_names(int flags) {
  std::string text = (flags & O_ACCMODE) == O_RDONLY   ? "RDONLY"
                     : (flags & O_ACCMODE) == O_WRONLY ? "WRONLY"
                                                       : "RDWR";
  for (const auto& [flag, name] : {std::pair{O_CREAT, "|CREAT"},
                                   {O_EXCL, "|EXCL"},
                                   {O_TRUNC, "|TRUNC"},
                                   {O_APPEND, "|APPEND"},
                                   {O_DIRECT, "|DIRECT"}}) {
    if ((flags & flag) != 0) text += name;
  }
  return text;
}

// A name as one word of printable characters, however long it is.
std::string shown(const std::string& name) {
  std::string text;
  for (const char c : name.substr(0, 60)) text += c < ' ' ? '?' : c;
  return "'" + text + (name.size() > 60 ? "...' (" + std::to_string(name.size()) + ")" : "'");
}

}  // namespace

const char* name_of(Kind kind) { return kNames.at(static_cast<size_t>(kind)); }

std::string describe(const Op& op) {
  std::string text = name_of(op.kind);
  const auto add = [&](const std::string& word, uint64_t value) {
    text += " " + word + " " + std::to_string(value);
  };
  if (!op.path.empty()) text += " " + shown(op.path);
  if (!op.other.empty()) text += ", " + shown(op.other);
  add("slot", op.slot);
  if (op.kind == Kind::kOpen) text += " " + flag_names(op.flags);
  if (op.kind == Kind::kRename || op.kind == Kind::kFallocate || op.kind == Kind::kAccess) {
    add("flags", static_cast<uint64_t>(op.flags));
  }
  if (op.kind == Kind::kCopyRange) add("to slot", op.slot2), add("at", op.offset2);
  if (op.length != 0) add("length", op.length);
  if (op.length != 0 || op.offset != 0) add("at", op.offset);
  if (op.mode != 0)
    text += " mode 0" + std::to_string(op.mode >> 6 & 7) + std::to_string(op.mode >> 3 & 7) +
            std::to_string(op.mode & 7);
  if (op.seconds != 0) add("time", static_cast<uint64_t>(op.seconds));
  return text;
}

std::string content(uint64_t seed, size_t length) {
  std::string text(length, '\0');
  uint64_t state = seed | 1;
  for (size_t at = 0; at < length; at += sizeof state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(text.data() + at, &state, std::min(sizeof state, length - at));
  }
  return text;
}

uint64_t random_length(Random& random, uint64_t most) {
  constexpr uint64_t kPage = 4096;
  uint64_t length = 0;
  switch (random.below(6)) {
    case 0:
      length = 1 + random.below(16);
      break;
    case 1:
      length = kPage;
      break;
    case 2:
      length = kPage * (1 + random.below(8));
      break;
    case 3:
      length = kPage - 2 + random.below(5);
      break;
    case 4:
      length = 1 + random.below(20'000);
      break;
    default:
      length = 1 + random.below(most);
      break;
  }
  return std::min(length, most);
}

uint64_t random_offset(Random& random, uint64_t most) {
  constexpr uint64_t kPage = 4096;
  switch (random.below(5)) {
    case 0:
      return 0;
    case 1:
      return random.below(most / kPage + 1) * kPage;
    case 2:
      return std::min(most, random.below(most / kPage + 1) * kPage + random.below(3));
    case 3:
      return random.below(std::min<uint64_t>(most, 10'000) + 1);
    default:
      return random.below(most + 1);
  }
}

}  // namespace files
