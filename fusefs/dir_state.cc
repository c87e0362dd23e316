#include "fusefs/dir_state.h"

#include <algorithm>
#include <utility>

namespace fusefs {

using cache::MutexLock;

bool DirState::token_expired(cache::TimePoint now) {
  MutexLock lock(mutex_);
  return age_.token_expired(now);
}

std::optional<cache::TimePoint> DirState::token_asked() {
  MutexLock lock(mutex_);
  return age_.token_asked();
}

bool DirState::revalidate(uint64_t change, cache::TimePoint asked) {
  // It may have been told before a change of ours was, which we know of.
  change = directory_.present_token(change);
  const bool changed = directory_.revalidate(change);
  MutexLock lock(mutex_);
  age_.token_confirmed(asked);
  token_ = change;
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

// ---- Own changes --------------------------------------------------------------------------------

void DirState::own_token(uint64_t token, cache::TimePoint asked) {
  MutexLock lock(mutex_);
  if (token == 0) {
    age_.forget_token();
  } else {
    age_.token_confirmed(asked);
    token_ = token;
  }
}

void DirState::note_removed(std::string_view name, const DirChange& change,
                            cache::TimePoint asked) {
  own_token(directory_.note_removed(name, change.before, change.after), asked);
}

void DirState::note_added(const cache::Directory::NewEntry& entry, const DirChange& change) {
  own_token(directory_.note_added(entry, change.before, change.after), entry.asked);
  names_.note_there(entry.name);
}

void DirState::adopt_empty(uint64_t change, cache::TimePoint asked) {
  if (change == 0) return;
  directory_.adopt_empty(change);
  MutexLock lock(mutex_);
  if (token_ != 0) return;  // somebody has come before
  age_.token_confirmed(asked);
  age_.emptied(asked);
  token_ = change;
}

uint64_t DirState::listed_arrays() const {
  const cache::DirectoryInfo info = directory_.info();
  return info.arrays + info.anchors;
}

bool DirState::is_long() const { return listed_arrays() >= kLongArrays; }

bool DirState::became_long() {
  if (!is_long()) return false;
  MutexLock lock(mutex_);
  return !std::exchange(told_long_, true);
}

bool DirState::holds_anything() const {
  const cache::DirectoryInfo info = directory_.info();
  return info.arrays > 0 || info.fills > 0;
}

bool DirState::fetch_ahead(cache::TimePoint now, bool want_attrs) {
  if (!directory_.fetch_ahead(want_attrs)) return false;
  MutexLock lock(mutex_);
  age_.emptied(now);
  return true;
}

DirState::Lends DirState::lend_to_kernel(cache::TimePoint now) {
  const uint64_t generation = directory_.generation();
  MutexLock lock(mutex_);
  const Lent before = std::exchange(lent_, {.generation = generation, .token = token_});
  if (token_ != 0 && before == lent_ && !age_.token_expired(now)) return Lends::kAgain;
  return before == Lent{} ? Lends::kFirst : Lends::kOther;
}

void DirState::forget_lent() {
  MutexLock lock(mutex_);
  lent_ = {};
}

ListingAge::Attributes DirState::begin_pass(cache::TimePoint now, Asks asks) {
  const uint64_t arrays = directory_.info().arrays;
  const auto holds = arrays == 0 ? ListingAge::Holds::kNothing : ListingAge::Holds::kArrays;
  const bool follows = asks == Asks::kAttributes && arrays <= kFewArrays && walk_.wanted();
  const auto walk = follows ? ListingAge::Walk::kWantsAttributes : ListingAge::Walk::kUnknown;
  ListingAge::Attributes decision;
  {
    MutexLock lock(mutex_);
    decision = age_.begin_pass(now, holds, walk);
  }
  if (decision == ListingAge::Attributes::kRefetch) {
    directory_.invalidate(cache::Forgotten::kOldAttributes);
    if (follows) walk_.spend();
  }
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

bool DirState::still_linked(ListingAge::Linked what, cache::TimePoint now) {
  MutexLock lock(mutex_);
  return age_.still_linked(what, now);
}

void DirState::note_linked(ListingAge::Linked what, cache::TimePoint until) {
  MutexLock lock(mutex_);
  age_.note_linked(what, until);
}

void DirState::note_file_looked_up() {
  MutexLock lock(mutex_);
  age_.note_file_looked_up();
}

bool DirState::goes_on_with_known_files() {
  if (listed_arrays() < 2) return false;  // an array's entries fill a first reply with attributes
  MutexLock lock(mutex_);
  return age_.files_known();
}

cache::TimePoint DirState::oldest_listed(cache::TimePoint now) {
  MutexLock lock(mutex_);
  return age_.oldest_listed(now);
}

std::optional<TimedAttr> DirState::find_attr(std::string_view name, cache::TimePoint now) {
  cache::TimePoint oldest;
  {
    MutexLock lock(mutex_);
    if (age_.note_lookup()) walk_.note_wanted();
    oldest = age_.oldest_looked_up(now);
  }
  TimedAttr found;
  const auto attr = directory_.find_attr(name, oldest, &found.asked);
  if (!attr) return std::nullopt;
  MutexLock lock(mutex_);
  credit_.note_found();
  found.attr = *attr;
  return found;
}

namespace {

struct PassOver final : cache::EntrySink {
  uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
    const auto taken = static_cast<uint32_t>(std::min<uint64_t>(to - from, room));
    if (taken == 0) return 0;
    position = view.cookie(from + taken - 1);
    room -= taken;
    return taken;
  }
  uint64_t position = 0;
  uint64_t room = ~uint64_t{0};  // entries
};

}  // namespace

Status DirState::pass_over(const cache::ReadOptions& options, uint64_t most_reads) {
  cache::DirCursor cursor;
  PassOver sink;
  for (uint64_t reads = 0; reads < most_reads; ++reads) {
    const uint64_t before = sink.position;
    const Status status = directory_.read(cursor, before, options, sink);
    if (!status.ok() || sink.position == before) return status;
  }
  return {};
}

// ---- Names that are not there -------------------------------------------------------------------

std::optional<cache::TimePoint> DirState::absent_since(std::string_view name) {
  if (may_be_unlisted(name)) return std::nullopt;
  std::optional<cache::TimePoint> asked;
  {
    MutexLock lock(mutex_);
    if (token_ != 0) asked = age_.token_asked();
  }
  const bool absent = asked && directory_.presence(name) == cache::Directory::Presence::kAbsent;
  return absent ? asked : std::nullopt;
}

std::optional<std::string> DirState::lettered_name() {
  using Presence = cache::Directory::Presence;
  auto sample = names_.sample();
  if (sample && directory_.presence(*sample) == Presence::kThere) return sample;
  return directory_.find_name(has_letters);
}

void DirState::complete(cache::TimePoint now, const cache::ReadOptions& options) {
  if (!holds_anything()) {
    MutexLock lock(mutex_);
    age_.emptied(now);
  }
  static_cast<void>(pass_over(options, ~uint64_t{0}));  // presence() tells what came of it
}

// ---- Attributes of a listing --------------------------------------------------------------------

bool DirState::worth_renewing(std::string_view name) {
  {
    MutexLock lock(mutex_);
    if (!age_.many_lookups()) return false;
  }
  // Lookups of what is not there say nothing of those that list.
  return directory_.info().arrays <= kFewArrays &&
         directory_.find_attr(name, cache::TimePoint::min()).has_value();
}

Status DirState::renew_attrs(cache::TimePoint now, cache::ReadOptions options) {
  begin_pass(now, Asks::kAttributes);
  options.want_attrs = true;
  options.attrs_not_before = oldest_listed(now);
  return pass_over(options, kFewArrays + 1);
}

void DirState::note_asked(cache::Duration took) {
  MutexLock lock(mutex_);
  credit_.note_asked(took);
}

bool DirState::renew_around(std::string_view name, cache::TimePoint now,
                            cache::ReadOptions options) {
  const cache::DirectoryInfo info = directory_.info();
  if (info.arrays <= kFewArrays || info.attrs_refused) return false;
  uint32_t arrays = 0;
  {
    MutexLock lock(mutex_);
    if (age_.oldest_looked_up(now) == cache::TimePoint::max()) return false;  // ttl=0
    arrays = credit_.take();
  }
  if (arrays == 0) return false;
  const auto place = directory_.place_of(name);
  bool read = false;
  if (place) {
    options.want_attrs = true;
    options.attrs_not_before = oldest_listed(now);
    // The name alone can still be asked for when this takes too long.
    options.deadline = std::min(options.deadline, now + kMostRenewing);
    cache::DirCursor cursor;
    PassOver sink;
    sink.position = *place;
    sink.room = uint64_t{arrays} * cache::kEntriesPerArray - 1;  // all but the first
    for (read = true; read && sink.room > 0;) {
      const uint64_t before = sink.position;
      options.most_arrays = static_cast<uint32_t>(sink.room / cache::kEntriesPerArray) + 1;
      read = directory_.read(cursor, before, options, sink).ok();
      if (sink.position == before) break;
    }
  }
  MutexLock lock(mutex_);
  if (!place) {
    credit_.give_back(arrays);
  } else if (!read) {
    credit_.note_failed();
  } else {
    credit_.note_took(arrays, std::chrono::steady_clock::now() - now);
  }
  return read;
}

}  // namespace fusefs
