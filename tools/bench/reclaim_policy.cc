#include "tools/bench/reclaim_policy.h"

#include <algorithm>
#include <array>
#include <deque>
#include <list>
#include <queue>
#include <set>
#include <utility>

#include "cache/base/hash.h"

namespace bench {
namespace {

constexpr uint32_t kNever = UINT32_MAX;

// Queues of page numbers with a place for each page: what every policy below is built from.
using Queue = std::list<PageNumber>;  // front: young
struct Place {
  uint8_t queue = 0;  // 0: not in the cache
  uint8_t used = 0;
  Queue::iterator at;
};

class Lru final : public Policy {
 public:
  Lru(uint32_t capacity, uint32_t pages) : capacity_(capacity), places_(pages) {}
  bool use(PageNumber page) override {
    Place& place = places_[page];
    if (place.queue != 0) {
      queue_.splice(queue_.begin(), queue_, place.at);
      return true;
    }
    if (queue_.size() == capacity_) {
      places_[queue_.back()].queue = 0;
      queue_.pop_back();
    }
    queue_.push_front(page);
    place = {.queue = 1, .used = 0, .at = queue_.begin()};
    return false;
  }

 private:
  const uint32_t capacity_;
  std::vector<Place> places_;
  Queue queue_;
};

class Clock final : public Policy {
 public:
  Clock(uint32_t capacity, uint32_t pages) : capacity_(capacity), places_(pages) {}
  bool use(PageNumber page) override {
    Place& place = places_[page];
    if (place.queue != 0) {
      place.used = 1;
      return true;
    }
    while (queue_.size() == capacity_) {
      Place& oldest = places_[queue_.back()];
      if (oldest.used != 0) {
        oldest.used = 0;
        queue_.splice(queue_.begin(), queue_, oldest.at);
      } else {
        oldest.queue = 0;
        queue_.pop_back();
      }
    }
    queue_.push_front(page);
    place = {.queue = 1, .used = 0, .at = queue_.begin()};
    return false;
  }

 private:
  const uint32_t capacity_;
  std::vector<Place> places_;
  Queue queue_;
};

class Sieve final : public Policy {
 public:
  Sieve(uint32_t capacity, uint32_t pages)
      : capacity_(capacity), places_(pages), hand_(queue_.end()) {}
  bool use(PageNumber page) override {
    Place& place = places_[page];
    if (place.queue != 0) {
      place.used = 1;
      return true;
    }
    if (queue_.size() == capacity_) evict();
    queue_.push_front(page);
    place = {.queue = 1, .used = 0, .at = queue_.begin()};
    return false;
  }

 private:
  // The hand goes from old to young and stays where it took a page; it moves none.
  void evict() {
    for (;;) {
      if (hand_ == queue_.end()) hand_ = std::prev(queue_.end());
      Place& place = places_[*hand_];
      const Queue::iterator here = hand_;
      hand_ = here == queue_.begin() ? queue_.end() : std::prev(here);
      if (place.used == 0) {
        place.queue = 0;
        queue_.erase(here);
        return;
      }
      place.used = 0;
    }
  }

  const uint32_t capacity_;
  std::vector<Place> places_;
  Queue queue_;
  Queue::iterator hand_;
};

class S3Fifo final : public Policy {
 public:
  S3Fifo(uint32_t capacity, uint32_t pages)
      : capacity_(capacity),
        small_share_(std::max(capacity / 10, 1U)),
        places_(pages),
        ghost_until_(pages, 0) {}
  bool use(PageNumber page) override {
    Place& place = places_[page];
    if (place.queue != 0) {
      place.used = static_cast<uint8_t>(std::min(place.used + 1, 3));
      return true;
    }
    while (small_.size() + main_.size() >= capacity_) evict();
    const bool ghost = ghost_until_[page] > ghosts_;
    ghost_until_[page] = 0;
    Queue& to = ghost ? main_ : small_;
    to.push_front(page);
    place = {.queue = ghost ? kMain : kSmall, .used = 0, .at = to.begin()};
    return false;
  }

 private:
  static constexpr uint8_t kSmall = 1;
  static constexpr uint8_t kMain = 2;

  void evict() {
    if (small_.size() >= small_share_ || main_.empty()) {
      while (!small_.empty()) {
        const PageNumber page = small_.back();
        Place& place = places_[page];
        if (place.used <= 1) {
          small_.pop_back();
          place.queue = 0;
          ghost_until_[page] = ++ghosts_ + capacity_ - small_share_;
          return;
        }
        main_.splice(main_.begin(), small_, place.at);
        place.queue = kMain;
        place.used = 0;
        if (main_.size() > capacity_ - small_share_) return evict_main();
      }
      return;
    }
    evict_main();
  }
  void evict_main() {
    for (;;) {
      Place& place = places_[main_.back()];
      if (place.used == 0) {
        place.queue = 0;
        main_.pop_back();
        return;
      }
      --place.used;
      main_.splice(main_.begin(), main_, place.at);
    }
  }

