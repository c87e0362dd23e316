// DirentEncoder: directory entries in the kernel's own format, straight into a reply buffer.
//
// Purpose:        the hottest loop of the daemon. Lays out struct fuse_dirent and struct
//                 fuse_direntplus of <linux/fuse.h> from the columns of a readdir array: no
//                 allocation, no virtual call and no copy of a name but the one into the reply
//                 (libfuse's own encoder wants NUL-terminated names).
// Ownership:      refers to the caller's buffer, which needs no alignment.
// Thread-safety:  none; an encoder belongs to one request.
// Errors:         an entry that does not fit is not begun. Padding is zeros.
//
//   plain:  | ino 8 | off 8 | namelen 4 | type 4 | name, padded to 8 |
//   plus:   | nodeid 8 | generation 8 | times 24 | attributes 88 | as plain |
//
// A plus entry with nodeid 0 is legal: the kernel takes its name and leaves the rest. That is what
// '.' and '..' get, and every entry of an array without attributes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/dir/attr.h"
#include "cache/dir/readdir_array.h"

namespace fusefs {

enum class DirentFormat : uint8_t { kPlain, kPlus };  // READDIR, READDIRPLUS

// Which entries of a READDIRPLUS get their attributes, and so a node of the kernel's (LinkHint).
enum class Link : uint8_t { kAll, kDirectories };

// What the kernel refuses with EIO: an unknown type of file, a size beyond 2^63-1.
[[nodiscard]] bool presentable(const cache::Attr& attr);

class DirentEncoder {
 public:
  DirentEncoder() = default;  // no room for anything
  DirentEncoder(std::byte* buffer, size_t capacity, DirentFormat format, Link link = Link::kAll)
      : buffer_(buffer), capacity_(capacity), format_(format), link_(link) {}

  // One entry without attributes; false when it does not fit. `offset`: the place after it.
  bool append_name(std::string_view name, uint64_t ino, uint8_t type, uint64_t offset);

  // Entries [from, to), in order; returns how many fitted. READDIRPLUS: with the attributes that
  // the array has, good for `valid` longer, where they are linked; none when that is not positive.
  // Nodeids are still 0.
  uint32_t append(const cache::ArrayView& view, uint32_t from, uint32_t to,
                  std::chrono::nanoseconds valid = {});

  [[nodiscard]] const std::byte* data() const { return buffer_; }
  [[nodiscard]] std::byte* data() { return buffer_; }
  [[nodiscard]] size_t size() const { return used_; }
  [[nodiscard]] DirentFormat format() const { return format_; }

 private:
  std::byte* buffer_ = nullptr;
  size_t capacity_ = 0;
  size_t used_ = 0;
  DirentFormat format_ = DirentFormat::kPlain;
  Link link_ = Link::kAll;
};

// One entry of an encoded READDIRPLUS reply: what is filled in once its inode is known.
class PlusEntry {
 public:
  explicit PlusEntry(std::byte* at) : at_(at) {}

  // False: names only; the nodeid stays 0.
  [[nodiscard]] bool has_attributes() const { return mode() != 0; }
  [[nodiscard]] uint32_t mode() const;
  [[nodiscard]] uint64_t ino() const;
  [[nodiscard]] std::string_view name() const;
  [[nodiscard]] uint64_t nodeid() const;
  [[nodiscard]] std::chrono::nanoseconds valid() const;  // how much longer its attributes are good
  void set_node(uint64_t nodeid);
  void set_block_size(uint32_t bytes);
  void set_links(uint32_t count);
  void clear_node();  // names only

 private:
  friend class PlusEntries;
  std::byte* at_;
};

// Walks the entries of an encoded READDIRPLUS reply.
class PlusEntries {
 public:
  PlusEntries(std::byte* data, size_t size) : at_(data), end_(data + size) {}

  [[nodiscard]] bool done() const { return at_ == end_; }
  [[nodiscard]] PlusEntry entry() const { return PlusEntry(at_); }
  void next();

 private:
  std::byte* at_;
  std::byte* end_;
};

}  // namespace fusefs
