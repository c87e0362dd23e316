// NameIndex: which array holds a name, for listings too long to look through.
//
// Purpose:        answers stat after stat of listed names, in any order, without the remote. Made
//                 when lookups show that it is wanted, of the arrays that are there.
// Format:         open addressing; a slot is 12 bits of the name's hash and 20 bits that number the
//                 array, 4 bytes, at 1.5 to 3 slots an entry. It only ever says where to look: the
//                 array is searched, so that one that is gone or was filled anew does no harm.
// Ownership:      owns its tables; charged to the cache's budget while it lives.
// Thread-safety:  none of its own: guarded by the directory's index mutex.
// Errors:         create() gives null, add() false where there is no room; it does not grow.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/dir/readdir_array.h"

namespace cache {

class PageCache;

class NameIndex {
 public:
  static constexpr uint64_t kShare = 16;  // of what the cache may hold: all indexes together

  // For so many entries and half as many again at least.
  static std::unique_ptr<NameIndex> create(PageCache& cache, uint64_t entries, uint64_t arrays);
  ~NameIndex();
  NameIndex(const NameIndex&) = delete;
  NameIndex& operator=(const NameIndex&) = delete;

  // The array of that key has these names (as well). False: full, and not all are in.
  bool add(uint64_t key, const ArrayView& view);
  // Keys of arrays that may hold the name, at most as many as fit; how many.
  [[nodiscard]] size_t find(std::string_view name, std::span<uint64_t> keys) const;
  [[nodiscard]] uint64_t arrays() const { return keys_.size(); }

 private:
  static constexpr uint32_t kArrayBits = 20;
  static constexpr uint32_t kMostSteps = 1024;  // names can be made to collide
  static constexpr uint32_t kArrayMask = (1u << kArrayBits) - 1;

  NameIndex(PageCache& cache, uint64_t slots, uint64_t most_arrays, uint64_t bytes);
  [[nodiscard]] uint64_t slot_of(uint64_t hash) const { return hash & (slots_.size() - 1); }
  static uint32_t mark_of(uint64_t hash) {
    return static_cast<uint32_t>(hash >> 52) << kArrayBits;  // the bits that choose no slot
  }

  PageCache& cache_;
  const uint64_t bytes_;
  const uint64_t most_arrays_;
  uint64_t used_ = 0;
  std::vector<uint32_t> slots_;                    // 0: empty; else mark and number + 1
  std::vector<uint64_t> keys_;                     // by number
  std::unordered_map<uint64_t, uint32_t> number_;  // by key
};

}  // namespace cache
