// DirCore, filling: from remote answers to sealed arrays. See fill.h for the states.
#include <algorithm>
#include <cstring>

#include "cache/base/race_point.h"
#include "cache/dir/cookie_map.h"
#include "cache/dir/dir_core.h"

namespace cache {
namespace {

int64_t ticks_now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

bool good_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

void grow(uint32_t& ask, uint32_t times) {
  constexpr uint64_t kMost = 1u << 30;
  ask = static_cast<uint32_t>(std::min<uint64_t>(uint64_t{ask} * times, kMost));
}

// Tokens that can lead on: neither empty (the beginning) nor longer than a token may be.
bool tokens_fit(const DirAnswer& answer) {
  return std::all_of(answer.entries.begin(), answer.entries.end(), [](const auto& entry) {
    return entry.token_length >= 1 && entry.token_length <= kMaxTokenBytes;
  });
}

bool dot_or_dot_dot(std::string_view name) { return name == "." || name == ".."; }

}  // namespace

// --- places -----------------------------------------------------------------------------------

ResumeToken DirCore::resume_token(uint64_t key, const std::string& token) const {
  if (key == 0) return {};
  if (!mapped_.load(std::memory_order_acquire)) return {.cookie = key, .bytes = {}};
  if (kind_ == CookieKind::kOpaque) return {.cookie = 0, .bytes = token};
  ResumeToken place;
  if (token.size() == sizeof(place.cookie)) {
    std::memcpy(&place.cookie, token.data(), sizeof(place.cookie));
  }
  return place;
}

ResumeToken DirCore::place_after(const DirAnswer& answer, size_t index) const {
  const DirAnswer::Entry& entry = answer.entries[index];
  if (kind_ == CookieKind::kNative) return {.cookie = entry.cookie, .bytes = {}};
  return {.cookie = 0, .bytes = std::string(answer.token(entry))};
}

std::string DirCore::mapped_token(const DirAnswer& answer, size_t index) const {
  const DirAnswer::Entry& entry = answer.entries[index];
  if (kind_ == CookieKind::kOpaque) return std::string(answer.token(entry));
  return cookie_map::token(entry.cookie);
}

uint64_t DirCore::mapped_key_of(std::string_view token) const {
  uint64_t key = cookie_map::array_key(token);
  // Another token may have this number already; it is the anchors that know.
  for (const Anchor* a = anchors_.find(key); a != nullptr && a->token != token;
       a = anchors_.find(key)) {
    key = cookie_map::next_array_key(key);
  }
  return key;
}

uint64_t DirCore::fills_active() const {
  return static_cast<uint64_t>(std::max<int64_t>(stats_.fills_active.get(), 1));
}

// Remotes give less than they were asked for: by bytes, or because they never give more.
uint32_t DirCore::expected_of(uint32_t ask) const {
  if (usual_answer_ == 0) return ask;
  return std::min(ask, std::max(usual_answer_, kEntriesPerArray));
}

uint32_t DirCore::max_ask() const { return max_ask_of(fills_active()); }

uint32_t DirCore::max_ask_of(uint64_t fills) const {
  const uint64_t most = std::min<uint64_t>(source_.max_batch(), room_under_way() / fills);
  return static_cast<uint32_t>(std::max<uint64_t>(most, kEntriesPerArray));
}

// What all fills fetch ahead must fit into what reclaim leaves of its probation queue, half its
// share, or it is gone before it is read: half of that, at about 64 bytes an entry, for the answers
// that are read now, and as much for those under way.
uint64_t DirCore::room_under_way() const {
  return cache_.bound_bytes() / (4 * ReclaimLists::kShares) / 64;
}

// More fills side by side would not bring more entries in a round trip, only smaller answers: what
// is under way is bounded by its room, whoever asks.
uint32_t DirCore::widest() const {
  const uint64_t answer = expected_of(std::max(source_.max_batch(), kEntriesPerArray));
  return static_cast<uint32_t>(std::clamp<uint64_t>(room_under_way() / answer, 1, kMaxWidth));
}

// --- the life of a fill -----------------------------------------------------------------------

DirCore::FillPtr DirCore::find_fill(uint64_t key) {
  const uint64_t now = pages_->sequence();
  for (const FillPtr& fill : fill_owners_) {
    if (fill->key == key && !fill->sealed && fill->stamp.sequence == now) return fill;
  }
  return nullptr;
}

// What a reader that came through the chain knows of the place that it has reached; else empty.
FillTail DirCore::tail_at(const CursorState& cursor) {
  if (cursor.mapped || cursor.key == 0 || cursor.edge.key != cursor.key) return {};
  return {.before_last = {.cookie = cursor.edge.before, .bytes = {}},
          .last_name = cursor.edge.name};
}

// To a fill that was begun by somebody who had not come that way.
void DirCore::lend_tail(const CursorState& cursor, Fill& fill) {
  if (fill.tail.last_name.empty() && cursor.era == era_.load(std::memory_order_relaxed)) {
    fill.tail = tail_at(cursor);
  }
}

DirCore::FillPtr DirCore::start_fill(const CursorState& cursor, const FillWish& wish, FillFor whom,
                                     int* error, uint32_t ask) {
  *error = 0;
  if (closed_) {
    *error = ENOTCONN;
    return nullptr;
  }
  // First those that wait for demand, then those that nobody waits for.
  for (const bool asking : {false, true}) {
    if (fill_owners_.size() < kMaxFills) break;
    for (const FillPtr& idle : std::vector<FillPtr>(fill_owners_)) {
      if (idle->waiters == 0 && (asking || !idle->in_flight)) end_fill(*idle, 0);
    }
  }
  // A key of an older numbering may be used once it is proved that the remote still counts so.
  const bool prove = cursor.key != 0 && cursor.era != era_.load(std::memory_order_relaxed);
  FillTail tail = tail_at(cursor);
  if (prove && tail.last_name.empty()) {
    *error = kErrBadCookie;
    return nullptr;
  }
  // Nothing to tell the remote would mean its beginning.
  if (cursor.key != 0 && cursor.token.empty() && mapped_.load(std::memory_order_relaxed)) {
    *error = kErrBadCookie;
    return nullptr;
  }
  Result<AddressSpace::Grabbed> grabbed = pages_->grab(cursor.key);
  if (!grabbed.ok()) {
    *error = grabbed.error_number();
    return nullptr;
  }
  if (!grabbed.value().created) return nullptr;
  ++arrays_begun_;
  auto fill = std::make_shared<Fill>();
  fill->key = cursor.key;
  fill->page = std::move(grabbed.value().page);
  fill->stamp = {
      .sequence = pages_->sequence(), .change = change_, .when = ticks_now(), .own = own_changes_};
  if (cursor.key != 0 && !anchors_.is_new(cursor.key)) overlaps_ = true;
  const Anchor* anchor = anchors_.find(cursor.key);
  // A reader that looks for its place from the beginning keeps its own count.
  const uint64_t counted = cursor.key == 0 ? 0 : cursor.ordinal;
  const uint32_t position = anchor != nullptr ? anchor->position : static_cast<uint32_t>(counted);
  // Known anew in this generation: it is in use.
  anchors_.add(cursor.key, position, anchor != nullptr ? anchor->token : cursor.token);
  fill->want_attrs = wish.attrs && !attrs_refused_;
  fill->attrs_since = wish.attrs_since;
  fill->builder.reset(fill->page->content(), {.change = change_,
                                              .filled = fill->stamp.when,
                                              .position = position,
                                              .with_attrs = true,
                                              .era = era_.load(std::memory_order_relaxed)});
  fill->after = resume_token(cursor.key, cursor.token);
  fill->verifier = cursor.key == 0 ? 0 : verifier_;
  fill->ask = ask;
  fill->arrays_left = wish.most_arrays;
  fill->bounded = wish.most_arrays > 0;
  fill->reached = position;
  if (whom == FillFor::kWaiter) fill->waiters = fill->hungry = 1;
  fill->proving = prove;
  fill->tail = std::move(tail);
  fills_.push_back(*fill);
  fill_owners_.push_back(fill);
  stats_.fills_started.add();
  fill->expected = whom == FillFor::kExpected;
  send_request(fill);
  return fill;
}

// Entries that a fill with a bound has still to ask for.
uint32_t DirCore::left_of(const Fill& fill) {
  const uint32_t end = fill.builder.position() + fill.arrays_left * kEntriesPerArray;
  return end > fill.reached ? end - fill.reached : 0;
}

void DirCore::send_request(const FillPtr& fill) {
  if (closed_ || fill->ended) return;
  count_fill(*fill, true);
  DirRequest request;
  if (fill->renewing) {
    request.max_entries = 1;
  } else {
    request.after = fill->proving ? fill->tail.before_last : fill->after;
    request.verifier = fill->verifier;
    // 0: it was to join there and did not, for the remote has changed: it goes on.
    const uint32_t missing = missing_after(*fill);
    request.max_entries = std::min(fill->ask, max_ask());
    if (missing > 0 && fill->failures == 0)
      request.max_entries = std::min(request.max_entries, missing);
    if (fill->arrays_left > 0 && fill->failures == 0) {
      request.max_entries = std::clamp(left_of(*fill), 1u, request.max_entries);
    }
    fill->asked_until = fill->reached + expected_of(request.max_entries);
    request.want_attrs = fill->want_attrs && !attrs_refused_;
  }
  fill->sent_attrs = request.want_attrs;
  fill->sent_ask = request.max_entries;
  const uint64_t serial = ++serials_;
  fill->serial = serial;
  fill->in_flight = true;
  fill->request = 0;
  fill->sent = {
      .sequence = pages_->sequence(), .change = change_, .when = ticks_now(), .own = own_changes_};
  ++requests_;
  ++calls_out_;
  mutex_.unlock();
  const DirSource::RequestId id = source_.read_dir(
      std::move(request), [self = shared_from_this(), fill, serial](DirAnswer&& answer) {
        self->on_answer(fill, serial, std::move(answer));
      });
  mutex_.lock();
  --calls_out_;
  if (closed_) progress_.notify_all();
  if (fill->serial != serial || !fill->in_flight) return;
  if (fill->ended) {
    cancel_later(id);
  } else {
    fill->request = id;
  }
}

void DirCore::count_fill(Fill& fill, bool counts) {
  if (std::exchange(fill.counted, counts) != counts) stats_.fills_active.add(counts ? 1 : -1);
}

void DirCore::end_fill(Fill& fill, int error) {
  if (fill.ended) return;
  fill.ended = true;
  fill.error = error;
  count_fill(fill, false);
  if (!fill.sealed) pages_->fill_failed(*fill.page);
  // Waiters may still read what was built: the last of them drops the pin. A completion that comes
  // late, or never, must not hold it.
  if (fill.waiters == 0) fill.page.reset();
  if (fill.in_flight && fill.request != 0) cancel_later(fill.request);
  fills_.erase(fills_.iterator_to(fill));
  std::erase_if(fill_owners_, [&](const FillPtr& owner) { return owner.get() == &fill; });
  if (!removal_log_.empty() && !answers_expected()) removal_log_.clear();
  progress_.notify_all();
}

bool DirCore::wants_more(const Fill& fill) const {
  if (fill.ended || fill.in_flight || outlived(fill)) return false;
  // One with a bound ends by itself, whoever waits.
  return fill.hungry > 0 || fill.bounded || (handles_ > 0 && fill.unread < kMaxUnread);
}

void DirCore::demand(CursorState& cursor, uint32_t position) {
  refill_ahead(cursor, position);
  // The nearest one only: fills that evictions have left behind elsewhere in the listing would
  // otherwise all run on, for nobody.
  FillPtr nearest;
  for (const FillPtr& fill : fill_owners_) {
    const uint32_t at = fill->builder.position();
    if (at >= position && (nearest == nullptr || at < nearest->builder.position())) nearest = fill;
  }
  if (nearest == nullptr) return;
  // One answer was reached, one more may come: without a mark for each the distance would grow.
  if (nearest->unread > 0) --nearest->unread;
  if (nearest->taking || !wants_more(*nearest)) return;
  // What it was begun for may have been names.
  nearest->want_attrs |= attrs_wanted_.load(std::memory_order_relaxed) && nearest->arrays_left == 0;
  send_request(nearest);
}

// --- refilling side by side -------------------------------------------------------------------

void DirCore::refill_ahead(CursorState& cursor, uint32_t position) {
  // Not at a seek's first arrays: there nothing tells yet that it reads on.
  if (closed_ || handles_ == 0 || cursor.arrays_passed < kReadsOn || outdated(cursor)) return;
  if (std::exchange(cursor.lost_ahead, false)) {
    cursor.refill_width = 1;
    cursor.frontier = {};
    cursor.refill_pause = cursor.refill_pauses = std::min(cursor.refill_pauses * 2 + 1, kMaxPause);
  }
  if (cursor.refill_pause > 0) {
    --cursor.refill_pause;
    return;
  }
  const uint32_t widest = this->widest();
  cursor.refill_width = std::min(cursor.refill_width * 2, widest);
  if (cursor.refill_width == widest) cursor.refill_pauses = 0;
  uint32_t stride = max_ask_of(std::max<uint64_t>(fills_active(), cursor.refill_width));
  stride = expected_of(stride);
  stride -= stride % kEntriesPerArray;
  const uint64_t end = position + uint64_t{stride} * cursor.refill_width;
  CursorState::Frontier& frontier = cursor.frontier;
  const bool goes_on = frontier.position >= position && frontier.position < end &&
                       anchors_.find(frontier.key) != nullptr;
  if (!goes_on) frontier = {.key = cursor.key, .position = position};
  for (;;) {
    const Anchor* next = anchors_.after(frontier.key);
    if (next == nullptr || next->position >= end || next->position <= frontier.position) return;
    const bool known = asked_until(next->position) > next->position || pages_->find(next->key);
    if (!known && fill_owners_.size() + 2 > kMaxFills) return;
    frontier = {.key = next->key, .position = next->position};
    if (known) continue;
    CursorState there;
    there.mapped = cursor.mapped;
    there.era = era_.load(std::memory_order_relaxed);
    there.key = there.position = next->key;
    there.ordinal = next->position;
    there.token = next->token;
    int error = 0;  // shows when a reader asks for the array
    const FillWish wish = {.attrs = attrs_wanted_.load(std::memory_order_relaxed)};
    const FillPtr fill = start_fill(there, wish, FillFor::kLater, &error, stride);
    if (closed_ || error != 0) return;
    if (fill != nullptr) stats_.fills_ahead.add();
  }
}

// A fill had to begin where everything had been asked for.
void DirCore::note_lost_ahead(CursorState& cursor, const Fill& begun) {
  if (begun.builder.position() < cursor.frontier.position) cursor.lost_ahead = true;
}

// The end of the answer, taken in or under way, that brings the entry at this position.
uint32_t DirCore::asked_until(uint32_t position) const {
  for (const FillPtr& fill : fill_owners_) {
    const uint32_t until = fill->in_flight ? fill->asked_until : fill->reached;
    if (fill->builder.position() <= position && position < until) return until;
  }
  return 0;
}

// Entries from where this fill stands to the next array that is there already, or asked for: 0 when
// it comes to one now.
uint32_t DirCore::missing_after(const Fill& fill) const {
  const uint32_t from = fill.reached;
  const uint64_t far = uint64_t{from} + std::min(fill.ask, max_ask());
  for (const Anchor* next = anchors_.after(fill.key); next != nullptr && next->position < far;
       next = anchors_.after(next->key)) {
    if (next->position < from) continue;
    const PageRef page = pages_->find(next->key);
    const bool held = page && !replaces(fill, *page);
    if (held || asked_until(next->position) > next->position) return next->position - from;
  }
  return ~uint32_t{0};
}

void DirCore::cancel_later(DirSource::RequestId id) { cancels_.push_back(id); }

void DirCore::flush_cancels() {
  std::vector<DirSource::RequestId> ids;
  {
    MutexLock lock(mutex_);
    if (cancels_.empty() || closed_) return;
    ids.swap(cancels_);
    ++calls_out_;
  }
  for (const DirSource::RequestId id : ids) source_.cancel(id);
  MutexLock lock(mutex_);
  --calls_out_;
  if (closed_) progress_.notify_all();
}

// --- answers ----------------------------------------------------------------------------------

void DirCore::on_answer(const FillPtr& fill, uint64_t serial, DirAnswer&& answer) {
  {
    MutexLock lock(mutex_);
    if (closed_ || fill->ended || serial != fill->serial) return;
    fill->in_flight = false;
    if (fill->taking) {
      fill->queued = std::move(answer);
      return;
    }
    fill->taking = true;
    take_answer(fill, answer);
    while (!fill->ended && !closed_ && fill->queued) {
      DirAnswer next = std::move(*fill->queued);
      fill->queued.reset();
      take_answer(fill, next);
    }
    fill->taking = false;
    if (!removal_log_.empty() && !answers_expected()) removal_log_.clear();
    // A reader may have come while the answer was being put away.
    if (wants_more(*fill)) send_request(fill);
    // Until its reader comes it needs no room for an answer.
    if (fill->expected && !fill->in_flight) count_fill(*fill, false);
    progress_.notify_all();
  }
  flush_cancels();
}

void DirCore::take_answer(const FillPtr& fill, DirAnswer& answer) {
  const RequestStamp stamp = fill->sent;
  const bool asked_attrs = fill->sent_attrs;
  if (answer.change != 0) change_ = latest(answer.change);
  if (answer.error != 0) return take_failure(fill, answer.error);
  if (!answer.well_formed() || (kind_ == CookieKind::kOpaque && !tokens_fit(answer))) {
    stats_.bad_answers.add();
    return try_again(fill, EIO);
  }
  if (answer.verifier != 0) note_verifier(*fill, answer.verifier);
  if (fill->ended) return;
  if (fill->renewing) {
    fill->renewing = false;
    fill->renewed = true;
    fill->proving = true;
    return send_request(fill);
  }
  if (!cookies_fit(*fill, answer)) return;
  const size_t from = first_new_entry(*fill, answer);
  if (std::exchange(fill->proving, false)) {
    if (fill->renewed) verifier_ = fill->verifier;
    if (from != 1) {  // kGoesBack too: what was a sentinel stands with another entry by now
      if (fill->renewed) begin_era();
      return end_fill(*fill, kErrBadCookie);
    }
  } else if (from == kGoesBack) {
    stats_.bad_answers.add();
    return try_again(fill, EIO);
  } else if (from > 0) {
    stats_.bad_answers.add();  // entries that it had given before
  }
  if (from == answer.entries.size() && !answer.eof) {
    stats_.bad_answers.add();  // neither an entry nor the end
    grow(fill->ask, 2);
    return try_again(fill, EIO);
  }
  fill->failures = 0;
  fill->renewals = 0;
  fill->renewed = false;
  if (asked_attrs && !answer.has_attrs && from < answer.entries.size()) attrs_refused_ = true;
  advance_token(*fill, answer);
  fill->reached = fill->builder.position() + fill->builder.count() +
                  static_cast<uint32_t>(answer.entries.size() - from);
  ++fill->unread;
  if (answer.entries.size() < fill->sent_ask && !answer.eof) {
    usual_answer_ = static_cast<uint32_t>(answer.entries.size());
  } else if (usual_answer_ > 0) {
    usual_answer_ = std::max(usual_answer_, static_cast<uint32_t>(answer.entries.size()));
  }
  grow(fill->ask, kGrowth);
  // The next request goes out before this answer is put into arrays.
  const bool more = fill->arrays_left == 0 || left_of(*fill) > 0;
  if (!answer.eof && more && wants_more(*fill) && missing_after(*fill) > 0) {
    // An array has them all or none: what readers want now counts from the next array on.
    const size_t built = fill->builder.count() + answer.entries.size() - from;
    if (built >= kEntriesPerArray && fill->arrays_left == 0)
      fill->want_attrs = attrs_wanted_.load(std::memory_order_relaxed) && !attrs_refused_;
    send_request(fill);
  }
  if (fill->ended) return;
  if (outlived(*fill)) return take_outlived(*fill, answer, from, stamp.own);
  take_entries(*fill, answer, from, stamp);
  fill->reached = fill->builder.position() + fill->builder.count();  // bad names not counted
}

// A listing that begins under another verifier than the one known begins a new numbering. Where a
// fill has asked for a new verifier in mid-listing, its own last entry tells whether the numbering
// is new; until that has come, and it may never come, nobody else may use the verifier: with it the
// remote would take a cookie that has lost its meaning.
void DirCore::note_verifier(Fill& fill, uint64_t verifier) {
  fill.verifier = verifier;
  if (fill.renewing || fill.renewed) return;
  const uint64_t known = std::exchange(verifier_, verifier);
  if (known == 0 || known == verifier || fill.after != ResumeToken{}) return;
  begin_era();
  if (!fill.ended) fill.builder.set_era(era_.load(std::memory_order_relaxed));
}

void DirCore::try_again(const FillPtr& fill, int error) {
  if (++fill->failures > kMaxFailures) return end_fill(*fill, error);
  send_request(fill);
}

void DirCore::take_failure(const FillPtr& fill, int error) {
  if (error == kErrTooSmall) {
    grow(fill->ask, 2);
    return try_again(fill, EIO);
  }
  if (error == EAGAIN) return try_again(fill, EIO);
  if (error != kErrBadCookie) return end_fill(*fill, error);
  stats_.bad_cookies.add();
  // A new verifier, then the proof that the last entry still is where it was: two round trips
  // instead of a listing from the start.
  fill->proving = false;
  if (fill->tail.last_name.empty()) return end_fill(*fill, kErrBadCookie);
  fill->renewing = true;
  fill->verifier = 0;
  // Changes can overtake many of these in a row, and the next one may get through all the same.
  if (++fill->renewals > kMaxRenewals) return end_fill(*fill, kErrBadCookie);
  send_request(fill);
}

bool DirCore::cookies_fit(Fill& fill, const DirAnswer& answer) {
  if (kind_ == CookieKind::kOpaque || mapped_.load(std::memory_order_relaxed)) return true;
  for (const DirAnswer::Entry& entry : answer.entries) {
    if (cookie_map::fits(entry.cookie)) continue;
    switch_to_mapped(&fill);
    end_fill(fill, kErrBadCookie);
    return false;
  }
  return true;
}

size_t DirCore::first_new_entry(const Fill& fill, const DirAnswer& answer) const {
  const auto& entries = answer.entries;
  if (fill.after == ResumeToken{} || entries.empty()) return 0;
  const auto leads_to_after = [&](size_t i) {
    return kind_ == CookieKind::kNative ? entries[i].cookie == fill.after.cookie
                                        : answer.token(entries[i]) == fill.after.bytes;
  };
  // Servers exist that give several entries one cookie: names known to differ are other entries,
  // but only next to each other. Further on, the place has come back: nothing here can be used.
  size_t run = 0;
  while (run < entries.size() && leads_to_after(run)) ++run;
  for (size_t i = entries.size(); i-- > 0;) {
    if (!leads_to_after(i)) continue;
    if (fill.tail.last_name.empty() || answer.name(entries[i]) == fill.tail.last_name) return i + 1;
    if (i >= run) return kGoesBack;
  }
  return 0;
}

void DirCore::advance_token(Fill& fill, const DirAnswer& answer) {
  const size_t n = answer.entries.size();
  if (n == 0) return;
  fill.tail.before_last = n >= 2 ? place_after(answer, n - 2) : fill.after;
  fill.tail.last_name.assign(answer.name(answer.entries[n - 1]));
  fill.after = place_after(answer, n - 1);
}

// --- entries into arrays ----------------------------------------------------------------------

bool DirCore::append(Fill& fill, const DirAnswer& answer, size_t index, uint64_t known) {
  const DirAnswer::Entry& entry = answer.entries[index];
  const std::string_view name = answer.name(entry);
  if (!good_name(name)) {
    stats_.bad_names.add();
    return false;
  }
  if (dot_or_dot_dot(name)) return false;
  const uint64_t cookie = mapped_.load(std::memory_order_relaxed)
                              ? cookie_map::cookie(fill.key, fill.builder.count(), name)
                              : entry.cookie;
  fill.builder.append(cookie, entry.ino, entry.type, name,
                      answer.has_attrs ? &answer.attrs[index] : nullptr);
  if (known != own_changes_ || own_names_.any()) patch_appended(fill, name, known);
  return true;
}

// The array is older than an invalidation: those who wait may have its entries (they began to list
// before), but nothing is kept. They ask for the next answer themselves, when they lack entries.
void DirCore::take_outlived(Fill& fill, const DirAnswer& answer, size_t from, uint64_t known) {
  stats_.fills_discarded.add();
  if (fill.waiters == 0) return end_fill(fill, 0);
  size_t i = from;
  while (i < answer.entries.size() && !fill.builder.full()) append(fill, answer, i++, known);
  if (fill.builder.full()) {
    const bool mapped = mapped_.load(std::memory_order_relaxed);
    const std::string token = mapped ? mapped_token(answer, i - 1) : std::string();
    complete_array(fill, kArrayFull, token);
    if (mapped) anchors_.add(fill.complete->next_key, fill.builder.position(), token);
  } else if (answer.eof) {
    complete_array(fill, kArrayEof, {});
  } else {
    return;
  }
  end_fill(fill, 0);
}

void DirCore::take_entries(Fill& fill, const DirAnswer& answer, size_t from,
                           const RequestStamp& stamp) {
  bool mark = true;
  const auto& entries = answer.entries;
  const uint64_t before = fill.builder.count() > 0 ? fill.builder.last_cookie() : fill.key;
  const bool mapped = mapped_.load(std::memory_order_relaxed);
  uint64_t boundary = boundary_of(fill);
  for (size_t i = from; i < entries.size(); ++i) {
    const bool run_goes_on = i + 1 < entries.size() && entries[i + 1].cookie == entries[i].cookie;
    const bool reached = boundary != 0 && entries[i].cookie == boundary && !run_goes_on;
    if (!append(fill, answer, i, stamp.own) || (!fill.builder.full() && !reached)) continue;
    size_t last = i;
    if (!mapped && run_goes_on) {
      // Equal cookies stay in one array: its key could not tell which of them was the last. They
      // are taken back, and in again; those of an earlier answer can't be.
      const uint64_t run = entries[i].cookie;
      size_t first = i;
      while (first > from && entries[first - 1].cookie == run) --first;
      if ((first == from && run == before) || !fill.builder.drop_last_run()) {
        stats_.bad_answers.add();
        return end_fill(fill, EIO);
      }
      last = first - 1;  // may wrap: then this answer begins again
    }
    if (std::exchange(mark, false)) fill.page->set(page_state::kMark);
    const std::string token = mapped ? mapped_token(answer, last) : std::string();
    if (!seal_array(fill, kArrayFull, token)) return;
    if (!begin_next_array(fill, token, stamp)) return;
    boundary = boundary_of(fill);
    i = last;
  }
  if (!answer.eof) return;
  if (seal_array(fill, kArrayEof, {})) end_fill(fill, 0);
}

void DirCore::complete_array(Fill& fill, uint16_t flags, std::string_view token) {
  uint64_t next_key = fill.builder.count() > 0 ? fill.builder.last_cookie() : fill.key;
  if ((flags & kArrayFull) != 0 && mapped_.load(std::memory_order_relaxed)) {
    next_key = mapped_key_of(token);
    fill.builder.set_last_cookie(next_key);
  }
  fill.complete =
      ArrayEnd{.next_key = next_key, .token = std::string(token), .eof = (flags & kArrayEof) != 0};
}

bool DirCore::seal_array(Fill& fill, uint16_t flags, std::string_view token) {
  complete_array(fill, flags, token);
  if (mapped_.load(std::memory_order_relaxed)) flags |= kArrayMapped;
  if (!fill.builder.seal(cache_, fill.complete->next_key, flags, token)) {
    end_fill(fill, ENOMEM);
    return false;
  }
  note_order(fill);
  const bool moved = boundary_moved(fill);
  // By a change of somebody else's: two arrays may have a name until that is known.
  overlaps_ |= moved;
  if (moved && patched_) {
    // The arrays that were there go on from another place: entries would be given twice.
    if (mapped_.load(std::memory_order_relaxed) && !fill.complete->eof) {
      anchors_.add(fill.complete->next_key, fill.builder.position() + fill.builder.count(), token);
    }
    invalidate_locked(Forgotten::kOwnChange);
    if (fill.ended) return false;
  }
  // The last step decides: a page that an invalidation overtook is removed instead.
  fill.sealed = true;
  if (!pages_->fill_done(*fill.page, fill.stamp.sequence)) {
    stats_.fills_discarded.add();
    end_fill(fill, 0);
    return false;
  }
  note_stamp(fill.stamp.change);
  if (fill.complete->eof) eof_key_ = fill.key;
  index_sealed(*fill.page);
  if (fill.waiters > 0) progress_.notify_all();
  return true;
}

void DirCore::note_order(const Fill& fill) {
  const ArrayView view = fill.builder.view();
  if (view.count() == 0) return;
  const uint16_t flags = view.header().flags;
  const bool begins = fill.key == 0;
  if ((flags & kArrayAscending) == 0 || (!begins && view.cookie(0) <= fill.key)) {
    ascending_.store(false, std::memory_order_relaxed);
  }
  if ((flags & kArrayDescending) == 0 || (!begins && view.cookie(0) >= fill.key)) {
    descending_.store(false, std::memory_order_relaxed);
  }
}

bool DirCore::replaces(const Fill& fill, const Page& page) const {
  if (!fill.want_attrs || attrs_refused_ || !page.uptodate()) return false;
  const ArrayView view = ArrayView::of(page.content());
  if (!view.has_attrs()) return true;
  const int64_t filled = view.header().filled;
  return filled < fill.attrs_since.time_since_epoch().count() && filled < fill.stamp.when;
}

bool DirCore::begin_next_array(Fill& fill, std::string_view token, const RequestStamp& stamp) {
  const bool mapped = mapped_.load(std::memory_order_relaxed);
  const uint64_t key = fill.builder.last_cookie();
  const uint32_t position = fill.builder.position() + fill.builder.count();
  // A mapped cookie can't be resolved without its anchor.
  if (!anchors_.add(key, position, token) && mapped) {
    end_fill(fill, ENOMEM);
    return false;
  }
  if (fill.arrays_left == 1) {
    anchors_.chain(fill.key, key);
    end_fill(fill, 0);
    return false;
  }
  if (fill.arrays_left > 0) --fill.arrays_left;
  Result<AddressSpace::Grabbed> grabbed = pages_->grab(key);
  if (grabbed.ok() && !grabbed.value().created && replaces(fill, *grabbed.value().page)) {
    pages_->remove(*grabbed.value().page);
    grabbed = pages_->grab(key);
  }
  if (grabbed.ok() && grabbed.value().created) ++arrays_begun_;
  anchors_.chain(fill.key, key);
  fill.key = key;
  fill.hungry = 0;  // who waited for the array before this one has it, awake yet or not
  if (!grabbed.ok() || !grabbed.value().created) {
    end_fill(fill, grabbed.error_number());  // no memory; or joined: the chain goes on from there
    return false;
  }
  fill.page = std::move(grabbed.value().page);
  fill.sealed = false;
  fill.complete.reset();
  fill.stamp = stamp;
  fill.builder.reset(fill.page->content(), {.change = stamp.change,
                                            .filled = stamp.when,
                                            .position = position,
                                            .with_attrs = true,
                                            .era = era_.load(std::memory_order_relaxed)});
  return true;
}

}  // namespace cache
