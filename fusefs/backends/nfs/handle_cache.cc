#include "fusefs/backends/nfs/handle_cache.h"

namespace fusefs::nfs {

using cache::MutexLock;

std::optional<HandleCache::Known> HandleCache::find(std::string_view path) {
  MutexLock lock(mutex_);
  const auto found = index_.find(path);
  if (found == index_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->known;
}

void HandleCache::put(std::string_view path, uint64_t ino, const Handle& handle) {
  MutexLock lock(mutex_);
  if (const auto found = index_.find(path); found != index_.end()) {
    found->second->known = {.ino = ino, .handle = handle};
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
  }
  if (entries_.size() >= capacity_) {
    index_.erase(entries_.back().path);
    entries_.pop_back();
  }
  entries_.push_front({.path = std::string(path), .known = {.ino = ino, .handle = handle}});
  index_.emplace(entries_.front().path, entries_.begin());
}

void HandleCache::forget_way(std::string_view path) {
  MutexLock lock(mutex_);
  while (!path.empty()) {
    if (const auto found = index_.find(path); found != index_.end()) {
      const auto entry = found->second;
      index_.erase(found);
      entries_.erase(entry);
    }
    const size_t slash = path.rfind('/');
    path = path.substr(0, slash == std::string_view::npos ? 0 : slash);
  }
}

size_t HandleCache::size() {
  MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace fusefs::nfs
