// DirCore, reading: from a position to entries in the sink.
#include <algorithm>
#include <bit>

#include "cache/base/hash.h"
#include "cache/dir/cookie_map.h"
#include "cache/dir/dir_core.h"

namespace cache {
namespace {

// Steps of one read() that gave no entry and did not move to another array: enough for any race
// with invalidations, little enough not to spin.
constexpr uint32_t kMaxRounds = 64;
constexpr uint32_t kMaxRecoveries = 4;
constexpr auto kMemoryWait = std::chrono::milliseconds(5);

constexpr uint32_t kOrderProof = 12;

constexpr uint64_t kNoCheckpoint = ~uint64_t{0};

}  // namespace

Status DirCore::read(CursorState& cursor, uint64_t position, const ReadOptions& options,
                     EntrySink& sink) {
  stats_.readdir_calls.add();
  place(cursor, position);
  if (position != 0) attrs_wanted_.store(options.want_attrs, std::memory_order_relaxed);
  Reading reading(cursor, options, sink);
  for (;;) {
    const uint64_t key = cursor.key;
    Outcome outcome = read_step(reading);
    if (outcome.step == Step::kUncached) {
      cursor.uncached = true;
    } else if (outcome.step == Step::kLost) {
      outcome = recover(reading, outcome.status.error_number());
    }
    if (outcome.step == Step::kDone) {
      // What was given is given; the error shows at the next call.
      return reading.consumed ? Status() : outcome.status;
    }
    reading.rounds = cursor.key == key ? reading.rounds + 1 : 0;
    if (reading.rounds > kMaxRounds) return reading.consumed ? Status() : Status::error(EIO);
  }
}

// --- where to go on ---------------------------------------------------------------------------

void DirCore::place(CursorState& cursor, uint64_t position) {
  if (position == cursor.position && position != 0) return;
  cursor = CursorState{};
  cursor.checkpoint = kNoCheckpoint;
  cursor.position = position;
  if (position == 0) return;
  if (mapped_.load(std::memory_order_acquire)) {
    cursor.key = cookie_map::array_of(position);
    MutexLock lock(mutex_);
    const Anchor* anchor = anchors_.find(cursor.key);
    if (anchor != nullptr) {
      cursor.token = anchor->token;
      cursor.ordinal = anchor->position;
    } else if (cursor.key != 0) {
      cursor.seek_key = std::exchange(cursor.key, 0);  // the map was lost: walk there
    }
    return;
  }
  cursor.uncached = true;
  place_by_order(cursor);
  if (cursor.uncached) place_by_scan(cursor);
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

// Index of the entry after the cursor's position; none when this array does not tell.
std::optional<uint32_t> DirCore::locate(const CursorState& cursor, const ArrayView& view,
                                        Extent extent) const {
  const uint64_t position = cursor.position;
  if (position == cursor.key) return 0;  // arrived through the chain
  if (cursor.index > 0 && cursor.index <= view.count() &&
      view.cookie(cursor.index - 1) == position) {
    return cursor.index;
  }
  uint32_t i = view.find_cookie(position);
  if (i < view.count()) return i + 1;
  if (extent == Extent::kPartial) return std::nullopt;
  const uint32_t n = view.count();
  if (mapped_.load(std::memory_order_acquire)) {
    if (cookie_map::array_of(position) != cursor.key) return std::nullopt;
    // The array was filled again after a change: nearest entry of that name, else its old index.
    const uint64_t bits = position & cookie_map::kNameMask;
    const uint32_t was = cookie_map::index_after(position) - 1;
    for (uint32_t away = 0; away < n; ++away) {
      if (was + away < n && cookie_map::name_bits(view.name(was + away)) == bits) {
        return was + away + 1;
      }
      if (away <= was && was - away < n && cookie_map::name_bits(view.name(was - away)) == bits) {
        return was - away + 1;
      }
    }
    return std::min(was, n);
  }
  // The entry is gone; in order, the next one is known all the same. A few entries may stand in
  // order by chance: then the remote is asked.
  if (n < kOrderProof) return std::nullopt;
  const uint16_t flags = view.header().flags;
  if ((flags & kArrayAscending) != 0 && position > cursor.key) {
    for (i = 0; i < n && view.cookie(i) <= position; ++i) {
    }
    return i;
  }
  if ((flags & kArrayDescending) != 0 && (cursor.key == 0 || position < cursor.key)) {
    for (i = 0; i < n && view.cookie(i) >= position; ++i) {
    }
    return i;
  }
  return std::nullopt;
}

void DirCore::step_to(CursorState& cursor, uint64_t key, std::string_view token) {
  cursor.key = key;
  cursor.token.assign(token);
  cursor.index = 0;
  cursor.hint = nullptr;
}

bool DirCore::goes_round(CursorState& cursor) {
  if (cursor.key == cursor.checkpoint) return true;
  if (++cursor.arrays_passed >= cursor.next_checkpoint) {
    cursor.checkpoint = cursor.key;
    cursor.next_checkpoint *= 2;
  }
  return false;
}

DirCore::Outcome DirCore::next_array(Reading& reading, const ArrayView& view) {
  step_to(reading.cursor, view.header().last_cookie, view.token());
  if (goes_round(reading.cursor)) {
    stats_.bad_answers.add();
    invalidate();  // the next try asks the remote
    return {Step::kDone, Status::error(EIO)};
  }
  return {Step::kAgain, {}};
}

// --- one step ---------------------------------------------------------------------------------

bool DirCore::lacks_attrs(const Reading& reading, const ArrayView& view) const {
  if (!reading.options.want_attrs || reading.way_back || view.count() == 0) return false;
  return !view.has_attrs() ||
         view.header().filled < reading.options.attrs_not_before.time_since_epoch().count();
}

DirCore::Outcome DirCore::read_step(Reading& reading) {
  CursorState& cursor = reading.cursor;
  if (cursor.uncached) return read_own(reading);
  PageRef page = pages_->find_hint(cursor.hint, cursor.key);
  if (!page) page = pages_->find(cursor.key);
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
    page->mark_accessed();
    cursor.hint = page.get();
  }
  if (page->has(page_state::kMark) && page->clear(page_state::kMark)) {
    MutexLock lock(mutex_);
    demand(ArrayView::of(page->content()).header().position);
  }
  const ArrayView view = ArrayView::of(page->content());
  const bool eof = (view.header().flags & kArrayEof) != 0;
  if (reading.way_back) {
    if (find_way_back(reading, view)) return {Step::kAgain, {}};
    return eof ? way_back_ended(reading) : next_array(reading, view);
  }
  if (cursor.seek_key != 0) {
    if (cursor.key != cursor.seek_key) {
      return eof ? Outcome{Step::kDone, {}} : next_array(reading, view);
    }
    cursor.seek_key = 0;
  }
  const std::optional<uint32_t> from = locate(cursor, view, Extent::kSealed);
  if (!from) {
    const bool mapped = mapped_.load(std::memory_order_acquire);
    return mapped ? Outcome{Step::kLost, Status::error(kErrBadCookie)}
                  : Outcome{Step::kUncached, {}};
  }
  const Outcome outcome = consume(reading, view, *from);
  if (outcome.step == Step::kDone) return outcome;
  return eof ? Outcome{Step::kDone, {}} : next_array(reading, view);
}

// Done when the sink is full, again when it could take more.
DirCore::Outcome DirCore::consume(Reading& reading, const ArrayView& view, uint32_t from) {
  CursorState& cursor = reading.cursor;
  if (from >= view.count()) return {Step::kAgain, {}};
  const uint32_t taken = reading.sink.consume(view, from, view.count());
  if (taken > 0) {
    reading.consumed = true;
    cursor.index = from + taken;
    cursor.position = view.cookie(cursor.index - 1);
    cursor.ordinal += taken;
    remember(cursor, view, from, from + taken);
  }
  return {from + taken < view.count() ? Step::kDone : Step::kAgain, {}};
}

void DirCore::remember(CursorState& cursor, const ArrayView& view, uint32_t from, uint32_t to) {
  const uint32_t most = static_cast<uint32_t>(CursorState::kRecent);
  for (uint32_t i = to - from > most ? to - most : from; i < to; ++i) {
    cursor.recent[cursor.recent_count++ % most] = hash_bytes(view.name(i));
  }
}

// --- the way back by name ---------------------------------------------------------------------

// Cookies have lost their meaning (a new verifier, another numbering): list from the start without
// giving entries, up to the last one that was given.
DirCore::Outcome DirCore::recover(Reading& reading, int error) {
  CursorState& cursor = reading.cursor;
  if (reading.consumed) return {Step::kDone, {}};
  if (++reading.recoveries > kMaxRecoveries) {
    return {Step::kDone, Status::error(error == kErrBadCookie ? EIO : error)};
  }
  cursor.own.clear();
  cursor.uncached = false;
  cursor.seek_key = 0;
  cursor.checkpoint = kNoCheckpoint;
  cursor.arrays_passed = 0;
  cursor.next_checkpoint = 1;
  step_to(cursor, 0, {});
  invalidate();
  reading.way_back = cursor.position != 0;
  reading.best_rank = 0;
  return {Step::kAgain, {}};
}

// True when the last entry given was found and the cursor stands after it.
bool DirCore::find_way_back(Reading& reading, const ArrayView& view) {
  CursorState& cursor = reading.cursor;
  const uint64_t most = std::min<uint64_t>(cursor.recent_count, CursorState::kRecent);
  for (uint32_t i = 0; i < view.count() && most > 0; ++i) {
    const uint64_t hash = hash_bytes(view.name(i));
    for (uint64_t rank = most; rank > reading.best_rank; --rank) {
      const uint64_t slot = (cursor.recent_count - most + rank - 1) % CursorState::kRecent;
      if (cursor.recent[slot] != hash) continue;
      reading.best_rank = rank;
      reading.best_key = cursor.key;
      reading.best_token = cursor.token;
      reading.best_index = i + 1;
      break;
    }
  }
  // Without any name known (a seek), the count of entries given is the best guess.
  if (most == 0 && cursor.ordinal < view.header().position + view.count()) {
    reading.best_rank = 1;
    reading.best_key = cursor.key;
    reading.best_token = cursor.token;
    reading.best_index = static_cast<uint32_t>(
        cursor.ordinal - std::min<uint64_t>(cursor.ordinal, view.header().position));
  }
  if (reading.best_rank == 0 || reading.best_rank < most) return false;
  return way_back_ended(reading).step == Step::kAgain;
}

// Goes on after the latest of the remembered names that still exists.
DirCore::Outcome DirCore::way_back_ended(Reading& reading) {
  CursorState& cursor = reading.cursor;
  reading.way_back = false;
  if (reading.best_rank == 0) {
    // All of the last entries are gone, and nothing tells where they were.
    return {Step::kDone, Status::error(ESTALE)};
  }
  step_to(cursor, reading.best_key, reading.best_token);
  PageRef page = pages_->find(cursor.key);
  if (!page || !page->uptodate()) {
    reading.way_back = true;  // reclaimed meanwhile: it will be filled and found again
    return {Step::kAgain, {}};
  }
  const ArrayView view = ArrayView::of(page->content());
  if (reading.best_index == 0 || reading.best_index > view.count()) {
    cursor.position = cursor.key;
    return {Step::kAgain, {}};
  }
  cursor.index = reading.best_index;
  cursor.position = view.cookie(cursor.index - 1);
  return {Step::kAgain, {}};
}

// --- waiting for a fill -----------------------------------------------------------------------

void DirCore::set_waker(const ReadOptions& options) {
  if (options.interrupt == nullptr) return;
  options.interrupt->set_waker([weak = weak_from_this()] {
    if (const auto core = weak.lock()) {
      MutexLock lock(core->mutex_);
      core->progress_.notify_all();
    }
  });
}

bool DirCore::wait_a_while(const ReadOptions& options, int* error) {
  if (closed_) {
    *error = ENOTCONN;
  } else if (options.interrupt != nullptr && options.interrupt->triggered()) {
    *error = EINTR;
  } else if (options.deadline == TimePoint::max()) {
    progress_.wait(mutex_);
    return false;
  } else if (progress_.wait_until(mutex_, options.deadline) ||
             std::chrono::steady_clock::now() < options.deadline) {
    return false;
  } else {
    *error = ETIMEDOUT;
  }
  return true;
}

void DirCore::prefetch(const Reading& reading) {
  {
    int error = 0;  // shows when the array is asked for
    MutexLock lock(mutex_);
    if (const FillPtr fill = find_fill(reading.cursor.key)) {
      fill->unread = 0;
      if (!fill->taking && wants_more(*fill)) send_request(fill);
    } else {
      start_fill(reading.cursor, reading.options.want_attrs, &error);
    }
  }
  flush_cancels();
}

DirCore::Outcome DirCore::read_fill(Reading& reading) {
  if (reading.consumed) {
    prefetch(reading);
    return {Step::kDone, {}};
  }
  stats_.readdir_misses.add();
  set_waker(reading.options);
  Outcome outcome;
  {
    MutexLock lock(mutex_);
    int error = 0;
    FillPtr fill = find_fill(reading.cursor.key);
    if (fill == nullptr) fill = start_fill(reading.cursor, reading.options.want_attrs, &error);
    if (fill != nullptr) {
      outcome = wait_for_fill(reading, fill);
    } else if (error == ENOMEM && std::chrono::steady_clock::now() < reading.options.deadline) {
      // Everything is pinned by others at this moment; their replies will be sent soon.
      progress_.wait_until(mutex_, std::chrono::steady_clock::now() + kMemoryWait);
    } else if (error != 0) {
      outcome = {Step::kDone, Status::error(error)};
    }
  }
  if (reading.options.interrupt != nullptr) reading.options.interrupt->set_waker(nullptr);
  flush_cancels();
  return outcome;
}

DirCore::Outcome DirCore::wait_for_fill(Reading& reading, const FillPtr& fill) {
  const uint64_t key = reading.cursor.key;
  const bool skipping = reading.way_back || reading.cursor.seek_key != 0;
  ++fill->waiters;
  if (fill->key == key) ++fill->hungry;  // else it is past it already
  fill->unread = 0;
  fill->want_attrs |= reading.options.want_attrs && !attrs_refused_;
  if (!fill->taking && wants_more(*fill)) send_request(fill);
  Outcome outcome;
  int error = 0;
  while (fill->key == key) {
    const ArrayView view = fill->builder.view();
    const auto from = skipping ? std::nullopt : locate(reading.cursor, view, Extent::kPartial);
    // Without attributes that are wanted it waits for the whole array, which is filled again then.
    const bool bare = reading.options.want_attrs && !view.has_attrs() && !attrs_refused_;
    if (from && *from < view.count() && !bare) {
      consume(reading, view, *from);
      outcome = {Step::kDone, {}};
      break;
    }
    if (fill->ended || fill->sealed) {
      error = fill->error;
      break;
    }
    if (wait_a_while(reading.options, &error)) {
      if (fill->waiters == 1) end_fill(*fill, error);  // the last one leaves
      break;
    }
  }
  --fill->waiters;
  if (fill->key == key) --fill->hungry;
  if (fill->ended && fill->waiters == 0) fill->page.reset();
  if (error == kErrBadCookie) return {Step::kLost, Status::error(error)};
  if (error != 0 && error != ENOMEM) return {Step::kDone, Status::error(error)};
  if (error == ENOMEM) progress_.wait_until(mutex_, std::chrono::steady_clock::now() + kMemoryWait);
  return outcome;
}

}  // namespace cache
