#include "fusefs/backends/local/dir_fd_cache.h"

#include <algorithm>
#include <utility>

namespace fusefs::local {

using cache::MutexLock;

UniqueFd DirFdCache::take(const Place& place) {
  List taken;
  List expired;
  MutexLock lock(mutex_);
  expire_locked(&expired);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const Kept& kept) { return kept.place == place; });
  if (found == kept_.end()) return UniqueFd();
  taken.splice(taken.begin(), kept_, found);
  return std::move(taken.front().fd);
}

void DirFdCache::keep(Place place, UniqueFd fd) {
  if (capacity_ == 0) return;
  List expired;
  List added;
  added.push_back(Kept{std::move(place), std::move(fd), clock_.now()});
  MutexLock lock(mutex_);
  expire_locked(&expired);
  const auto same = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) {
    return kept.place == added.front().place;
  });
  if (same != kept_.end()) expired.splice(expired.begin(), kept_, same);
  if (kept_.size() >= capacity_) expired.splice(expired.begin(), kept_, std::prev(kept_.end()));
  kept_.splice(kept_.begin(), added);
}

void DirFdCache::clear() {
  List closed;
  MutexLock lock(mutex_);
  closed.swap(kept_);
}

size_t DirFdCache::size() const {
  MutexLock lock(mutex_);
  return kept_.size();
}

void DirFdCache::expire_locked(List* expired) {
  const cache::TimePoint oldest = clock_.now() - kMaxAge;
  while (!kept_.empty() && kept_.back().since < oldest) {
    expired->splice(expired->begin(), kept_, std::prev(kept_.end()));
  }
}

}  // namespace fusefs::local
