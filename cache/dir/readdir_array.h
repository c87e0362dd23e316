// The readdir array: one 4096-byte page of directory entries, names outside it.
//
// Purpose:        the layout, the way entries are appended, sealed, read and searched.
// Ownership:      a sealed array owns its names and attributes allocations through the page; they
//                 are released by ArrayHooks::free_page and nowhere else.
// Thread-safety:  a sealed array is immutable and may be read by anyone who pins its page; an array
//                 being built belongs to its builder.
//
//   page (4096 bytes)                                    outside the page
//   +--------------------------+                         +-----------------------------+
//   | header        56 bytes   | --names---------------> | names, back to back | token |
//   | cookies   202 x 8 bytes  |                         +-----------------------------+
//   | inos      202 x 8 bytes  | --attrs (or null)-----> | PackedAttr x count          |
//   | meta      202 x 4 bytes  |                         +-----------------------------+
//   +--------------------------+   meta: name offset u16, name length u8, type u8
//
// Columns instead of records: an entry takes 20 bytes instead of 24 (no padding), and a search by
// cookie reads nothing but cookies. The token (mapped cookies only) is what the remote must be
// told to continue after this array.
#pragma once

#include <array>
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

struct ArrayMeta {
  uint16_t name_offset;
  uint8_t name_length;
  uint8_t type;  // DT_*
};

struct ArrayHeader {
  uint64_t change;       // the directory's change token, taken before the request was sent
  uint64_t last_cookie;  // the key of the next array
  std::byte* names;
  std::byte* attrs;      // PackedAttr[count], or null
  uint32_t names_bytes;  // names and token together
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
  [[nodiscard]] uint64_t ino(uint32_t i) const { return page_->inos[i]; }
  [[nodiscard]] uint8_t type(uint32_t i) const { return page_->meta[i].type; }
  [[nodiscard]] std::string_view name(uint32_t i) const {
    const ArrayMeta& m = page_->meta[i];
    return {reinterpret_cast<const char*>(names_) + m.name_offset, m.name_length};
  }
  [[nodiscard]] bool has_attrs() const { return attrs_ != nullptr; }
  [[nodiscard]] Attr attr(uint32_t i) const;  // only where has_attrs()
  [[nodiscard]] const ArrayHeader& header() const { return page_->header; }
  [[nodiscard]] std::string_view token() const;  // sealed arrays only

  // Index of the entry with this cookie, the first of several; count() when there is none.
  [[nodiscard]] uint32_t find_cookie(uint64_t cookie) const;

 private:
  const ArrayPage* page_ = nullptr;
  const std::byte* names_ = nullptr;
  const std::byte* attrs_ = nullptr;
  uint32_t count_ = 0;
};

}  // namespace cache
