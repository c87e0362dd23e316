// DirCore, the switch: a remote's cookie does not fit below 2^63, and the directory shows mapped
// ones from then on (cookie_map.h).
//
// The remote still knows the cookies that it has given: arrays that are held stay, under their new
// keys, and readers go on where they are.
#include <algorithm>
#include <cstring>

#include "cache/base/hash.h"
#include "cache/base/race_point.h"
#include "cache/dir/cookie_map.h"
#include "cache/dir/dir_core.h"

namespace cache {
namespace {

// What mapped arrays tell the remote to go on after this cookie of its own; none: the beginning.
std::string token_of(uint64_t cookie) {
  return cookie == 0 ? std::string() : cookie_map::token(cookie);
}

// A sealed array without marks, copied: the page may go.
class ArrayCopy {
 public:
  explicit ArrayCopy(const std::byte* content) {
    std::memcpy(&page_, content, sizeof(page_));
    const ArrayHeader& header = page_.header;
    names_.assign(reinterpret_cast<const char*>(header.names), header.names_bytes);
    if (header.attrs != nullptr) {
      attrs_.assign(reinterpret_cast<const char*>(header.attrs), sizeof(PackedAttr) * header.count);
    }
  }
  [[nodiscard]] ArrayView view() const {
    return {&page_, reinterpret_cast<const std::byte*>(names_.data()),
            attrs_.empty() ? nullptr : reinterpret_cast<const std::byte*>(attrs_.data()),
            page_.header.count};
  }

