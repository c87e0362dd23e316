#include "fusefs/caller_cache.h"

#include <fstream>
#include <sstream>
#include <string>
#include <utility>

namespace fusefs {

CallerPtr CallerCache::find(const Process& process, cache::TimePoint now,
                            const std::function<std::vector<uint32_t>()>& fetch_groups) {
  const size_t index = static_cast<uint32_t>(process.pid) % kPlaces;
  {
    cache::MutexLock lock(mutex_);
    const Place& place = places_[index];
    if (place.caller && place.process == process && now - place.fetched < kMaxAge) {
      return place.caller;
    }
  }
  auto caller = std::make_shared<const Caller>(
      Caller{.uid = process.uid, .gid = process.gid, .groups = fetch_groups()});
  CallerPtr old;  // destroyed outside the lock
  cache::MutexLock lock(mutex_);
  old = std::exchange(places_[index].caller, caller);
  places_[index].process = process;
  places_[index].fetched = now;
  return caller;
}

std::vector<uint32_t> groups_of(int32_t pid) {
  std::vector<uint32_t> groups;
  const std::string id = std::to_string(pid);
  std::ifstream status("/proc/" + id + "/task/" + id + "/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("Groups:")) continue;
    std::istringstream numbers(line.substr(line.find(':') + 1));
    for (uint32_t group = 0; numbers >> group;) groups.push_back(group);
    break;
  }
  return groups;
}

}  // namespace fusefs
