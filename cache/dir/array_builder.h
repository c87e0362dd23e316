// ArrayBuilder: fills one page with entries, and seals it.
//
// Purpose:        entries go into the page's columns, names and attributes into staging; sealing
//                 packs names (and the next array's token) into one allocation of exact size.
// Ownership:      refers to a page that its user keeps pinned and locked until it is sealed;
//                 count(), position() and last_cookie() may be asked after that, when the page may
//                 be gone.
// Thread-safety:  none of its own: one lock guards builder and readers of its view.
// Errors:         seal() is false when there is no memory; the array can then be read through
//                 view() but not be cached.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache/dir/attr.h"
#include "cache/dir/readdir_array.h"

namespace cache {

class PageCache;

class ArrayBuilder {
 public:
  struct Start {
    uint64_t change = 0;    // the directory's token before the request was sent
    int64_t filled = 0;     // when it was sent, steady_clock ticks
    uint32_t position = 0;  // of the first entry in the listing
    bool with_attrs = false;
    uint16_t era = 0;  // the remote's numbering
  };
  // Starts over on this page.
  void reset(std::byte* page, const Start& start);

  [[nodiscard]] bool full() const { return count_ == kEntriesPerArray; }
  [[nodiscard]] uint32_t count() const { return count_; }
  [[nodiscard]] uint32_t position() const { return position_; }
  // Needs !full(), a name of 1 to 255 bytes. Attributes are dropped once an entry comes without.
  void append(uint64_t cookie, uint64_t ino, uint8_t type, std::string_view name, const Attr* attr);
  // Takes back every entry that shares the last one's cookie; false, and nothing taken back, when
  // that would be all.
  bool drop_last_run();
  void set_era(uint16_t era) { page_->header.era = era; }
  void set_last_cookie(uint64_t cookie) { page_->cookies[count_ - 1] = last_cookie_ = cookie; }
  // Of the entry appended last; 0 before the first.
  [[nodiscard]] uint64_t last_cookie() const { return last_cookie_; }
  [[nodiscard]] ArrayView view() const;

  // `last_cookie`: key of the next array. `token`: what the remote is told to continue there.
  bool seal(PageCache& cache, uint64_t last_cookie, uint16_t flags, std::string_view token);

 private:
  [[nodiscard]] uint16_t order_flags() const;

  ArrayPage* page_ = nullptr;
  uint32_t count_ = 0;
  uint32_t position_ = 0;
  uint64_t last_cookie_ = 0;
  bool with_attrs_ = false;
  std::string names_;
  std::vector<PackedAttr> attrs_;
};

}  // namespace cache
