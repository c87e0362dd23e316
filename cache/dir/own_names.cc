#include "cache/dir/own_names.h"

#include <utility>

#include "cache/mm/page_cache.h"

namespace cache {

// A node, its bucket, malloc's own headers, and the heap part of a long name.
uint64_t OwnNames::cost(std::string_view name) {
  return sizeof(Map::value_type) + 40 + (name.size() > 15 ? name.size() + 17 : 0);
}

bool OwnNames::put(std::string_view name, const Entry& entry) {
  const uint64_t bytes = cost(name);
  if (lost()) return false;
  if (!cache_.charge(bytes)) {
    lose();
    return false;
  }
  bool is_new = false;
  bool note = false;
  {
    MutexLock lock(mutex_);
    if (!lost_.load(std::memory_order_relaxed)) {
      is_new = entries_.insert_or_assign(std::string(name), entry).second;
      any_.store(true, std::memory_order_release);
      if (is_new) unnoted_ += bytes;
      note = unnoted_ >= kNoteBytes;
      if (note) unnoted_ = 0;
    }
  }
  if (is_new) {
    cache_.stats().name_index_bytes.add(static_cast<int64_t>(bytes));
  } else {
    cache_.uncharge(bytes);
  }
  return note;
}

void OwnNames::erase(std::string_view name) {
  if (!any()) return;
  Map gone;
  {
    MutexLock lock(mutex_);
    const auto at = entries_.find(name);
    if (at == entries_.end()) return;
    gone.insert(entries_.extract(at));
    any_.store(!entries_.empty() || lost(), std::memory_order_release);
  }
  release(std::move(gone));
}

std::optional<OwnNames::Entry> OwnNames::find(std::string_view name) const {
  if (!any()) return std::nullopt;
  MutexLock lock(mutex_);
  const auto at = entries_.find(name);
  return at == entries_.end() ? std::nullopt : std::optional<Entry>(at->second);
}

uint64_t OwnNames::size() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

void OwnNames::drop() {
  if (size() > 0) lose();
}

void OwnNames::lose() {
  Map gone;
  {
    MutexLock lock(mutex_);
    gone.swap(entries_);
    any_.store(true, std::memory_order_release);
    lost_.store(true, std::memory_order_release);
  }
  release(std::move(gone));
}

void OwnNames::clear() {
  if (!any()) return;
  Map gone;
  {
    MutexLock lock(mutex_);
    gone.swap(entries_);
    unnoted_ = kNoteBytes;
    any_.store(false, std::memory_order_release);
    lost_.store(false, std::memory_order_release);
  }
  release(std::move(gone));
}

void OwnNames::release(Map&& entries) {
  uint64_t bytes = 0;
  for (const auto& [name, entry] : entries) bytes += cost(name);
  Map(std::move(entries)).clear();
  if (bytes == 0) return;
  cache_.stats().name_index_bytes.sub(static_cast<int64_t>(bytes));
  cache_.uncharge(bytes);
}

}  // namespace cache
