// One lister: reads a directory again and again, in ways that programs may, and checks each.
//
// Purpose:        three kinds of listing, picked at random from a seed: from begin to end, with a
//                 rewind in the middle, and with seeks to remembered positions.
// Ownership:      refers to Plan, which outlives it.
// Thread-safety:  a Lister belongs to one thread; Plan is constant, Progress is atomic.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tools/stress/dir_stream.h"
#include "tools/stress/name_set.h"

namespace stress {

struct Plan {
  std::string directory;
  NameSet expected;
  Others others = Others::kUnexpected;
  std::vector<size_t> buffers;  // bytes; 0: another size each time
  bool plain = true, rewind = true, seek = true;
  uint32_t seeks = 16;      // seeks after a pass that remembers positions
  uint32_t retries = 0;     // how often a failed call is repeated from the same place
  uint64_t delay_us = 0;    // between two calls: a slow reader
  bool may_vanish = false;  // the mount may go away: stop without a complaint
  uint64_t seed = 1;
};

// What all listers did. Counters only rise; nothing is ordered by them (relaxed).
struct Progress {
  std::atomic<uint64_t> entries{0};
  std::atomic<bool> stop{false};  // set: every lister ends at its next call
};

struct ListerFigures {
  Figures names;
  uint64_t rewinds = 0;
  uint64_t seeks = 0;
  uint64_t bad_seeks = 0;    // seeks that were followed by other entries than before
  uint64_t bad_offsets = 0;  // d_off outside [1, 2^63-1]
  uint64_t retried = 0;      // failed calls that were repeated
  uint64_t errors = 0;       // calls that failed for good
  std::string problem;       // the first of them, in words

  ListerFigures& operator+=(const ListerFigures& other);
  [[nodiscard]] bool wrong() const;  // whether a listing was
};

class Lister {
 public:
  Lister(const Plan& plan, Progress* progress, uint64_t number);

  // One listing of a random kind. Returns false when there is no point in going on.
  bool run_once();
  [[nodiscard]] const ListerFigures& figures() const { return figures_; }

 private:
  struct Position {
    uint64_t offset;
    uint32_t index;  // in plan_.expected, or kNotInSet
  };
  enum class End { kReached, kFailed, kStopped };

  bool list_plain(ListingCheck* check);
  bool list_rewound(ListingCheck* check);
  bool list_and_seek(ListingCheck* check);
  bool check_seek(const std::vector<Position>& positions);
  End read_to_end(ListingCheck* check, std::vector<Position>* positions);
  int64_t read_batch(const std::function<void(const DirEntry&)>& visit);
  bool open();
  bool failed(const char* call, int64_t error);
  void complain(const std::string& what);
  uint64_t random(uint64_t bound) { return random_() % bound; }

  const Plan& plan_;
  Progress* const progress_;
  const uint64_t number_;
  std::mt19937_64 random_;
  size_t buffer_ = 0;  // of this listing; 0: another size each time
  DirStream stream_;
  ListerFigures figures_;
};

}  // namespace stress
