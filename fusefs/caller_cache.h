// CallerCache: who calls, remembered for a moment.
//
// Purpose:        a caller's supplementary groups stand in /proc: reading them costs more than many
//                 a request. A program keeps its identity, so it is asked for once in kMaxAge.
// What may be old: a program that drops or gains groups goes by the old ones for up to kMaxAge, and
//                 so does one that gets the process number of another that has just ended, if
//                 user and group are the same.
// Ownership:      owns the identities; who got one shares it.
// Thread-safety:  all members from any thread.
// Locks:          a leaf, not held while groups are fetched.
// Bounds:         kPlaces identities; two processes that fall on one place take turns.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

class CallerCache {
 public:
  static constexpr std::chrono::seconds kMaxAge{1};
  static constexpr size_t kPlaces = 64;

  // What the kernel tells with a request. pid 0: a process outside our view.
  struct Process {
    int32_t pid = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    bool operator==(const Process&) const = default;
  };

  CallerPtr find(const Process& process, cache::TimePoint now,
                 const std::function<std::vector<uint32_t>()>& fetch_groups);

 private:
  struct Place {
    Process process;
    cache::TimePoint fetched;
    CallerPtr caller;  // null: unused
  };

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  std::array<Place, kPlaces> places_ GUARDED_BY(mutex_);
};

// The supplementary groups of a process, as /proc tells; none where it does not (the process has
// ended, or is outside our view). (libfuse 3.14's fuse_req_getgroups searches a buffer without an
// end.)
std::vector<uint32_t> groups_of(int32_t pid);

}  // namespace fusefs
