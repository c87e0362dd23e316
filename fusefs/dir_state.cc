#include "fusefs/dir_state.h"

namespace fusefs {

using cache::MutexLock;

bool DirState::token_expired(cache::TimePoint now) {
  MutexLock lock(mutex_);
  return age_.token_expired(now);
}

bool DirState::revalidate(uint64_t change, cache::TimePoint asked) {
  const bool changed = directory_.revalidate(change);
  MutexLock lock(mutex_);
  age_.token_confirmed(asked);
  if (changed) age_.emptied(asked);
  return changed;
}

uint64_t DirState::invalidate(cache::TimePoint now) {
  const uint64_t arrays = directory_.info().arrays;
  directory_.invalidate();
  MutexLock lock(mutex_);
  age_.forget_token();
  age_.emptied(now);
  return arrays;
}

ListingAge::Attributes DirState::begin_pass(cache::TimePoint now) {
  const auto holds =
      directory_.info().arrays == 0 ? ListingAge::Holds::kNothing : ListingAge::Holds::kArrays;
  ListingAge::Attributes decision;
  {
    MutexLock lock(mutex_);
    decision = age_.begin_pass(now, holds);
  }
  if (decision == ListingAge::Attributes::kRefetch) directory_.invalidate();
  return decision;
}

void DirState::pass_continues(cache::TimePoint now) {
  MutexLock lock(mutex_);
  age_.pass_continues(now);
}

void DirState::note_wanted() {
  MutexLock lock(mutex_);
  age_.note_wanted();
}

cache::TimePoint DirState::oldest_listed(cache::TimePoint now) {
  MutexLock lock(mutex_);
  return age_.oldest_listed(now);
}

std::optional<TimedAttr> DirState::find_attr(std::string_view name, cache::TimePoint now) {
  cache::TimePoint oldest;
  {
    MutexLock lock(mutex_);
    age_.note_lookup();
    oldest = age_.oldest_looked_up(now);
  }
  TimedAttr found;
  const auto attr = directory_.find_attr(name, oldest, &found.asked);
  if (!attr) return std::nullopt;
  found.attr = *attr;
  return found;
}

}  // namespace fusefs