 private:
  ArrayPage page_;
  std::string names_;
  std::string attrs_;
};

}  // namespace

void DirCore::switch_to_mapped(const Fill* met) {
  gave_native_ = met == nullptr || anchors_.size() > 1 || met->builder.count() > 0;
  switch_change_ = change_;
  std::vector<PageRef> held = arrays_to_map();
  // The arrays first: who sees the switch, without a lock, must find none of before it. An array
  // taken for a mapped one leads to a key that the remote can be told nothing for.
  invalidate_locked(Forgotten::kNumbering);
  CACHE_RACE_POINT("switch to mapped cookies");
  mapped_.store(true, std::memory_order_release);
  for (const FillPtr& other : std::vector<FillPtr>(fill_owners_)) {
    if (other.get() != met) end_fill(*other, kErrBadCookie);
  }
  // From the first on: each makes room for the next, and the last ones are the youngest.
  std::reverse(held.begin(), held.end());
  for (bool room = true; room && !held.empty(); held.pop_back()) {
    room = map_array(std::move(held.back()));
  }
}

// None where we have changed the directory ourselves: what arrays lack then, and where they may
// overlap, is forgotten with them.
std::vector<PageRef> DirCore::arrays_to_map() {
  if (own_names_.any() || patched_ || overlaps_ || unproven_ || !other_stamps_.empty()) return {};
  std::vector<uint64_t> keys;
  pages_->for_each([&](const Page& page) {
    if (page.uptodate()) keys.push_back(page.key());
    return true;
  });
  std::vector<PageRef> held;
  for (const uint64_t key : keys) {
    PageRef page = pages_->find(key);
    if (!page || !page->uptodate()) continue;
    const ArrayView view = ArrayView::of(page->content());
    // Those that end before they are full, for equal cookies, would end elsewhere.
    const bool ends = (view.header().flags & kArrayEof) != 0;
    if (view.any_marked() || view.count() == 0 || (view.count() < kEntriesPerArray && !ends)) {
      continue;
    }
    if (view.header().era != era_.load(std::memory_order_relaxed)) continue;
    held.push_back(std::move(page));
  }
  return held;
}

// False: there is no room for more.
bool DirCore::map_array(PageRef held) {
  const ArrayCopy copy(held->content());
  const ArrayView from = copy.view();
  const ArrayHeader& header = from.header();
  const std::string token = token_of(held->key());
  held.reset();
  const uint64_t key = mapped_key_of(token);
  // What has no anchor has no cookies.
  if (!anchors_.add(key, header.position, token)) return false;
  const bool ends = (header.flags & kArrayEof) != 0;
  const std::string next = ends ? std::string() : token_of(header.last_cookie);
  const uint64_t next_key = mapped_key_of(next);
  if (!ends) {
    if (!anchors_.add(next_key, header.position + from.count(), next)) return false;
    anchors_.chain(key, next_key);
  }
  Result<AddressSpace::Grabbed> grabbed = pages_->grab(key);
  if (!grabbed.ok()) return false;
  if (!grabbed.value().created) return true;
  ++arrays_begun_;
  const PageRef page = std::move(grabbed.value().page);
  ArrayBuilder builder;
  builder.reset(page->content(), {.change = header.change,
                                  .filled = header.filled,
                                  .position = header.position,
                                  .with_attrs = true,
                                  .era = header.era});
  for (uint32_t i = 0; i < from.count(); ++i) {
    const Attr attr = from.has_attrs() ? from.attr(i) : Attr();
    builder.append(cookie_map::cookie(key, i, from.name(i)), from.ino(i), from.type(i),
                   from.name(i), from.has_attrs() ? &attr : nullptr);
  }
  if (!ends) builder.set_last_cookie(next_key);
  const auto flags =
      static_cast<uint16_t>((header.flags & (kArrayFull | kArrayEof)) | kArrayMapped);
  if (!builder.seal(cache_, builder.last_cookie(), flags, next)) {
    pages_->fill_failed(*page);
    return false;
  }
  if (!pages_->fill_done(*page, pages_->sequence())) return true;
  note_stamp(header.change);
  if (ends) eof_key_ = key;
  index_sealed(*page);
  return true;
}

// Shown before the directory switched: still a place to resume from. Where no array began there,
// those from there on do not meet the chain's boundaries, which is the price of a rare case.
void DirCore::place_native(CursorState& cursor) {
  cursor.seek_key = 0;
  cursor.maybe_native = false;
  cursor.token = token_of(cursor.position);
  cursor.key = mapped_key_of(cursor.token);
  cursor.position = cursor.key;
}

// By the key of the array that it is in, it meets the boundaries of those who list from the
// beginning. Its place there is told by the name of the entry before it, as with any mapped cookie;
// where that is gone, by the remote's own cookie.
bool DirCore::map_place(CursorState& cursor) {
  const bool now_mapped = mapped_.load(std::memory_order_acquire);
  if (cursor.mapped || !now_mapped || cursor.position == 0 || cursor.lost) return false;
  MutexLock lock(mutex_);
  if (cursor.era != era_.load(std::memory_order_acquire)) return false;
  const bool inside = cursor.position != cursor.key && !cursor.uncached && cursor.index > 0 &&
                      cursor.recent_count > 0;
  if (!inside) {
    place_native(cursor);
  } else {
    const uint64_t before = cursor.ordinal - std::min<uint64_t>(cursor.ordinal, cursor.index);
    std::string token = token_of(cursor.key);
    const uint64_t key = mapped_key_of(token);
    if (key != 0 && anchors_.find(key) == nullptr) {
      if (!anchors_.add(key, static_cast<uint32_t>(before), token)) return false;
      // Begun by somebody who need not come there through the chain.
      overlaps_ = true;
    }
    cursor.native = cursor.position;
    cursor.key = key;
    cursor.token = std::move(token);
    const uint64_t last = (cursor.recent_count - 1) % CursorState::kRecent;
    cursor.position = cookie_map::cookie(key, cursor.index - 1, cursor.recent[last]);
  }
  cursor.mapped = true;
  cursor.own.clear();
  cursor.uncached = false;
  cursor.hint = nullptr;
  cursor.edge = {};
  cursor.frontier = {};
  cursor.forget_checkpoint();
  return true;
}

}  // namespace cache