  const uint32_t capacity_;
  const uint32_t small_share_;
  std::vector<Place> places_;
  std::vector<uint64_t> ghost_until_;  // remembered until so many have followed it
  uint64_t ghosts_ = 0;
  Queue small_, main_;
};

// How often a page was used lately: four rows of counters to 15, halved every ten capacities.
class Sketch {
 public:
  explicit Sketch(uint32_t capacity) : mask_(1), period_(uint64_t{10} * capacity) {
    while (mask_ < uint64_t{4} * capacity) mask_ *= 2;
    for (auto& row : rows_) row.assign(mask_, 0);
    --mask_;
  }
  void count(PageNumber page) {
    for (uint64_t i = 0; i < rows_.size(); ++i) {
      uint8_t& counter = at(i, page);
      if (counter < 15) ++counter;
    }
    if (++counted_ < period_) return;
    counted_ /= 2;
    for (auto& row : rows_) {
      for (uint8_t& counter : row) counter /= 2;
    }
  }
  uint8_t estimate(PageNumber page) {
    uint8_t least = 15;
    for (uint64_t i = 0; i < rows_.size(); ++i) least = std::min(least, at(i, page));
    return least;
  }

 private:
  uint8_t& at(uint64_t row, PageNumber page) {
    return rows_[row][cache::mix64(page ^ (row << 40)) & mask_];
  }
  uint64_t mask_;
  const uint64_t period_;
  uint64_t counted_ = 0;
  std::array<std::vector<uint8_t>, 4> rows_;
};

// A window of a hundredth, then a segmented LRU (a fifth probation) that admits by frequency.
class WTinyLfu final : public Policy {
 public:
  WTinyLfu(uint32_t capacity, uint32_t pages)
      : window_share_(std::max(capacity / 100, 1U)),
        main_share_(capacity - window_share_),
        protected_share_(main_share_ * 4 / 5),
        places_(pages),
        sketch_(capacity) {}
  bool use(PageNumber page) override {
    sketch_.count(page);
    Place& place = places_[page];
    switch (place.queue) {
      case kWindow:
        window_.splice(window_.begin(), window_, place.at);
        return true;
      case kProtected:
        protected_.splice(protected_.begin(), protected_, place.at);
        return true;
      case kProbation:
        move(page, probation_, protected_, kProtected);
        if (protected_.size() > protected_share_) {
          move(protected_.back(), protected_, probation_, kProbation);
        }
        return true;
      default:
        break;
    }
    window_.push_front(page);
    place = {.queue = kWindow, .used = 0, .at = window_.begin()};
    if (window_.size() > window_share_) admit(window_.back());
    return false;
  }

 private:
  static constexpr uint8_t kWindow = 1;
  static constexpr uint8_t kProbation = 2;
  static constexpr uint8_t kProtected = 3;

  void move(PageNumber page, Queue& from, Queue& to, uint8_t queue) {
    to.splice(to.begin(), from, places_[page].at);
    places_[page].queue = queue;
  }
  void admit(PageNumber candidate) {
    move(candidate, window_, probation_, kProbation);
    if (probation_.size() + protected_.size() <= main_share_) return;
    PageNumber victim = candidate;
    if (probation_.size() > 1) {
      victim = probation_.back();
    } else if (!protected_.empty()) {
      victim = protected_.back();
    }
    if (sketch_.estimate(candidate) <= sketch_.estimate(victim)) victim = candidate;
    Place& place = places_[victim];
    (place.queue == kProtected ? protected_ : probation_).erase(place.at);
    place.queue = 0;
  }

  const uint32_t window_share_;
  const uint32_t main_share_;
  const uint32_t protected_share_;
  std::vector<Place> places_;
  Sketch sketch_;
  Queue window_, probation_, protected_;
};

template <typename P>
PolicyKind kind(const char* name) {
  return {name, [](uint32_t capacity, uint32_t pages) -> std::unique_ptr<Policy> {
            return std::make_unique<P>(capacity, pages);
          }};
}

}  // namespace

const std::vector<PolicyKind>& policies() {
  static const std::vector<PolicyKind> kAll = {
      {"cookiefs", make_own}, kind<Lru>("LRU"),        kind<Clock>("CLOCK"),
      kind<Sieve>("SIEVE"),   kind<S3Fifo>("S3-FIFO"), kind<WTinyLfu>("W-TinyLFU")};
  return kAll;
}

double hit_ratio(Policy& policy, const Trace& trace, const Counts& counts) {
  uint64_t hits = 0;
  uint64_t uses = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const bool hit = policy.use(trace[i]);
    if (counts && !counts(i)) continue;
    ++uses;
    hits += hit ? 1 : 0;
  }
  return uses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(uses);
}

double optimum(const Trace& trace, uint32_t capacity, const Counts& counts) {
  uint32_t pages = 0;
  for (const PageNumber page : trace) pages = std::max(pages, page + 1);
  std::vector<uint32_t> next(trace.size());
  std::vector<uint32_t> later(pages, kNever);
  for (size_t i = trace.size(); i-- > 0;) {
    next[i] = later[trace[i]];
    later[trace[i]] = static_cast<uint32_t>(i);
  }
  std::set<std::pair<uint32_t, PageNumber>> resident;  // by next use
  std::vector<uint32_t> due(pages, 0);
  std::vector<bool> here(pages, false);
  uint64_t hits = 0;
  uint64_t uses = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const PageNumber page = trace[i];
    const bool hit = here[page];
    if (hit) {
      resident.erase({due[page], page});
    } else if (resident.size() == capacity) {
      const auto farthest = std::prev(resident.end());
      here[farthest->second] = false;
      resident.erase(farthest);
    }
    here[page] = true;
    due[page] = next[i];
    resident.insert({next[i], page});
    if (counts && !counts(i)) continue;
    ++uses;
    hits += hit ? 1 : 0;
  }
  return uses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(uses);
}

}  // namespace bench
