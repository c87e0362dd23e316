#include "fusefs/dirent_encoder.h"

#include <linux/fuse.h>
#include <sys/stat.h>

#include <cstring>

namespace fusefs {
namespace {

constexpr size_t kPlainHeader = FUSE_NAME_OFFSET;
constexpr size_t kPlusPrefix = sizeof(fuse_entry_out);
static_assert(kPlainHeader == 24);
static_assert(kPlusPrefix == 128);
static_assert(FUSE_NAME_OFFSET_DIRENTPLUS == kPlusPrefix + kPlainHeader);

// What libfuse gives where the number is not known. 0 would hide the entry: readdir(3) of glibc
// takes it for a deleted one.
constexpr uint64_t kUnknownIno = 0xffffffff;
constexpr uint32_t kBlockSize = 4096;

// The fixed part of fuse_dirent, without its flexible member.
struct PlainHeader {
  uint64_t ino;
  uint64_t off;
  uint32_t namelen;
  uint32_t type;
};
static_assert(sizeof(PlainHeader) == kPlainHeader);

constexpr size_t align8(size_t bytes) { return (bytes + 7) & ~size_t{7}; }

// All of an entry but its node id.
fuse_entry_out wire_entry(const cache::Attr& attr, std::chrono::nanoseconds valid) {
  fuse_entry_out entry{};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(valid);
  entry.entry_valid = entry.attr_valid = static_cast<uint64_t>(seconds.count());
  entry.entry_valid_nsec = static_cast<uint32_t>((valid - seconds).count());
  entry.attr_valid_nsec = entry.entry_valid_nsec;
  fuse_attr& out = entry.attr;
  out.ino = attr.ino != 0 ? attr.ino : kUnknownIno;
  out.size = attr.size;
  out.blocks = attr.blocks;
  out.atime = static_cast<uint64_t>(attr.atime.seconds);
  out.mtime = static_cast<uint64_t>(attr.mtime.seconds);
  out.ctime = static_cast<uint64_t>(attr.ctime.seconds);
  out.atimensec = attr.atime.nanoseconds;
  out.mtimensec = attr.mtime.nanoseconds;
  out.ctimensec = attr.ctime.nanoseconds;
  out.mode = attr.mode;
  out.nlink = attr.nlink;
  out.uid = attr.uid;
  out.gid = attr.gid;
  out.rdev = static_cast<uint32_t>(attr.rdev);
  out.blksize = kBlockSize;
  return entry;
}

// The header, the name and its padding at `at`, which has room for them.
void put_plain(std::byte* at, std::string_view name, const PlainHeader& header) {
  const size_t total = align8(kPlainHeader + name.size());
  std::memset(at + total - 8, 0, 8);  // the padding, before what overlaps it
  std::memcpy(at, &header, sizeof header);
  std::memcpy(at + kPlainHeader, name.data(), name.size());
}

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

bool presentable(const cache::Attr& attr) {
  switch (attr.mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return attr.size <= static_cast<uint64_t>(INT64_MAX);
    default:
      return false;
  }
}

bool DirentEncoder::append_name(std::string_view name, uint64_t ino, uint8_t type,
                                uint64_t offset) {
  const size_t prefix = format_ == DirentFormat::kPlain ? 0 : kPlusPrefix;
  const size_t total = prefix + align8(kPlainHeader + name.size());
  if (total > capacity_ - used_) return false;
  std::byte* at = buffer_ + used_;
  std::memset(at, 0, prefix);
  put_plain(at + prefix, name,
            {.ino = ino != 0 ? ino : kUnknownIno,
             .off = offset,
             .namelen = static_cast<uint32_t>(name.size()),
             .type = type});
  used_ += total;
  return true;
}

uint32_t DirentEncoder::append(const cache::ArrayView& view, uint32_t from, uint32_t to,
                               std::chrono::nanoseconds valid) {
  const size_t prefix = format_ == DirentFormat::kPlain ? 0 : kPlusPrefix;
  const bool with_attrs = prefix != 0 && valid.count() > 0 && view.has_attrs();
  std::byte* at = buffer_ + used_;
  std::byte* const end = buffer_ + capacity_;
  uint32_t i = from;
  for (; i < to; ++i) {
    const std::string_view name = view.name(i);
    const size_t total = prefix + align8(kPlainHeader + name.size());
    if (total > static_cast<size_t>(end - at)) break;
    const uint64_t ino = view.ino(i);
    uint8_t type = view.type(i);
    if (prefix != 0) {
      std::memset(at, 0, prefix);
      if (with_attrs) {
        const cache::Attr attr = view.attr(i);
        if (presentable(attr)) {
          if (link_ == Link::kAll || S_ISDIR(attr.mode)) store(at, wire_entry(attr, valid));
          if (type == 0) type = static_cast<uint8_t>((attr.mode & S_IFMT) >> 12);  // DT_UNKNOWN
        }
      }
    }
    put_plain(at + prefix, name,
              {.ino = ino != 0 ? ino : kUnknownIno,
               .off = view.cookie(i),
               .namelen = static_cast<uint32_t>(name.size()),
               .type = type});
    at += total;
  }
  used_ = static_cast<size_t>(at - buffer_);
  return i - from;
}

uint32_t PlusEntry::mode() const {
  return load<uint32_t>(at_ + offsetof(fuse_entry_out, attr) + offsetof(fuse_attr, mode));
}

uint64_t PlusEntry::ino() const {
  const auto shown = load<uint64_t>(at_ + kPlusPrefix + offsetof(PlainHeader, ino));
  return shown == kUnknownIno ? 0 : shown;
}

std::string_view PlusEntry::name() const {
  const auto length = load<uint32_t>(at_ + kPlusPrefix + offsetof(PlainHeader, namelen));
  return {reinterpret_cast<const char*>(at_) + kPlusPrefix + kPlainHeader, length};
}

uint64_t PlusEntry::nodeid() const {
  return load<uint64_t>(at_ + offsetof(fuse_entry_out, nodeid));
}

std::chrono::nanoseconds PlusEntry::valid() const {
  const auto seconds = load<uint64_t>(at_ + offsetof(fuse_entry_out, attr_valid));
  const auto rest = load<uint32_t>(at_ + offsetof(fuse_entry_out, attr_valid_nsec));
  return std::chrono::seconds(seconds) + std::chrono::nanoseconds(rest);
}

void PlusEntry::set_node(uint64_t nodeid) { store(at_ + offsetof(fuse_entry_out, nodeid), nodeid); }

void PlusEntry::set_block_size(uint32_t bytes) {
  store(at_ + offsetof(fuse_entry_out, attr) + offsetof(fuse_attr, blksize), bytes);
}

void PlusEntry::set_links(uint32_t count) {
  store(at_ + offsetof(fuse_entry_out, attr) + offsetof(fuse_attr, nlink), count);
}

void PlusEntry::clear_node() { std::memset(at_, 0, kPlusPrefix); }

void PlusEntries::next() {
  const auto length = load<uint32_t>(at_ + kPlusPrefix + offsetof(PlainHeader, namelen));
  at_ += kPlusPrefix + align8(kPlainHeader + length);
}

}  // namespace fusefs
