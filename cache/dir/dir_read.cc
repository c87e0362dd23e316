// DirCore, reading: from a position to entries in the sink.
#include <algorithm>
#include <bit>
#include <unordered_map>
#include <unordered_set>

#include "cache/base/hash.h"
#include "cache/dir/cookie_map.h"
#include "cache/dir/dir_core.h"
#include "cache/mm/use_trace.h"

namespace cache {
namespace {

// Steps of one read() that gave no entry and did not move to another array: enough for any race
// with invalidations, little enough not to spin.
constexpr uint32_t kMaxRounds = 64;
constexpr uint32_t kMaxRecoveries = 6;
constexpr uint32_t kSearchedArrays = 4;  // some 800 entries that came between

constexpr uint32_t kOrderProof = 12;

}  // namespace

Status DirCore::read(CursorState& cursor, uint64_t position, const ReadOptions& options,
                     EntrySink& sink) {
  stats_.readdir_calls.add();
  place(cursor, position);
  if (position != 0 && options.most_arrays == 0 && !options.ahead) {
    attrs_wanted_.store(options.want_attrs, std::memory_order_relaxed);
  }
  if (cursor.owed_error != 0) return Status::error(std::exchange(cursor.owed_error, 0));
  Reading reading(cursor, options, sink);
  reading.sequence = pages_->sequence();
  cursor.given.clear();
  for (;;) {
    const uint64_t key = cursor.key;
    Outcome outcome = read_step(reading);
    // What is renewed for a few names' sake is not worth a listing from the start.
    if (bounded(reading) && outcome.step != Step::kAgain && outcome.step != Step::kDone) {
      return reading.consumed ? Status() : Status::error(EAGAIN);
    }
    if (outcome.step == Step::kUncached) {
      cursor.uncached = true;
    } else if (outcome.step == Step::kNative) {
      cursor.forget_checkpoint();
      MutexLock lock(mutex_);
      place_native(cursor);
    } else if (outcome.step == Step::kLost) {
      outcome = recover(reading, outcome.status.error_number());
    }
    if (outcome.step == Step::kDone) {
      // What was given is given; the error shows at the next call.
      return reading.consumed ? Status() : outcome.status;
    }
    reading.rounds = cursor.key == key ? reading.rounds + 1 : 0;
    if (reading.rounds > kMaxRounds)
      return reading.consumed ? Status() : Status::error(reading.stuck);
  }
}

// --- where to go on ---------------------------------------------------------------------------

void DirCore::place(CursorState& cursor, uint64_t position) {
  if (position == cursor.held && position != 0) return;
  // What was added is nowhere in the arrays, and they say so only to those who began before.
  if (position == 0 && own_names_.any()) forget_for_added();
  const bool back = step_back(cursor, position);
  if (!back) cursor = CursorState{};
  cursor.checkpoint = CursorState::kNoCheckpoint;
  cursor.held = cursor.position = position;
  if (position == 0 || !back) {
    cursor.mapped = mapped_.load(std::memory_order_acquire);
    cursor.era = era_.load(std::memory_order_acquire);
  }
  if (position == 0 || outdated(cursor)) return;
  if (!back) {
    MutexLock lock(mutex_);
    cursor.placed_change = change_;
  }
  if (cursor.mapped) return place_mapped(cursor);
  cursor.uncached = true;
  place_by_order(cursor);
  if (cursor.uncached) place_by_scan(cursor);
  if (!cursor.uncached) know_around(cursor);
}

// To a place in the middle of the last reply: the names around it stay known.
bool DirCore::step_back(CursorState& cursor, uint64_t position) {
  const auto same = [&](const CursorState::Given& given) { return given.cookie == position; };
  const auto at = std::find_if(cursor.given.begin(), cursor.given.end(), same);
  if (position == 0 || at == cursor.given.end() || cursor.lost) return false;
  CursorState back;
  back.mapped = cursor.mapped;
  back.era = cursor.era;
  const auto index = static_cast<size_t>(at - cursor.given.begin());
  for (size_t i = index + 1 - std::min(index + 1, CursorState::kRecent); i <= index; ++i) {
    back.recent[back.recent_count++] = cursor.given[i].name;
  }
  for (size_t i = index + 1; i < cursor.given.size() && back.ahead_count < CursorState::kRecent;
       ++i) {
    back.ahead[back.ahead_count++] = cursor.given[i].name;
  }
  back.given = std::move(cursor.given);
  cursor = std::move(back);
  return true;
}

void DirCore::place_mapped(CursorState& cursor) {
  cursor.key = cookie_map::array_of(cursor.position);
  if (cursor.key == 0 && cursor.position > cookie_map::kInArrayMask) {
    cursor.ordinal = cookie_map::index_after(cursor.position);
    return;
  }
  MutexLock lock(mutex_);
  if (const Anchor* anchor = anchors_.find(cursor.key); anchor != nullptr && cursor.key != 0) {
    cursor.token = anchor->token;
    cursor.ordinal = anchor->position + cookie_map::index_after(cursor.position);
    return;
  }
  const uint64_t key = std::exchange(cursor.key, 0);
  // No mapped array was ever forgotten: then it is one of the remote's own, and so is what is too
  // small for a mapped one. Else, where the names are known, they tell the place; a number alone is
  // looked for along the chain. Only if it is nowhere there, and the directory still is as it was
  // when it switched, can it be one of the remote's own.
  if (gave_native_ && (anchors_.knows_all() || key == 0)) {
    place_native(cursor);
  } else if (cursor.recent_count > 0) {
    cursor.lost = true;
  } else if (key != 0) {
    cursor.seek_key = key;
    cursor.maybe_native = gave_native_ && change_ == switch_change_;
  }
}

// Where cookies are ordered the anchors tell which array holds the position, resident or not.
void DirCore::place_by_order(CursorState& cursor) {
  MutexLock lock(mutex_);
  const Anchor* anchor = anchors_.find(cursor.position);
  if (anchor == nullptr) {
    const bool up = ascending_.load(std::memory_order_relaxed);
    const bool down = descending_.load(std::memory_order_relaxed);
    if (up == down) return;  // no array yet to judge by, or no order
    const Anchor* beyond =
        up ? anchors_.at_or_above(cursor.position) : anchors_.at_or_below(cursor.position);
    anchor = up ? anchors_.at_or_below(cursor.position) : anchors_.at_or_above(cursor.position);
    if (!up && anchor == nullptr) anchor = anchors_.find(0);
    // Without an array beyond, how far this one reaches is not known.
    if (beyond == nullptr || (!up && beyond->key == 0)) return;
  }
  if (anchor == nullptr) return;
  cursor.key = anchor->key;
  cursor.ordinal = anchor->position;
  cursor.uncached = false;
}

void DirCore::place_by_scan(CursorState& cursor) {
  pages_->for_each([&](Page& page) {
    if (!page.uptodate()) return true;
    const ArrayView view = ArrayView::of(page.content());
    const uint32_t i = view.find_cookie(cursor.position);
    if (i == view.count()) return true;
    cursor.key = page.key();
    cursor.index = i + 1;
    cursor.ordinal = view.header().position + i + 1;
    cursor.uncached = false;
    return false;
  });
}

// The names around a place that only a number tells, while the array is there that holds it: the
// number may lose its meaning, or the entry go, before this reader is given the next one.
void DirCore::know_around(CursorState& cursor) const {
  const PageRef page = pages_->find(cursor.key);
  if (!page || !page->uptodate()) return;
  const ArrayView view = ArrayView::of(page->content());
  const bool at_start = cursor.position == cursor.key;
  const uint32_t next = at_start ? 0 : view.find_cookie(cursor.position) + 1;
  if (next > view.count()) return;
  remember_names(cursor, view, 0, next);
}

namespace {

constexpr uint32_t kAtOnce = 1000;  // score of a place that needs no further search
constexpr uint32_t kAheadScore = 100;
constexpr uint32_t kNextScore = kAheadScore - CursorState::kRecent;  // any of those ahead

struct NameMatch {
  uint32_t score = 0;
  uint32_t index = 0;  // of the next entry
};

// The place that the cursor's names tell in this array. The newest entry given is certain; then
// what was to come next, the nearest first; then what was given before, the newest first.
NameMatch match_names(const CursorState& cursor, const ArrayView& view) {
  constexpr uint64_t kRing = CursorState::kRecent;
  const uint64_t known = std::min<uint64_t>(cursor.recent_count, kRing);
  NameMatch best;
  for (uint32_t i = 0; i < view.count(); ++i) {
    const uint64_t hash = hash_bytes(view.name(i));
    for (uint64_t back = 1; back <= known; ++back) {
      if (cursor.recent[(cursor.recent_count - back) % kRing] != hash) continue;
      const uint32_t score = back == 1 ? kAtOnce : static_cast<uint32_t>(kRing - back + 1);
      if (score > best.score) best = {.score = score, .index = i + 1};
      break;
    }
    for (uint32_t j = 0; j < cursor.ahead_count; ++j) {
      if (cursor.ahead[j] != hash) continue;
      if (kAheadScore - j > best.score) best = {.score = kAheadScore - j, .index = i};
      break;
    }
  }
  return best;
}

// The newest entry given from this array is gone, or has moved on to one that follows, and what was
// to come next is not known: after the latest one that is left; at the start when none is left.
// `eof`: nothing follows, whatever the header of an array says that could not be kept.
struct Survivors {
  uint32_t next = 0;     // index
  bool certain = false;  // nothing can have moved on
};
std::optional<Survivors> after_survivors(const CursorState& cursor, const ArrayView& view,
                                         bool eof) {
  const auto& given = cursor.given_here;
  const bool here = cookie_map::array_of(cursor.position) == cursor.key;
  if (!here || cursor.recent_count == 0 || !cursor.given_whole) return std::nullopt;
  std::unordered_map<uint64_t, size_t> order;
  for (size_t i = 0; i < given.size(); ++i) order.emplace(given[i], i);
  size_t latest = 0;  // of those left: one more than its place in `given`
  Survivors place{.next = 0, .certain = eof};
  for (uint32_t i = 0; i < view.count(); ++i) {
    const auto at = order.find(hash_bytes(view.name(i)));
    if (at == order.end() || at->second < latest) continue;
    latest = at->second + 1;
    place.next = i + 1;
  }
  return place;
}

// In an array that was filled again after a change: the cursor's names, or for a cursor that only
// has the number the nearest entry of that name, else its old index.
std::optional<uint32_t> locate_by_name(const CursorState& cursor, const ArrayView& view) {
  const uint64_t position = cursor.position;
  if (cookie_map::array_of(position) != cursor.key) return std::nullopt;
  if (cursor.recent_count > 0) {
    const NameMatch match = match_names(cursor, view);
    return match.score >= kNextScore ? std::optional<uint32_t>(match.index) : std::nullopt;
  }
  const uint32_t n = view.count();
  const uint64_t bits = position & cookie_map::kNameMask;
  const uint32_t after = cookie_map::index_after(position);
  if (after == 0) return std::nullopt;  // not a number that this map makes
  const uint32_t was = after - 1;
  for (uint32_t away = 0; away < std::max(n, was + 1); ++away) {
    if (was + away < n && cookie_map::name_bits(view.name(was + away)) == bits) {
      return was + away + 1;
    }
    if (away <= was && was - away < n && cookie_map::name_bits(view.name(was - away)) == bits) {
      return was - away + 1;
    }
  }
  return std::min(was, n);
}

}  // namespace

// By the number, as long as the entry there has the name that was given. Only in a part of an
// array, and never of another numbering, is the number alone enough.
std::optional<uint32_t> DirCore::locate_exactly(const CursorState& cursor, const ArrayView& view,
                                                Extent extent) const {
  constexpr uint64_t kRing = CursorState::kRecent;
  const uint64_t position = cursor.position;
  const uint32_t hint = cursor.index;
  const bool near = hint > 0 && hint <= view.count() && view.cookie(hint - 1) == position;
  const uint32_t first = near ? hint - 1 : view.find_cookie(position);
  if (cursor.recent_count == 0) {
    return first < view.count() ? std::optional<uint32_t>(first + 1) : std::nullopt;
  }
  const uint64_t hash = cursor.recent[(cursor.recent_count - 1) % kRing];
  for (uint32_t i = first; i < view.count() && view.cookie(i) == position; ++i) {
    if (hash_bytes(view.name(i)) == hash) return i + 1;  // one of a run of equal cookies
  }
  const bool renamed = first < view.count() && extent == Extent::kSealed && !cursor.mapped &&
                       view.header().era == cursor.era;
  return renamed ? std::optional<uint32_t>(first + 1) : std::nullopt;
}

// Index of the entry after the cursor's position; none when this array does not tell.
std::optional<uint32_t> DirCore::locate(const CursorState& cursor, const ArrayView& view,
                                        Extent extent) const {
  const uint64_t position = cursor.position;
  if (position == cursor.key) return 0;  // arrived through the chain
  const std::optional<uint32_t> exact = locate_exactly(cursor, view, extent);
  if (exact || extent == Extent::kPartial) return exact;
  const uint32_t n = view.count();
  if (cursor.mapped) return locate_by_name(cursor, view);
  if (view.header().era != cursor.era) {
    const NameMatch match = match_names(cursor, view);
    return match.score >= kNextScore ? std::optional<uint32_t>(match.index) : std::nullopt;
  }
  // The entry is gone; in order, the next one is known all the same. A few entries may stand in
  // order by chance: then the remote is asked.
  if (n < kOrderProof) return std::nullopt;
  const uint16_t flags = view.header().flags;
  uint32_t i = 0;
  if ((flags & kArrayAscending) != 0 && position > cursor.key) {
    while (i < n && view.cookie(i) <= position) ++i;
    return i;
  }
  // Above the first entry of all stands what was removed there, or a last entry's sentinel.
  const bool below = cursor.key == 0 ? position < view.cookie(0) : position < cursor.key;
  if ((flags & kArrayDescending) != 0 && below) {
    while (i < n && view.cookie(i) >= position) ++i;
    return i;
  }
  return std::nullopt;
}

void DirCore::step_to(CursorState& cursor, uint64_t key, std::string_view token) {
  cursor.key = key;
  cursor.token.assign(token);
  cursor.given_here.clear();
  cursor.given_whole = false;
  cursor.index = 0;
  cursor.hint = nullptr;
}

bool DirCore::goes_round(CursorState& cursor, const ArrayView& left) {
  if (cursor.key == cursor.checkpoint) return true;
  if (cursor.checkpoint_cookie != 0) {
    const uint32_t i = left.find_cookie(cursor.checkpoint_cookie);
    if (i < left.count() && hash_bytes(left.name(i)) == cursor.checkpoint_name) return true;
  }
  if (++cursor.arrays_passed < cursor.next_checkpoint) return false;
  cursor.next_checkpoint *= 2;
  cursor.checkpoint = cursor.key;
  cursor.checkpoint_cookie = 0;
  // Mapped cookies are of their array: the key tells as much.
  if (const uint32_t n = left.count(); n > 0 && !cursor.mapped) {
    cursor.checkpoint_cookie = left.cookie(n - 1);
    cursor.checkpoint_name = hash_bytes(left.name(n - 1));
  }
  return false;
}

DirCore::Outcome DirCore::next_array(Reading& reading, const ArrayView& left, const ArrayEnd& end) {
  CursorState& cursor = reading.cursor;
  if (end.eof) return {Step::kDone, {}};
  if (const uint32_t n = left.count(); n > 0 && !cursor.mapped) {
    cursor.edge.key = end.next_key;
    cursor.edge.name.assign(left.name(n - 1));
    cursor.edge.before = n > 1 ? left.cookie(n - 2) : cursor.key;
  }
  step_to(cursor, end.next_key, end.token);
  cursor.era = left.header().era;
  const bool passes_by = reading.way_back || cursor.seek_key != 0;
  if (passes_by && reading.deadline != TimePoint::max()) {
    reading.deadline = std::chrono::steady_clock::now() + reading.patience;
  }
  if (goes_round(cursor, left)) {
    stats_.bad_answers.add();
    invalidate(Forgotten::kNumbering);  // the next try asks the remote
    if (reading.consumed) cursor.owed_error = EIO;
    return {Step::kDone, Status::error(EIO)};
  }
  return {Step::kAgain, {}};
}

// --- one step ---------------------------------------------------------------------------------

bool DirCore::bounded(const Reading& reading) { return reading.options.most_arrays != 0; }

bool DirCore::lacks_attrs(const Reading& reading, const ArrayView& view) const {
  if (!reading.options.want_attrs || reading.way_back || view.count() == 0) return false;
  return !view.has_attrs() ||
         view.header().filled < reading.options.attrs_not_before.time_since_epoch().count();
}

DirCore::Outcome DirCore::read_step(Reading& reading) {
  CursorState& cursor = reading.cursor;
  if (cursor.uncached && !cursor.lost) return read_own(reading);
  PageRef page = std::move(reading.filled);
  if (!page || page->key() != cursor.key || !page->uptodate()) {
    page = pages_->find_hint(cursor.hint, cursor.key);
  }
  if (!page) page = pages_->find(cursor.key);
  if (outdated(cursor) || (cursor.lost && !reading.way_back)) {
    return {Step::kLost, Status::error(kErrBadCookie)};
  }
  if (!page || !page->uptodate()) return read_fill(reading);
  if (lacks_attrs(reading, ArrayView::of(page->content()))) {
    MutexLock lock(mutex_);
    if (!attrs_refused_) {
      if (reading.consumed) return {Step::kDone, {}};
      pages_->remove(*page);
      return {Step::kAgain, {}};
    }
  }
  return read_array(reading, std::move(page));
}

DirCore::Outcome DirCore::read_array(Reading& reading, PageRef page) {
  CursorState& cursor = reading.cursor;
  if (cursor.hint != page.get()) {
    // Once a visit, however many replies it takes: a listing is one use.
    stats_.readdir_hits.add();
    hits_.fetch_add(1, std::memory_order_relaxed);
    if (!bounded(reading)) page->mark_accessed();
    trace_use(pages_->id(), page->key());
    cursor.hint = page.get();
  }
  if (!bounded(reading) && page->has(page_state::kMark) && page->clear(page_state::kMark)) {
    MutexLock lock(mutex_);
    demand(cursor, ArrayView::of(page->content()).header().position);
  }
  const ArrayView view = ArrayView::of(page->content());
  return read_view(reading, view,
                   {.next_key = view.header().last_cookie,
                    .token = std::string(view.token()),
                    .eof = (view.header().flags & kArrayEof) != 0});
}

DirCore::Outcome DirCore::read_view(Reading& reading, const ArrayView& view, const ArrayEnd& end) {
  CursorState& cursor = reading.cursor;
  if (reading.way_back) {
    if (find_way_back(reading, view)) return {Step::kAgain, {}};
    const bool searched = reading.arrays_to_search > 0 && --reading.arrays_to_search == 0;
    return end.eof || searched ? way_back_ended(reading) : next_array(reading, view, end);
  }
  if (cursor.seek_key != 0) {
    if (cursor.key != cursor.seek_key) {
      if (!end.eof) return next_array(reading, view, end);
      if (cursor.maybe_native) return {Step::kNative, {}};
      // Never a silently short listing: the place is in no array that there is now.
      return {Step::kDone, Status::error(ESTALE)};
    }
    cursor.seek_key = 0;
    cursor.maybe_native = false;
  }
  const bool other_era = view.header().era != cursor.era;
  const bool unproved = other_era && cursor.key != 0 && cursor.position == cursor.key;
  auto from = unproved ? std::nullopt : locate(cursor, view, Extent::kSealed);
  if (!from && cursor.mapped && !unproved) {
    const std::optional<Survivors> left = after_survivors(cursor, view, end.eof);
    if (left && left->certain) {
      from = left->next;
    } else if (left && begin_search(reading, view, left->next)) {
      return next_array(reading, view, end);
    }
  }
  if (!from && cursor.native != 0) {
    cursor.position = std::exchange(cursor.native, 0);
    return {Step::kNative, {}};
  }
  if (!from) {
    return cursor.mapped || other_era ? Outcome{Step::kLost, Status::error(ESTALE)}
                                      : Outcome{Step::kUncached, {}};
  }
  const Outcome outcome = consume(reading, view, *from);
  if (outcome.step == Step::kDone) return outcome;
  // Past its last entry, which need not be the last that was given. (Who found no entry here may
  // stand further on: in an array that was filled again after a change.)
  if (!end.eof && *from < view.count()) cursor.position = end.next_key;
  return next_array(reading, view, end);
}

// Of an array that was filled again some of the entries given may have moved on, and others be
// gone: the former are looked for in the arrays that follow, as far as they may have moved; else
// the reader goes on at `next`, behind those that are left here.
bool DirCore::begin_search(Reading& reading, const ArrayView& view, uint32_t next) {
  CursorState& cursor = reading.cursor;
  if (reading.consumed) return false;
  reading.best = {.score = 1,
                  .key = cursor.key,
                  .position = next > 0 ? view.cookie(next - 1) : cursor.key,
                  .name = next > 0 ? hash_bytes(view.name(next - 1)) : 0,
                  .index = next,
                  .era = view.header().era,
                  .token = cursor.token};
  reading.arrays_to_search = kSearchedArrays;
  reading.way_back = cursor.lost = true;
  return true;
}

// Done when the sink is full, again when it could take more.
DirCore::Outcome DirCore::consume(Reading& reading, const ArrayView& view, uint32_t from) {
  if (from >= view.count()) return {Step::kAgain, {}};
  if (view.any_marked()) return consume_marked(reading, view, from);
  const uint32_t taken = reading.sink.consume(view, from, view.count());
  if (taken > 0) note_given(reading, view, from, taken);
  return {from + taken < view.count() ? Step::kDone : Step::kAgain, {}};
}

// In pieces that have no marks; what was replaced alone.
DirCore::Outcome DirCore::consume_marked(Reading& reading, const ArrayView& view, uint32_t from) {
  const uint32_t n = view.count();
  for (uint32_t i = view.next_live(from); i < n; i = view.next_live(i)) {
    uint32_t end = i + 1;
    uint32_t taken = 0;
    if (view.replaced(i)) {
      ArrayPage page;
      taken = reading.sink.consume(view.alone(i, &page), 0, 1);
    } else {
      while (end < n && !view.marked(end)) ++end;
      taken = reading.sink.consume(view, i, end);
    }
    if (taken > 0) note_given(reading, view, i, taken);
    if (i + taken < end) return {Step::kDone, {}};
    i = end;
  }
  return {Step::kAgain, {}};
}

void DirCore::note_given(Reading& reading, const ArrayView& view, uint32_t from, uint32_t taken) {
  CursorState& cursor = reading.cursor;
  if (!reading.consumed && view.has_attrs()) {
    // The names that come next will be asked about from here on.
    attr_hint_.set(nullptr, cursor.key, from - 1);
  }
  reading.consumed = true;
  cursor.native = 0;
  cursor.era = view.header().era;
  cursor.index = from + taken;
  cursor.held = cursor.position = view.cookie(cursor.index - 1);
  cursor.ordinal += taken;
  remember(cursor, view, from, from + taken);
}

void DirCore::remember(CursorState& cursor, const ArrayView& view, uint32_t from, uint32_t to) {
  remember_names(cursor, view, from, to);
  if (cursor.mapped) remember_here(cursor, view, from, to);
  if (cursor.given.size() + (to - from) > CursorState::kMaxGiven) {
    cursor.given.clear();  // a long reply is taken whole
  } else {
    for (uint32_t i = from; i < to; ++i) {
      cursor.given.push_back({.cookie = view.cookie(i), .name = hash_bytes(view.name(i))});
    }
  }
}

void DirCore::remember_names(CursorState& cursor, const ArrayView& view, uint32_t from,
                             uint32_t to) {
  const uint32_t most = static_cast<uint32_t>(CursorState::kRecent);
  for (uint32_t i = to - from > most ? to - most : from; i < to; ++i) {
    cursor.recent[cursor.recent_count++ % most] = hash_bytes(view.name(i));
  }
  cursor.ahead_count = 0;
  for (uint32_t i = to; i < view.count() && cursor.ahead_count < most; ++i) {
    if (!view.removed(i)) cursor.ahead[cursor.ahead_count++] = hash_bytes(view.name(i));
  }
}

void DirCore::remember_here(CursorState& cursor, const ArrayView& view, uint32_t from,
                            uint32_t to) {
  auto& given = cursor.given_here;
  if (given.empty()) cursor.given_whole = from == 0;
  if (given.size() > 2 * size_t{kEntriesPerArray}) {
    // The array has been filled again, several times: what is gone from it need not be known.
    std::unordered_set<uint64_t> present;
    for (uint32_t i = 0; i < view.count(); ++i) present.insert(hash_bytes(view.name(i)));
    std::erase_if(given, [&](uint64_t name) { return present.count(name) == 0; });
  }
  for (uint32_t i = from; i < to; ++i) given.push_back(hash_bytes(view.name(i)));
}

// --- the way back by name ---------------------------------------------------------------------

// Cookies have lost their meaning (a new verifier, another numbering): list from the start without
// giving entries, up to the last one that was given.
DirCore::Outcome DirCore::recover(Reading& reading, int error) {
  CursorState& cursor = reading.cursor;
  if (reading.consumed) return {Step::kDone, {}};
  if (map_place(cursor)) return {Step::kAgain, {}};
  if (++reading.recoveries > kMaxRecoveries) {
    return {Step::kDone, Status::error(error == kErrBadCookie ? EIO : error)};
  }
  // What is held is no better than a cookie that the remote refuses, unless somebody has thrown it
  // away already. A search that an error cut short (lost, but not searching) tells nothing new.
  const bool known = outdated(cursor) || cursor.era != era_.load(std::memory_order_acquire) ||
                     (cursor.lost && !reading.way_back);
  const bool refused = error == kErrBadCookie && !known;
  if (refused && pages_->sequence() == reading.sequence) invalidate(Forgotten::kNumbering);
  reading.sequence = pages_->sequence();
  reading.filled.reset();
  cursor.native = 0;
  cursor.own.clear();
  cursor.uncached = false;
  cursor.mapped = mapped_.load(std::memory_order_acquire);
  cursor.seek_key = 0;
  cursor.maybe_native = false;
  cursor.forget_checkpoint();
  step_to(cursor, 0, {});
  reading.way_back = cursor.lost = cursor.position != 0;
  reading.best = {};
  reading.arrays_to_search = 0;
  return {Step::kAgain, {}};
}

// True when the place was found beyond doubt and the cursor stands there.
bool DirCore::find_way_back(Reading& reading, const ArrayView& view) {
  CursorState& cursor = reading.cursor;
  if (cursor.recent_count == 0 && cursor.ahead_count == 0) {
    find_way_back_by_place(reading, view);
  } else if (const NameMatch match = match_names(cursor, view); match.score > reading.best.score) {
    reading.best = {.score = match.score,
                    .key = cursor.key,
                    .position = match.index > 0 ? view.cookie(match.index - 1) : cursor.key,
                    .name = match.index > 0 ? hash_bytes(view.name(match.index - 1)) : 0,
                    .index = match.index,
                    .era = view.header().era,
                    .token = cursor.token};
  }
  return reading.best.score >= kAheadScore && way_back_ended(reading).step == Step::kAgain;
}

// Without any name (a seek): by the cookie; or by the count of entries before it, where only the
// cookies are new and the directory is the same.
void DirCore::find_way_back_by_place(Reading& reading, const ArrayView& view) {
  const CursorState& cursor = reading.cursor;
  uint32_t score = kAtOnce;
  uint32_t index = view.find_cookie(cursor.position) + 1;
  if (index > view.count()) {
    const uint32_t start = view.header().position;
    if (cursor.ordinal <= start || cursor.ordinal > start + view.count()) return;
    const uint64_t change = view.header().change;
    if (change == 0 || change != cursor.placed_change) return;
    score = 1;
    index = static_cast<uint32_t>(cursor.ordinal - start);
  }
  if (score <= reading.best.score) return;
  reading.best = {.score = score,
                  .key = cursor.key,
                  .position = view.cookie(index - 1),
                  .name = hash_bytes(view.name(index - 1)),
                  .index = index,
                  .era = view.header().era,
                  .token = cursor.token};
}

// Goes on at the best place that the search has found.
DirCore::Outcome DirCore::way_back_ended(Reading& reading) {
  CursorState& cursor = reading.cursor;
  reading.way_back = false;
  // All of the entries around it are gone, and nothing tells where they were.
  if (reading.best.score == 0) return {Step::kDone, Status::error(ESTALE)};
  step_to(cursor, reading.best.key, reading.best.token);
  cursor.index = reading.best.index;
  cursor.position = reading.best.position;
  cursor.era = reading.best.era;
  cursor.lost = false;
  // From now on that is the entry at the position, whether this reader was given it or not.
  if (cursor.index > 0) {
    cursor.recent[cursor.recent_count++ % CursorState::kRecent] = reading.best.name;
  }
  cursor.forget_checkpoint();  // the search may have been beyond this place
  return {Step::kAgain, {}};
}

}  // namespace cache
