// The readdir array: one 4096-byte page of directory entries, names outside it.
//
// Purpose:        the layout, the way entries are appended, sealed, read and searched.
// Ownership:      a sealed array owns its names and attributes allocations through the page; they
//                 are released by ArrayHooks::free_page and nowhere else.
// Thread-safety:  a sealed array may be read by anyone who pins its page; an array being built
//                 belongs to its builder. All that changes in a sealed one are the marks, types and
//                 inode numbers of entries that were removed or replaced by ourselves: atomics, set
//                 under the directory's mutex, read without.
//
//   page (4096 bytes)                                    outside the page
//   +--------------------------+                         +-----------------------------+
//   | header        56 bytes   | --names---------------> | names, back to back | token |
//   | cookies   202 x 8 bytes  |                         +-----------------------------+
//   | inos      202 x 8 bytes  | --attrs (or null)-----> | PackedAttr x count          |
//   | meta      202 x 4 bytes  |                         +-----------------------------+
//   +--------------------------+   meta: name offset u16, name length u8, type and mark u8
//
// Columns instead of records: an entry takes 20 bytes instead of 24 (no padding), and a search by
// cookie reads nothing but cookies. The token (mapped cookies only) is what the remote must be
// told to continue after this array.
//
// An entry that we have removed stays where it is, with a mark: its cookie still tells a place, so
// that a reader who stands there goes on right after it, and the array's key and end stay what they
// are. One that was replaced (another object under its name) stays listed, without attributes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/dir/attr.h"

namespace cache {

constexpr size_t kPageBytes = 4096;
constexpr uint32_t kEntriesPerArray = 202;
constexpr uint32_t kMaxNameBytes = 255;

enum ArrayFlags : uint16_t {
  kArrayFull = 1,        // holds as many entries as fit: the next array is another page
  kArrayEof = 2,         // the directory ends here
  kArrayAscending = 4,   // cookies strictly ascend
  kArrayDescending = 8,  // cookies strictly descend
  kArrayMapped = 16,     // cookies were mapped (cookie_map.h)
  kArrayJoins = 32,      // uncached: the next key is known, the chain serves from there on
};

// Beside the type, in its byte.
constexpr uint8_t kEntryRemoved = 0x80;
constexpr uint8_t kEntryReplaced = 0x40;  // the attributes are another object's
constexpr uint8_t kEntryType = 0x3f;      // DT_*
static_assert((kEntryRemoved | kEntryReplaced | kEntryType) == 0xff);

struct ArrayMeta {
  uint16_t name_offset;
  uint8_t name_length;
  uint8_t type;  // DT_*, and a mark
};

struct ArrayHeader {
  uint64_t change;       // the directory's change token, taken before the request was sent
  uint64_t last_cookie;  // the key of the next array
  std::byte* names;
  std::byte* attrs;      // PackedAttr[count], or null
  uint16_t names_bytes;  // names and token together
  uint16_t marked;       // entries with a mark
  uint32_t position;     // of the first entry, counted from the listing's beginning
  uint16_t count;
  uint16_t flags;  // ArrayFlags
  uint16_t token_length;
  uint16_t era;    // the remote's numbering: moves when a new verifier makes cookies void
  int64_t filled;  // when the request was sent: steady_clock ticks; how old attributes are
};

struct ArrayPage {
  ArrayHeader header;
  std::array<uint64_t, kEntriesPerArray> cookies;
  std::array<uint64_t, kEntriesPerArray> inos;
  std::array<ArrayMeta, kEntriesPerArray> meta;
};
static_assert(sizeof(ArrayHeader) == 56);
static_assert(sizeof(ArrayPage) == kPageBytes);
static_assert(kEntriesPerArray >= 168);

// Of what changes in a sealed array; nothing else is ordered by it.
template <typename T>
T load_relaxed(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_relaxed);
}

// Under the directory's mutex, on a pinned page. `i` has not been removed.
void mark_removed(std::byte* page, uint32_t i);
void mark_replaced(std::byte* page, uint32_t i, uint64_t ino, uint8_t type);
void mark_attr_old(std::byte* page, uint32_t i);  // replaced, by the same object

// Read-only view of a sealed array, or of the part of one that has been filled so far.
class ArrayView {
 public:
  ArrayView() = default;
  // `attrs`: PackedAttr[count], or null.
  ArrayView(const ArrayPage* page, const std::byte* names, const std::byte* attrs, uint32_t count)
      : page_(page), names_(names), attrs_(attrs), count_(count) {}
  static ArrayView of(const std::byte* page);  // a sealed array

  [[nodiscard]] uint32_t count() const { return count_; }
  [[nodiscard]] uint64_t cookie(uint32_t i) const { return page_->cookies[i]; }
  [[nodiscard]] uint64_t ino(uint32_t i) const { return load_relaxed(page_->inos[i]); }
  [[nodiscard]] uint8_t type(uint32_t i) const { return meta_type(i) & kEntryType; }
  [[nodiscard]] std::string_view name(uint32_t i) const {
    const ArrayMeta& m = page_->meta[i];
    return {reinterpret_cast<const char*>(names_) + m.name_offset, m.name_length};
  }
  [[nodiscard]] bool has_attrs() const { return attrs_ != nullptr; }
  [[nodiscard]] Attr attr(uint32_t i) const;  // only where has_attrs(), and not replaced(i)

  // Marks. An EntrySink is never given an entry that has one.
  [[nodiscard]] bool any_marked() const { return load_relaxed(page_->header.marked) != 0; }
  [[nodiscard]] bool marked(uint32_t i) const { return meta_type(i) > kEntryType; }
  [[nodiscard]] bool removed(uint32_t i) const { return (meta_type(i) & kEntryRemoved) != 0; }
  [[nodiscard]] bool replaced(uint32_t i) const { return (meta_type(i) & kEntryReplaced) != 0; }
  [[nodiscard]] uint32_t removed_count() const;
  // The first entry from `i` on that has not been removed; count() where there is none.
  [[nodiscard]] uint32_t next_live(uint32_t i) const {
    while (i < count_ && removed(i)) ++i;
    return i;
  }
  // That entry alone, as number 0, without attributes; on a page that the caller lends.
  [[nodiscard]] ArrayView alone(uint32_t i, ArrayPage* page) const;
  // The entry of that name that has not been removed, looked for from `start` on, around.
  [[nodiscard]] uint32_t find_name(std::string_view name, uint32_t start = 0) const;
  [[nodiscard]] const ArrayHeader& header() const { return page_->header; }
  [[nodiscard]] std::string_view token() const;  // sealed arrays only

  // Index of the entry with this cookie, the first of several; count() when there is none.
  [[nodiscard]] uint32_t find_cookie(uint64_t cookie) const;

 private:
  [[nodiscard]] uint8_t meta_type(uint32_t i) const { return load_relaxed(page_->meta[i].type); }

  const ArrayPage* page_ = nullptr;
  const std::byte* names_ = nullptr;
  const std::byte* attrs_ = nullptr;
  uint32_t count_ = 0;
};

}  // namespace cache
