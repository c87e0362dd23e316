// SimTree: the names in its directories, and how they come and go.

#include <algorithm>
#include <cstdio>

#include "cache/base/check.h"
#include "cache/base/hash.h"
#include "fusefs/backends/sim/sim_tree.h"

namespace fusefs {

using cache::mix64;
using cache::Result;
using cache::Status;

std::optional<uint64_t> SimTree::original_number(const SimNode& directory,
                                                 std::string_view name) const {
  const uint64_t count = originals_up_to(directory, name);
  if (count == 0 || overlay(directory).is_removed(count - 1)) return std::nullopt;
  SimNameBuffer buffer;
  if (original(directory, count - 1, &buffer).name != name) return std::nullopt;
  return count - 1;
}

std::optional<uint64_t> SimTree::position_of(const SimNode& directory,
                                             std::string_view name) const {
  const SimOverlay& changes = overlay(directory);
  const auto added = changes.find(name);
  if (added != changes.added().end()) return added->first.position;
  const std::optional<uint64_t> number = original_number(directory, name);
  if (!number) return std::nullopt;
  return places(directory).position(*number);
}

SimTree::Gap SimTree::gap_at(const SimNode& directory, uint64_t position, SimSide side) const {
  const SimPlaces& at = places(directory);
  const auto& added = overlay(directory).added();
  const SimPlace here{.position = position, .name = {}};
  Gap gap;
  if (side == SimSide::kAfter) {
    const uint64_t following = at.count_up_to(position);
    gap = {position, following < at.count ? at.position(following) : at.last + 1};
    const auto next = added.lower_bound({.position = position + 1, .name = {}});
    if (next != added.end()) gap.high = std::min(gap.high, next->first.position);
    return gap;
  }
  const uint64_t preceding = at.count_up_to(position - 1);
  gap = {preceding > 0 ? at.position(preceding - 1) : 0, position};
  const auto next = added.lower_bound(here);
  if (next != added.begin()) gap.low = std::max(gap.low, std::prev(next)->first.position);
  return gap;
}

SimPlace SimTree::place_by_name(const SimNode& directory, std::string_view name) const {
  const uint64_t before = originals_up_to(directory, name);
  return {.position = before == 0 ? 0 : places(directory).position(before - 1),
          .name = std::string(name)};
}

// Behind all entries a step apart at first, which leaves room between two of them.
std::optional<uint64_t> SimTree::free_position(const SimNode& directory) const {
  const SimPlaces& at = places(directory);
  const auto& added = overlay(directory).added();
  const uint64_t originals_end = at.count > 0 ? at.position(at.count - 1) : 0;
  uint64_t low = originals_end;
  // In an empty directory of huge cookies, those beyond 2^63.
  if (at.count == 0 && config_.cookies == SimCookies::kHuge) low = at.last / 2;
  if (!added.empty()) low = std::max(low, std::prev(added.end())->first.position);
  if (low < at.last) {
    constexpr uint64_t kStep = 16;
    const uint64_t room = at.last - low;
    const uint64_t step = room > (at.last - originals_end) / 2 ? kStep : 1;
    return low + std::clamp<uint64_t>(room / 2, 1, step);
  }
  for (uint64_t gap = at.count; gap-- > 0;) {
    const uint64_t high = at.position(gap);
    uint64_t top = gap > 0 ? at.position(gap - 1) : 0;
    const auto behind = added.lower_bound({.position = high, .name = {}});
    if (behind != added.begin()) top = std::max(top, std::prev(behind)->first.position);
    if (top + 1 < high) return top + 1;
  }
  return std::nullopt;
}

Status SimTree::add_name(const SimNode& directory, std::string_view name, uint64_t ino) {
  SimPlace place{.position = 0, .name = std::string(name)};
  if (by_name()) {
    place = place_by_name(directory, name);
  } else {
    const std::optional<uint64_t> position = free_position(directory);
    if (!position) return Status::error(ENOSPC);
    place.position = *position;
  }
  changing(directory).add(std::move(place), ino);
  return Status();
}

void SimTree::replace_name(const SimNode& directory, std::string_view name, uint64_t ino) {
  SimOverlay& changes = changing(directory);
  if (changes.find(name) != changes.added().end()) {
    changes.replace_added(name, ino);
    return;
  }
  const std::optional<uint64_t> number = original_number(directory, name);
  CACHE_CHECK(number.has_value());
  changes.remove_original(*number);
  changes.add({.position = places(directory).position(*number), .name = std::string(name)}, ino);
}

void SimTree::remove_name(const SimNode& directory, std::string_view name) {
  SimOverlay& changes = changing(directory);
  if (changes.remove_added(name)) return;
  const std::optional<uint64_t> number = original_number(directory, name);
  CACHE_CHECK(number.has_value());
  changes.remove_original(*number);
}

bool SimTree::is_empty(const SimNode& directory) const {
  const SimOverlay& changes = overlay(directory);
  return changes.added().empty() && changes.removed().size() == places(directory).count;
}

uint64_t SimTree::computed_parent(const SimNode& directory) const {
  switch (directory.kind) {
    case SimKind::kTreeDir:
      return tree_ino();
    case SimKind::kDeep:
      if (directory.number == 0) return kSimRootIno;
      return directory.number == 1 ? deep_ino() : deep_base_ + directory.number - 2;
    case SimKind::kMix:
      for (uint64_t above = 0; above < mix_.objects.size() && directory.number > 0; ++above) {
        if (!is_directory({SimKind::kMix, mix_ino(above), above})) continue;
        for (const SimMixEntry& entry : mix_.directories[mix_.objects[above].directory]) {
          if (entry.object == directory.number) return mix_ino(above);
        }
      }
      return kSimRootIno;
    default:
      return kSimRootIno;
  }
}

bool SimTree::is_within(uint64_t directory, uint64_t other) const {
  while (directory != other) {
    if (directory == kSimRootIno) return false;
    const SimObject* const object = stored(directory);
    const std::optional<SimNode> known = node(directory);
    if (!known) return false;
    directory = object != nullptr && object->parent != 0 ? object->parent : computed_parent(*known);
  }
  return true;
}

// --- Changes of `big` by nobody ---

Status SimTree::check_new_name(std::string_view name) const {
  if (!node(big().ino)) return Status::error(ENOENT);
  const bool bad = name.empty() || name == "." || name == ".." || name.size() > kSimMaxName ||
                   name.find('/') != std::string_view::npos ||
                   name.find('\0') != std::string_view::npos;
  if (bad) return Status::error(EINVAL);
  return lookup(big(), name).ok() ? Status::error(EEXIST) : Status();
}

uint64_t SimTree::new_plain_file() {
  plain_.insert(next_ino_);
  return next_ino_++;
}

void SimTree::touch_if_stored(const SimNode& directory) {
  if (stored(directory.ino) != nullptr) touch_content(&store(directory));
}

Status SimTree::add(std::string_view name) {
  Status status = check_new_name(name);
  if (!status.ok()) return status;
  status = add_name(big(), name, next_ino_);
  if (!status.ok()) return status;
  new_plain_file();
  touch_if_stored(big());
  return status;
}

Status SimTree::add_near(std::string_view name, std::string_view neighbour, SimSide side) {
  const Status status = check_new_name(name);
  if (!status.ok()) return status;
  const std::optional<uint64_t> position = position_of(big(), neighbour);
  if (!position) return Status::error(ENOENT);
  if (by_name()) return add(name);
  const Gap gap = gap_at(big(), *position, side);
  if (gap.high - gap.low < 2) return Status::error(ENOSPC);
  const uint64_t middle = gap.low + (gap.high - gap.low) / 2;
  changing(big()).add({.position = middle, .name = std::string(name)}, new_plain_file());
  touch_if_stored(big());
  return Status();
}

Status SimTree::remove(std::string_view name) {
  if (!node(big().ino)) return Status::error(ENOENT);
  const Result<SimNode> found = lookup(big(), name);
  if (!found.ok()) return found.status();
  if (is_directory(found.value())) return Status::error(EISDIR);
  remove_name(big(), name);
  drop_link(found.value());
  touch_if_stored(big());
  return Status();
}

namespace {

std::string churn_name(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "churn-%012llu", static_cast<unsigned long long>(number));
  return name;
}

}  // namespace

