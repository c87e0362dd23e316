#include "fusefs/backends/sim/sim_overlay.h"

#include <utility>

#include "cache/base/check.h"

namespace fusefs {

void SimOverlay::add(SimPlace place, uint64_t ino) {
  const auto [entry, fresh] = added_.emplace(std::move(place), ino);
  CACHE_CHECK(fresh);
  CACHE_CHECK(names_.emplace(entry->first.name, entry).second);
  ++version_;
}

void SimOverlay::replace_added(std::string_view name, uint64_t ino) {
  const auto known = names_.find(std::string(name));
  CACHE_CHECK(known != names_.end());
  added_.find(known->second->first)->second = ino;
  ++version_;
}

bool SimOverlay::remove_added(std::string_view name) {
  const auto known = names_.find(std::string(name));
  if (known == names_.end()) return false;
  added_.erase(known->second);
  names_.erase(known);
  ++version_;
  return true;
}

bool SimOverlay::remove_original(uint64_t number) {
  if (!removed_.insert(number).second) return false;
  ++version_;
  return true;
}

bool SimOverlay::taken(uint64_t position) const {
  const auto at = added_.lower_bound(SimPlace{.position = position, .name = {}});
  return at != added_.end() && at->first.position == position;
}

SimOverlay::Added::const_iterator SimOverlay::find(std::string_view name) const {
  const auto known = names_.find(std::string(name));
  return known == names_.end() ? added_.end() : known->second;
}

}  // namespace fusefs
