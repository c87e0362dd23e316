#include "cache/dir/readdir_array.h"

#include <algorithm>
#include <cstring>

#include "cache/base/check.h"
#include "cache/dir/array_builder.h"
#include "cache/dir/array_hooks.h"
#include "cache/dir/name_index.h"
#include "cache/mm/page_cache.h"

namespace cache {

namespace {

void mark(ArrayPage& array, uint32_t i, uint8_t type) {
  const std::atomic_ref<uint8_t> entry(array.meta[i].type);
  const std::atomic_ref<uint16_t> marked(array.header.marked);
  if (entry.exchange(type, std::memory_order_relaxed) <= kEntryType) {
    marked.fetch_add(1, std::memory_order_relaxed);
  }
}

ArrayPage& array_on(std::byte* page) { return *reinterpret_cast<ArrayPage*>(page); }

}  // namespace

void mark_removed(std::byte* page, uint32_t i) { mark(array_on(page), i, kEntryRemoved); }

void mark_replaced(std::byte* page, uint32_t i, uint64_t ino, uint8_t type) {
  ArrayPage& array = array_on(page);
  std::atomic_ref<uint64_t>(array.inos[i]).store(ino, std::memory_order_relaxed);
  mark(array, i, static_cast<uint8_t>(kEntryReplaced | (type & kEntryType)));
}

void mark_attr_old(std::byte* page, uint32_t i) {
  ArrayPage& array = array_on(page);
  mark(array, i, static_cast<uint8_t>(kEntryReplaced | load_relaxed(array.meta[i].type)));
}

ArrayView ArrayView::of(const std::byte* page) {
  const auto* array = reinterpret_cast<const ArrayPage*>(page);
  return {array, array->header.names, array->header.attrs, array->header.count};
}

Attr ArrayView::attr(uint32_t i) const {
  PackedAttr packed;
  std::memcpy(&packed, attrs_ + size_t{i} * sizeof(packed), sizeof(packed));
  return unpack_attr(packed, ino(i));
}

uint32_t ArrayView::removed_count() const {
  if (!any_marked()) return 0;
  uint32_t removed_entries = 0;
  for (uint32_t i = 0; i < count_; ++i) removed_entries += removed(i) ? 1 : 0;
  return removed_entries;
}

ArrayView ArrayView::alone(uint32_t i, ArrayPage* page) const {
  page->header = ArrayHeader{};
  page->header.filled = page_->header.filled;
  page->header.position = page_->header.position + i;
  page->header.era = page_->header.era;
  page->header.count = 1;
  page->cookies[0] = cookie(i);
  page->inos[0] = ino(i);
  page->meta[0] = {.name_offset = page_->meta[i].name_offset,
                   .name_length = page_->meta[i].name_length,
                   .type = type(i)};
  return {page, names_, nullptr, 1};
}

uint32_t ArrayView::find_name(std::string_view name, uint32_t start) const {
  for (uint32_t step = 0; step < count_; ++step) {
    const uint32_t i = start + step < count_ ? start + step : start + step - count_;
    if (this->name(i) == name && !removed(i)) return i;
  }
  return count_;
}

std::string_view ArrayView::token() const {
  const ArrayHeader& h = page_->header;
  const char* end = reinterpret_cast<const char*>(names_) + h.names_bytes;
  return {end - h.token_length, h.token_length};
}

uint32_t ArrayView::find_cookie(uint64_t cookie) const {
  // A dense column without an early exit every entry: the compiler compares several at a time.
  constexpr uint32_t kBlock = 16;
  const uint64_t* cookies = page_->cookies.data();
  uint32_t i = 0;
  for (; i + kBlock <= count_; i += kBlock) {
    bool any = false;
    for (uint32_t j = 0; j < kBlock; ++j) any |= cookies[i + j] == cookie;
    if (any) break;
  }
  while (i < count_ && cookies[i] != cookie) ++i;
  return i;
}

void ArrayBuilder::reset(std::byte* page, const Start& start) {
  page_ = reinterpret_cast<ArrayPage*>(page);
  page_->header = ArrayHeader{};
  page_->header.change = start.change;
  page_->header.filled = start.filled;
  page_->header.position = start.position;
  page_->header.era = start.era;
  count_ = 0;
  position_ = start.position;
  last_cookie_ = 0;
  with_attrs_ = start.with_attrs;
  names_.clear();
  attrs_.clear();
}

void ArrayBuilder::append(uint64_t cookie, uint64_t ino, uint8_t type, std::string_view name,
                          const Attr* attr) {
  CACHE_DCHECK(!full() && !name.empty() && name.size() <= kMaxNameBytes);
  page_->cookies[count_] = cookie;
  page_->inos[count_] = ino;
  page_->meta[count_] = {.name_offset = static_cast<uint16_t>(names_.size()),
                         .name_length = static_cast<uint8_t>(name.size()),
                         .type = type <= kEntryType ? type : uint8_t{0}};
  names_.append(name);
  if (attr == nullptr) with_attrs_ = false;
  if (with_attrs_) attrs_.push_back(pack_attr(*attr));
  last_cookie_ = cookie;
  ++count_;
}

bool ArrayBuilder::drop_last_run() {
  uint32_t keep = count_;
  while (keep > 0 && page_->cookies[keep - 1] == last_cookie_) --keep;
  if (keep == 0) return false;
  for (uint32_t i = keep; i < count_; ++i) {
    if (page_->meta[i].type > kEntryType) --page_->header.marked;
  }
  names_.resize(page_->meta[keep].name_offset);
  if (with_attrs_) attrs_.resize(keep);
  count_ = keep;
  last_cookie_ = page_->cookies[keep - 1];
  return true;
}

ArrayView ArrayBuilder::view() const {
  const bool attrs = with_attrs_ && count_ > 0;
  return {page_, reinterpret_cast<const std::byte*>(names_.data()),
          attrs ? reinterpret_cast<const std::byte*>(attrs_.data()) : nullptr, count_};
}

uint16_t ArrayBuilder::order_flags() const {
  bool ascending = true;
  bool descending = true;
  for (uint32_t i = 1; i < count_; ++i) {
    ascending &= page_->cookies[i - 1] < page_->cookies[i];
    descending &= page_->cookies[i - 1] > page_->cookies[i];
  }
  return static_cast<uint16_t>((ascending ? kArrayAscending : 0) |
                               (descending ? kArrayDescending : 0));
}

bool ArrayBuilder::seal(PageCache& cache, uint64_t last_cookie, uint16_t flags,
                        std::string_view token) {
  const size_t names_bytes = names_.size() + token.size();
  std::byte* names = nullptr;
  std::byte* attrs = nullptr;
  const size_t attrs_bytes = with_attrs_ ? attrs_.size() * sizeof(PackedAttr) : 0;
  if (names_bytes > 0 &&
      (names = static_cast<std::byte*>(cache.allocate(names_bytes))) == nullptr) {
    return false;
  }
  if (attrs_bytes > 0 &&
      (attrs = static_cast<std::byte*>(cache.allocate(attrs_bytes))) == nullptr) {
    if (names != nullptr) cache.free(names, names_bytes);
    return false;
  }
  if (!names_.empty()) std::memcpy(names, names_.data(), names_.size());
  if (!token.empty()) std::memcpy(names + names_.size(), token.data(), token.size());
  if (attrs != nullptr) std::memcpy(attrs, attrs_.data(), attrs_bytes);
  ArrayHeader& header = page_->header;
  header.last_cookie = last_cookie;
  header.names = names;
  header.attrs = attrs;
  header.names_bytes = static_cast<uint16_t>(names_bytes);
  header.count = static_cast<uint16_t>(count_);
  header.flags = static_cast<uint16_t>(flags | order_flags());
  header.token_length = static_cast<uint16_t>(token.size());
  Stats& stats = cache.stats();
  stats.names_bytes.add(static_cast<int64_t>(names_bytes));
  stats.attrs_bytes.add(static_cast<int64_t>(attrs_bytes));
  stats.entries_resident.add(count_ - view().removed_count());
  return true;
}

void ArrayHooks::free_page(std::byte* content) noexcept {
  ArrayHeader& header = array_on(content).header;
  const size_t attrs_bytes = header.attrs != nullptr ? header.count * sizeof(PackedAttr) : 0;
  if (header.names != nullptr) cache_.free(header.names, header.names_bytes);
  if (header.attrs != nullptr) cache_.free(header.attrs, attrs_bytes);
  Stats& stats = cache_.stats();
  stats.names_bytes.sub(header.names_bytes);
  stats.attrs_bytes.sub(static_cast<int64_t>(attrs_bytes));
  stats.entries_resident.sub(header.count - ArrayView::of(content).removed_count());
  header = ArrayHeader{};
}

std::shared_ptr<IndexOwner> ArrayHooks::take_oldest() {
  MutexLock lock(mutex_);
  while (!noted_.empty()) {
    std::shared_ptr<IndexOwner> owner = noted_.front().owner.lock();
    forget_locked(noted_.front().key);
    if (owner) return owner;
  }
  return nullptr;
}

void ArrayHooks::forget_locked(const IndexOwner* owner) {
  const auto at = places_.find(owner);
  if (at == places_.end()) return;
  noted_.erase(at->second);
  places_.erase(at);
}

void ArrayHooks::forget_owner(const IndexOwner& owner) {
  MutexLock lock(mutex_);
  forget_locked(&owner);
}

void ArrayHooks::note_names(const std::shared_ptr<IndexOwner>& owner) {
  {
    MutexLock lock(mutex_);
    forget_locked(owner.get());
    places_[owner.get()] = noted_.insert(noted_.end(), {.key = owner.get(), .owner = owner});
  }
  while (static_cast<uint64_t>(cache_.stats().name_index_bytes.get()) >
         cache_.bound_bytes() / NameIndex::kShare) {
    const std::shared_ptr<IndexOwner> oldest = take_oldest();
    if (!oldest) return;
    oldest->drop_names();
  }
}

void ArrayHooks::shrink() noexcept {
  while (const std::shared_ptr<IndexOwner> owner = take_oldest()) owner->drop_names();
}

}  // namespace cache