void SimTree::add_churned(uint64_t number) {
  const std::string name = churn_name(number);
  SimOverlay& changes = changing(big());
  if (changes.find(name) != changes.added().end()) return;  // somebody else's
  if (by_name()) {
    changes.add(place_by_name(big(), name), new_plain_file());
    return;
  }
  const uint64_t chance = mix64(seed_ + number);
  const uint64_t gap = chance % (big_places_.count + 1);
  constexpr uint64_t kTries = 64;
  for (uint64_t attempt = 0; attempt < kTries; ++attempt) {
    const uint64_t inside = 1 + ((chance >> 20) + attempt) % (big_places_.stride - 1);
    const uint64_t position = gap * big_places_.stride + inside;  // before entry `gap`
    if (changes.taken(position)) continue;
    changes.add({.position = position, .name = name}, new_plain_file());
    return;
  }
}

void SimTree::remove_churned(std::string_view name) {
  const SimOverlay& changes = overlay(big());
  const auto known = changes.find(name);
  if (known == changes.added().end()) return;
  const std::optional<SimNode> file = node(known->second);
  if (!file || is_directory(*file)) return;  // somebody else's
  remove_name(big(), name);
  drop_link(*file);
}

// Entries live for half a second, or as long as kSimChurnAlive allows: entry `number` is there
// from its own turn until `alive` others have followed. After a long silence only those that
// would still be there are made.
void SimTree::advance(std::chrono::nanoseconds elapsed) {
  if (config_.churn == 0 || !node(big().ino)) return;
  constexpr std::chrono::milliseconds kBatch(10);
  const auto batches = static_cast<uint64_t>(elapsed / kBatch);
  const uint64_t due = batches * config_.churn / (std::chrono::seconds(1) / kBatch);
  if (due <= churned_) return;
  const uint64_t alive = std::clamp<uint64_t>(config_.churn / 2, 1, kSimChurnAlive);
  const uint64_t oldest = due > alive ? due - alive : 0;
  const uint64_t oldest_before = churned_ > alive ? churned_ - alive : 0;
  for (uint64_t i = oldest_before; i < std::min(oldest, churned_); ++i) {
    remove_churned(churn_name(i));
  }
  const uint64_t first = std::max(churned_, oldest);
  changing(big()).skip_versions(2 * (first - churned_));
  for (uint64_t i = first; i < due; ++i) add_churned(i);
  churned_ = due;
  touch_if_stored(big());
}

}  // namespace fusefs
