// Anchors: what outlives an array: its key, where it stands, and what the remote must be told.
//
// Purpose:        refill an evicted part of a listing from its own key, in any order and side by
//                 side; find the array of a seek position; know mapped tokens by key.
// Ownership:      owns its nodes; charged to the cache's budget.
// Thread-safety:  none of its own: guarded by the directory's mutex.
// Errors:         add() is false when the budget has no room.
// Bound:          anchors of earlier generations (a generation ends when the arrays are
//                 invalidated) are kept for kGenerations, and not when there is no room for a new
//                 one.
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace cache {

class PageCache;

struct Anchor : boost::intrusive::set_base_hook<boost::intrusive::optimize_size<true>> {
  uint64_t key = 0;
  uint64_t next_key = 0;  // of the array after it; 0: not known, or the last
  uint32_t position = 0;  // of the array's first entry in the listing
  uint32_t generation = 0;
  std::string token;  // mapped cookies only
};

class Anchors {
 public:
  explicit Anchors(PageCache& cache) : cache_(cache) {}
  ~Anchors() { clear(); }
  Anchors(const Anchors&) = delete;
  Anchors& operator=(const Anchors&) = delete;

  bool add(uint64_t key, uint32_t position, std::string_view token);
  // Both keys are known; `next` follows `key`.
  void chain(uint64_t key, uint64_t next);
  [[nodiscard]] const Anchor* find(uint64_t key) const;
  // Added in this generation.
  [[nodiscard]] bool is_new(uint64_t key) const;
  // The array after this one, as far as this generation has seen it.
  [[nodiscard]] const Anchor* after(uint64_t key) const;
  // For ordered cookies: the array that must hold the entry after `cookie`.
  [[nodiscard]] const Anchor* at_or_below(uint64_t cookie) const;
  [[nodiscard]] const Anchor* at_or_above(uint64_t cookie) const;
  void clear();
  // The arrays are gone; keys in the hands of programs are still resolved, for some generations.
  void begin_generation();
  [[nodiscard]] uint64_t size() const { return set_.size(); }
  // Where this generation's last array begins. Looks at all of them.
  [[nodiscard]] uint32_t last_position() const;
  // Since the last clear() every key is known that was ever to be added.
  [[nodiscard]] bool knows_all() const { return !forgot_; }

 private:
  struct KeyOf {
    using type = uint64_t;
    type operator()(const Anchor& anchor) const { return anchor.key; }
  };
  using Set = boost::intrusive::set<Anchor, boost::intrusive::key_of_value<KeyOf>>;
  static constexpr uint32_t kGenerations = 4;
  void forget_before(uint32_t generation);
  static uint64_t cost(std::string_view token);
  void erase(Anchor* anchor);

  PageCache& cache_;
  Set set_;
  uint32_t generation_ = 0;
  bool added_ = false;  // anything, in this generation
  bool forgot_ = false;
};

}  // namespace cache
