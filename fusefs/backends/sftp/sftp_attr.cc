#include "fusefs/backends/sftp/sftp_attr.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

#include "cache/base/hash.h"

namespace fusefs::sftp {
namespace {

constexpr uint64_t kRootInode = 0x736674702f726f6fULL;  // any number would do
constexpr uint64_t kUniqueBit = uint64_t{1} << 63;

}  // namespace

uint64_t inode_of(std::string_view path) {
  uint64_t ino = kRootInode;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    ino = child_inode(ino, path.substr(0, slash));
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return ino;
}

uint64_t child_inode(uint64_t parent, std::string_view name) {
  const uint64_t ino = cache::hash_bytes(name, parent);
  return ino > 1 ? ino : 2;  // 0 is none, and 1 is the mount's
}

cache::Attr to_attr(const FileAttrs& attrs, uint64_t ino, int64_t wall_seconds) {
  cache::Attr attr;
  attr.ino = ino;
  // Without permissions not even the type is known: a file that nobody may touch.
  attr.mode = attrs.has(FileAttrs::kPermissions) ? attrs.permissions : S_IFREG;
  attr.nlink = 1;
  attr.uid = attrs.has(FileAttrs::kUidGid) ? attrs.uid : ::geteuid();
  attr.gid = attrs.has(FileAttrs::kUidGid) ? attrs.gid : ::getegid();
  attr.size = attrs.size;
  attr.blocks = attrs.size / 512 + (attrs.size % 512 != 0 ? 1 : 0);
  attr.atime = {.seconds = attrs.atime, .nanoseconds = 0};
  attr.mtime = attr.ctime = {.seconds = attrs.mtime, .nanoseconds = 0};
  if (S_ISDIR(attr.mode)) attr.change = change_token(attrs, wall_seconds);
  return attr;
}

uint64_t change_token(const FileAttrs& attrs, int64_t wall_seconds) {
  const bool told = attrs.has(FileAttrs::kTimes);
  if (!told || int64_t{attrs.mtime} > wall_seconds - kYoung) return unique_token();
  const uint64_t size = attrs.has(FileAttrs::kSize) ? attrs.size : 0;
  const uint64_t token = cache::mix64(cache::mix64(size) + attrs.mtime) & ~kUniqueBit;
  return token == 0 ? 1 : token;  // 0 means 'not told'
}

uint64_t unique_token() {
  static std::atomic<uint64_t> next{1};  // relaxed: only that no two are the same
  return kUniqueBit | next.fetch_add(1, std::memory_order_relaxed);
}

uint8_t entry_type(const FileAttrs& attrs) {
  if (!attrs.has(FileAttrs::kPermissions)) return DT_UNKNOWN;
  return static_cast<uint8_t>(IFTODT(attrs.permissions));
}

int64_t wall_seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace fusefs::sftp
