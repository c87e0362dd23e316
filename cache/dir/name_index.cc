#include "cache/dir/name_index.h"

#include <algorithm>
#include <bit>

#include "cache/base/hash.h"
#include "cache/mm/page_cache.h"

namespace cache {
namespace {

constexpr uint64_t kLeastSlots = 4096;
// A key, and its node and bucket in the map.
constexpr uint64_t kBytesAnArray = 8 + 64;

}  // namespace

std::unique_ptr<NameIndex> NameIndex::create(PageCache& cache, uint64_t entries, uint64_t arrays) {
  const uint64_t slots = std::bit_ceil(std::max(kLeastSlots, entries + entries / 2));
  const uint64_t most_arrays = std::min<uint64_t>(arrays * 2 + 64, kArrayMask);
  const uint64_t bytes = sizeof(NameIndex) + slots * sizeof(uint32_t) + most_arrays * kBytesAnArray;
  if (arrays > most_arrays || bytes > cache.bound_bytes() / kShare || !cache.charge(bytes))
    return {};
  return std::unique_ptr<NameIndex>(new NameIndex(cache, slots, most_arrays, bytes));
}

NameIndex::NameIndex(PageCache& cache, uint64_t slots, uint64_t most_arrays, uint64_t bytes)
    : cache_(cache), bytes_(bytes), most_arrays_(most_arrays), slots_(slots) {
  keys_.reserve(most_arrays_);
  number_.reserve(most_arrays_);
  cache_.stats().name_index_bytes.add(static_cast<int64_t>(bytes_));
}

NameIndex::~NameIndex() {
  cache_.stats().name_index_bytes.sub(static_cast<int64_t>(bytes_));
  cache_.uncharge(bytes_);
}

bool NameIndex::add(uint64_t key, const ArrayView& view) {
  const auto [known, is_new] = number_.try_emplace(key, static_cast<uint32_t>(keys_.size()));
  if (is_new) {
    if (keys_.size() == most_arrays_) return false;
    keys_.push_back(key);
  }
  const uint32_t number = known->second + 1;
  for (uint32_t i = 0; i < view.count(); ++i) {
    const uint64_t hash = hash_bytes(view.name(i));
    const uint32_t wanted = mark_of(hash) | number;
    uint64_t at = slot_of(hash);
    uint32_t steps = 0;
    while (slots_[at] != 0 && slots_[at] != wanted) {
      if (++steps > kMostSteps) return false;
      at = (at + 1) & (slots_.size() - 1);
    }
    if (slots_[at] == wanted) continue;  // as it was before the array was evicted, or another name
    if (used_ + 1 > slots_.size() - slots_.size() / 8) return false;
    slots_[at] = wanted;
    ++used_;
  }
  return true;
}

size_t NameIndex::find(std::string_view name, std::span<uint64_t> keys) const {
  const uint64_t hash = hash_bytes(name);
  const uint32_t mark = mark_of(hash);
  size_t found = 0;
  for (uint64_t at = slot_of(hash); slots_[at] != 0 && found < keys.size();
       at = (at + 1) & (slots_.size() - 1)) {
    if ((slots_[at] & ~kArrayMask) != mark) continue;
    keys[found++] = keys_[(slots_[at] & kArrayMask) - 1];
  }
  return found;
}

}  // namespace cache
