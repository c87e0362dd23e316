// DirCore, the uncached path: arrays of the reader's own, from the position it asks for.
//
// They are never inserted into the index, and freed through free_page like every other. The path
// ends at the first known array key on its way: from there on the chain serves again.
#include <algorithm>

#include "cache/base/hash.h"
#include "cache/dir/cookie_map.h"
#include "cache/dir/dir_core.h"

namespace cache {
namespace {

struct OwnWait {
  bool done = false;  // guarded by the directory's mutex
  DirAnswer answer;
};

}  // namespace

DirCore::Outcome DirCore::read_own(Reading& reading) {
  CursorState& cursor = reading.cursor;
  // Nobody else knows these arrays: names removed since then may be in them. Who has removed one,
  // and sees that it is gone, has been told so after the count rose.
  if (cursor.own_removals != own_removals_.load(std::memory_order_relaxed)) cursor.own.clear();
  while (!cursor.own.empty()) {
    const ArrayView view = ArrayView::of(cursor.own.front()->content());
    const auto from = locate(cursor, view, Extent::kSealed);
    if (from) {
      const Outcome outcome = consume(reading, view, *from);
      if (outcome.step == Step::kDone) return outcome;
      if ((view.header().flags & kArrayEof) != 0) return {Step::kDone, {}};
    }
    const bool reaches_chain = (view.header().flags & kArrayJoins) != 0;
    step_to(cursor, view.header().last_cookie, {});
    cursor.position = cursor.key;
    cursor.own.erase(cursor.own.begin());
    if (reaches_chain) {
      cursor.uncached = false;
      return {Step::kAgain, {}};
    }
  }
  if (reading.consumed) return {Step::kDone, {}};
  return fetch_own(reading);
}

DirCore::Outcome DirCore::fetch_own(Reading& reading) {
  {
    MutexLock lock(mutex_);
    ++own_fetches_;
  }
  Outcome outcome = ask_own(reading);
  {
    MutexLock lock(mutex_);
    --own_fetches_;
    if (!removal_log_.empty() && !answers_expected()) removal_log_.clear();
  }
  flush_cancels();
  return outcome;
}

DirCore::Outcome DirCore::ask_own(Reading& reading) {
  CursorState& cursor = reading.cursor;
  const uint32_t most = kEntriesPerArray * kMaxOwnArrays;
  cursor.uncached_ask =
      cursor.uncached_ask == 0 ? kEntriesPerArray : std::min(cursor.uncached_ask * 2, most);
  stats_.readdir_uncached.add();
  set_waker(reading.options);
  const auto wait = std::make_shared<OwnWait>();
  const TimePoint began = std::chrono::steady_clock::now();
  int error = 0;
  bool done = false;
  uint64_t known = 0;
  {
    MutexLock lock(mutex_);
    known = own_changes_;
    if (closed_) return {Step::kDone, Status::error(ENOTCONN)};
    if (outdated(cursor) || cursor.era != era_.load(std::memory_order_relaxed)) {
      return {Step::kLost, Status::error(kErrBadCookie)};
    }
    DirRequest request;
    request.after = {.cookie = cursor.position, .bytes = {}};
    request.verifier = verifier_;
    request.max_entries = std::min(cursor.uncached_ask, source_.max_batch());
    request.want_attrs = reading.options.want_attrs && !attrs_refused_;
    ++misses_;
    ++requests_;
    ++calls_out_;
    mutex_.unlock();
    const DirSource::RequestId id =
        source_.read_dir(std::move(request), [self = shared_from_this(), wait](DirAnswer&& answer) {
          MutexLock completion(self->mutex_);
          wait->answer = std::move(answer);
          wait->done = true;
          self->progress_.notify_all();
        });
    mutex_.lock();
    --calls_out_;
    while (!wait->done && !wait_a_while(reading, &error)) {
    }
    // A completion that comes after this one looked writes to what nobody reads any more.
    done = wait->done;
    waited_ += std::chrono::steady_clock::now() - began;
    if (!done) cancel_later(id);
    if (done && wait->answer.error == 0 && wait->answer.verifier != 0) {
      verifier_ = wait->answer.verifier;
    }
  }
  if (reading.options.interrupt != nullptr) reading.options.interrupt->set_waker(nullptr);
  flush_cancels();
  if (done) error = wait->answer.error;
  if (error == kErrBadCookie) return {Step::kLost, Status::error(error)};
  if (error == kErrTooSmall || error == EAGAIN) return {Step::kAgain, {}};
  if (error != 0) return {Step::kDone, Status::error(error)};
  return build_own(reading, wait->answer, known);
}

DirCore::Outcome DirCore::build_own(Reading& reading, const DirAnswer& answer, uint64_t known) {
  CursorState& cursor = reading.cursor;
  if (!answer.well_formed()) {
    stats_.bad_answers.add();
    return {Step::kAgain, {}};
  }
  Fill fill;  // only for its builder and page: nobody else sees it
  uint64_t last = cursor.position;
  cursor.key = cursor.position;
  const auto seal = [&](uint16_t flags, bool reaches_chain) {
    if (reaches_chain) flags |= kArrayJoins;
    if (!fill.builder.seal(cache_, last, flags, {})) return false;
    fill.page->set(page_state::kUptodate);
    cache_.unlock_page(*fill.page);
    cursor.own.push_back(std::move(fill.page));
    return true;
  };
  // What the server gives again, up to the entry at the position itself, is passed over; an answer
  // that ends there has nothing, or leads back.
  const size_t n = answer.entries.size();
  size_t first = n;
  while (first > 0 && answer.entries[first - 1].cookie != cursor.position) --first;
  if (first == n && n > 0) {
    const uint64_t name = hash_bytes(answer.name(answer.entries[n - 1]));
    const uint64_t last_slot = (cursor.recent_count - 1) % CursorState::kRecent;
    const bool given = cursor.recent_count > 0 ? cursor.recent[last_slot] == name : n == 1;
    if (answer.eof && given) return {Step::kDone, {}};
    stats_.bad_answers.add();
    return {Step::kAgain, {}};
  }
  MutexLock lock(mutex_);
  // These entries get the cookies that the directory shows, and the reader has others.
  if (outdated(cursor)) return {Step::kLost, Status::error(kErrBadCookie)};
  if (known < log_begins_) return {Step::kAgain, {}};  // what was removed meanwhile is not known
  cursor.own_removals = own_removals_.load(std::memory_order_relaxed);
  for (size_t i = first; i < n && cursor.own.size() < kMaxOwnArrays; ++i) {
    const uint64_t cookie = answer.entries[i].cookie;
    if (!cookie_map::fits(cookie)) {
      switch_to_mapped(nullptr);
      return {Step::kLost, Status::error(kErrBadCookie)};
    }
    if (!fill.page) {
      Result<PageRef> page = pages_->new_private_page();
      if (!page.ok()) {
        reading.stuck = ENOMEM;
        break;
      }
      fill.page = std::move(page).value();
      fill.builder.reset(
          fill.page->content(),
          {.change = change_, .with_attrs = true, .era = era_.load(std::memory_order_relaxed)});
    }
    last = cookie;
    append(fill, answer, i, known);
    const bool boundary = anchors_.find(cookie) != nullptr;
    const bool at_end = i + 1 == n;
    if (!boundary && !at_end && !fill.builder.full()) continue;
    if (!seal(at_end && answer.eof ? kArrayEof : 0, boundary)) {
      reading.stuck = ENOMEM;
      break;
    }
    if (boundary) return {Step::kAgain, {}};
  }
  fill.page.reset();
  if (!cursor.own.empty()) return {Step::kAgain, {}};
  if (answer.eof && answer.entries.empty()) return {Step::kDone, {}};
  if (answer.entries.empty()) stats_.bad_answers.add();
  return {Step::kAgain, {}};  // no memory, or nothing new: again, within the rounds
}

}  // namespace cache
