#include "cache/dir/anchors.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "cache/mm/page_cache.h"

namespace cache {

// malloc's own header, and the heap part of a string longer than its inline buffer.
uint64_t Anchors::cost(std::string_view token) {
  return sizeof(Anchor) + 16 + (token.size() > 15 ? token.size() + 17 : 0);
}

bool Anchors::add(uint64_t key, uint32_t position, std::string_view token) {
  auto at = set_.find(key);
  if (at != set_.end()) {
    if (at->token == token) {
      if (at->generation != generation_) at->next_key = 0;
      at->position = position;
      at->generation = generation_;
      added_ = true;
      return true;
    }
    erase(&*at);
  }
  if (!cache_.charge(cost(token))) {
    forget_before(generation_);
    if (!cache_.charge(cost(token))) {
      forgot_ = true;
      return false;
    }
  }
  auto anchor = std::make_unique<Anchor>();
  anchor->key = key;
  anchor->position = position;
  anchor->generation = generation_;
  added_ = true;
  anchor->token.assign(token);
  set_.insert(*anchor.release());
  cache_.stats().anchors.add(1);
  return true;
}

void Anchors::chain(uint64_t key, uint64_t next) {
  const auto at = set_.find(key);
  if (at != set_.end()) at->next_key = next;
}

const Anchor* Anchors::after(uint64_t key) const {
  const Anchor* at = find(key);
  if (at == nullptr || at->next_key == 0 || at->generation != generation_) return nullptr;
  const Anchor* next = find(at->next_key);
  return next != nullptr && next->generation == generation_ ? next : nullptr;
}

uint32_t Anchors::last_position() const {
  uint32_t last = 0;
  for (const Anchor& anchor : set_) {
    if (anchor.generation == generation_) last = std::max(last, anchor.position);
  }
  return last;
}

void Anchors::erase(Anchor* anchor) {
  set_.erase(set_.iterator_to(*anchor));
  cache_.uncharge(cost(anchor->token));
  cache_.stats().anchors.sub(1);
  forgot_ = true;
  delete anchor;
}

const Anchor* Anchors::find(uint64_t key) const {
  const auto at = set_.find(key);
  return at == set_.end() ? nullptr : &*at;
}

bool Anchors::is_new(uint64_t key) const {
  const Anchor* anchor = find(key);
  return anchor != nullptr && anchor->generation == generation_;
}

const Anchor* Anchors::at_or_below(uint64_t cookie) const {
  auto at = set_.upper_bound(cookie);
  if (at == set_.begin()) return nullptr;
  return &*--at;
}

const Anchor* Anchors::at_or_above(uint64_t cookie) const {
  const auto at = set_.lower_bound(cookie);
  return at == set_.end() ? nullptr : &*at;
}

void Anchors::forget_before(uint32_t generation) {
  for (auto at = set_.begin(); at != set_.end();) {
    Anchor* anchor = &*at++;
    if (anchor->generation < generation) erase(anchor);
  }
}

void Anchors::begin_generation() {
  if (!std::exchange(added_, false)) return;
  ++generation_;
  if (generation_ > kGenerations) forget_before(generation_ - kGenerations);
}

void Anchors::clear() {
  while (!set_.empty()) erase(&*set_.begin());
  forgot_ = false;
}

}  // namespace cache
