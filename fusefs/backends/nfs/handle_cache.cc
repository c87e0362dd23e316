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
    if (const auto found = index_.find(path); found != index_.end()) erase_locked(found);
    const size_t slash = path.rfind('/');
    path = path.substr(0, slash == std::string_view::npos ? 0 : slash);
  }
}

void HandleCache::erase_locked(Index::iterator found) {
  const auto entry = found->second;
  index_.erase(found);
  entries_.erase(entry);
}

std::vector<HandleCache::List::iterator> HandleCache::tree_locked(std::string_view path) {
  std::vector<List::iterator> tree;
  if (const auto found = index_.find(path); found != index_.end()) tree.push_back(found->second);
  std::string below(path);
  below.push_back('/');
  for (auto at = index_.lower_bound(below); at != index_.end() && at->first.starts_with(below);
       ++at) {
    tree.push_back(at->second);
  }
  return tree;
}

void HandleCache::forget_tree(std::string_view path) {
  MutexLock lock(mutex_);
  for (const auto& entry : tree_locked(path)) erase_locked(index_.find(entry->path));
}

void HandleCache::move_tree(std::string_view from, std::string_view to) {
  MutexLock lock(mutex_);
  for (const auto& entry : tree_locked(to)) erase_locked(index_.find(entry->path));
  for (const auto& entry : tree_locked(from)) {
    index_.erase(entry->path);
    entry->path = std::string(to).append(entry->path, from.size());
    index_.emplace(entry->path, entry);
  }
}

size_t HandleCache::size() {
  MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace fusefs::nfs
