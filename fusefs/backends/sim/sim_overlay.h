// What has changed in a computed directory: entries that came, entries that went.
//
// Purpose:        memory proportional to the changes, never to the directory.
// Ownership:      a SimTree owns one for each directory that was changed, and an empty one for all
//                 others.
// Thread-safety:  none of its own; the back end's lock protects it.
// Bound:          churn holds at most kSimChurnAlive entries; the rest is what tests put in.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>

namespace fusefs {

// Where an added entry stands: after the numbered entry at `position`, in a gap at a position of
// its own, or where an original was that it replaced. By name only where positions are shared
// (cookies=name).
struct SimPlace {
  uint64_t position = 0;
  std::string name{};
  bool operator<(const SimPlace& other) const {
    return std::tie(position, name) < std::tie(other.position, other.name);
  }
};

class SimOverlay {
 public:
  using Added = std::map<SimPlace, uint64_t>;  // to inode numbers
  using Removed = std::set<uint64_t>;          // numbers of original entries

  // The caller has made sure that the name and the place are free.
  void add(SimPlace place, uint64_t ino);
  // Another object under the name of an added entry, which keeps its place.
  void replace_added(std::string_view name, uint64_t ino);
  // False when no such entry was added.
  bool remove_added(std::string_view name);
  // The original entry `number`; false when it was removed before.
  bool remove_original(uint64_t number);

  [[nodiscard]] const Added& added() const { return added_; }
  [[nodiscard]] const Removed& removed() const { return removed_; }
  [[nodiscard]] bool is_removed(uint64_t number) const { return removed_.contains(number); }
  [[nodiscard]] bool taken(uint64_t position) const;
  // The place and inode number of an added entry.
  [[nodiscard]] Added::const_iterator find(std::string_view name) const;

  // Counts changes; starts at 0.
  [[nodiscard]] uint64_t version() const { return version_; }
  // Changes that came and went unseen.
  void skip_versions(uint64_t count) { version_ += count; }

 private:
  Added added_;
  Removed removed_;
  std::unordered_map<std::string, Added::const_iterator> names_;
  uint64_t version_ = 0;
};

}  // namespace fusefs
