// The names that a listing must hold, and the check of one listing against them.
//
// Purpose:        what `getdents_stress` and `check_listing` share: a set that a million names fit
//                 into, and a tally of what was seen once, twice or never.
// Ownership:      NameSet owns its names; a ListingCheck refers to a NameSet that outlives it.
// Thread-safety:  a NameSet that nobody changes may be read by any thread; a ListingCheck belongs
//                 to one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace stress {

constexpr uint32_t kNotInSet = UINT32_MAX;

class NameSet {
 public:
  NameSet();

  // Returns false when the name is there already.
  bool add(std::string_view name);
  [[nodiscard]] uint32_t find(std::string_view name) const;  // its index, or kNotInSet
  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(ends_.size()); }
  [[nodiscard]] std::string_view name(uint32_t index) const;

  // Reads NUL-separated names, those that begin with `prefix`. Returns false on an error (errno).
  bool read_file(const std::string& path, std::string_view prefix);
  // Writes them NUL-separated. Returns false on an error (errno).
  [[nodiscard]] bool write_file(const std::string& path) const;

 private:
  [[nodiscard]] size_t slot_of(std::string_view name) const;
  void grow();

  std::string bytes_;            // all names, one behind the other
  std::vector<size_t> ends_;     // where each ends in bytes_
  std::vector<uint32_t> slots_;  // index or kNotInSet; open addressing, a power of two
};

// What becomes of names that are not in the set.
enum class Others {
  kUnexpected,  // the directory does not change: each is a mistake
  kAtMostOnce,  // it does: they may come and go, but not appear twice
};

struct Figures {
  uint64_t listings = 0;    // listings read from begin to end
  uint64_t entries = 0;     // entries returned, '.' and '..' included
  uint64_t duplicates = 0;  // names returned a second time
  uint64_t gaps = 0;        // expected names that a whole listing did not hold
  uint64_t unexpected = 0;  // names that should not exist

  Figures& operator+=(const Figures& other);
};

// One listing, from its beginning (or from a rewind) on.
class ListingCheck {
 public:
  ListingCheck(const NameSet& expected, Others others);

  // Takes the next name. Returns its index in the set, or kNotInSet.
  uint32_t see(std::string_view name);
  // The end was reached: counts a listing, and what it lacked.
  void finish();
  // Begins again (rewinddir), keeping the figures.
  void restart();

  // Whether no expected name has come since the beginning.
  [[nodiscard]] bool nothing_expected_seen() const { return seen_count_ == 0; }
  [[nodiscard]] const Figures& figures() const { return figures_; }
  // The first thing that was wrong, empty when nothing was.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  void report(const char* what, std::string_view name);

  const NameSet& expected_;
  const Others others_;
  std::vector<bool> seen_;
  std::unordered_set<std::string> others_seen_;
  uint64_t seen_count_ = 0;
  Figures figures_;
  std::string problem_;
};

}  // namespace stress
