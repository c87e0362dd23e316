// DirCore, waiting: a reader and the fill that it needs.
#include <algorithm>
#include <chrono>

#include "cache/dir/dir_core.h"

namespace cache {

void DirCore::set_waker(const ReadOptions& options) {
  if (options.interrupt == nullptr) return;
  options.interrupt->set_waker([weak = weak_from_this()] {
    if (const auto core = weak.lock()) {
      MutexLock lock(core->mutex_);
      core->progress_.notify_all();
    }
  });
}

bool DirCore::wait_a_while(const Reading& reading, int* error) {
  const Interrupt* const interrupt = reading.options.interrupt;
  if (closed_) {
    *error = ENOTCONN;
  } else if (interrupt != nullptr && interrupt->triggered()) {
    *error = EINTR;
  } else if (reading.deadline == TimePoint::max()) {
    progress_.wait(mutex_);
    return false;
  } else if (progress_.wait_until(mutex_, reading.deadline) ||
             std::chrono::steady_clock::now() < reading.deadline) {
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
    if (outdated(reading.cursor)) return;
    if (const FillPtr fill = find_fill(reading.cursor.key)) {
      fill->unread = 0;
      if (!fill->taking && wants_more(*fill)) send_request(fill);
    } else {
      const FillPtr begun =
          start_fill(reading.cursor, wish_of(reading.options), FillFor::kLater, &error);
      if (begun != nullptr) note_lost_ahead(reading.cursor, *begun);
    }
  }
  flush_cancels();
}

DirCore::Outcome DirCore::read_fill(Reading& reading) {
  if (reading.consumed) {
    if (!bounded(reading)) prefetch(reading);
    return {Step::kDone, {}};
  }
  stats_.readdir_misses.add();
  set_waker(reading.options);
  const TimePoint began = std::chrono::steady_clock::now();
  Outcome outcome;
  {
    MutexLock lock(mutex_);
    ++misses_;
    int error = outdated(reading.cursor) ? kErrBadCookie : 0;
    FillPtr fill = error == 0 ? find_fill(reading.cursor.key) : nullptr;
    if (fill != nullptr) {
      ++fill->waiters;
      ++fill->hungry;
      lend_tail(reading.cursor, *fill);
    } else if (error == 0) {
      const uint32_t most = reading.options.most_arrays;
      fill = start_fill(reading.cursor, wish_of(reading.options), FillFor::kWaiter, &error,
                        std::max(most, 1u) * kEntriesPerArray);
      if (fill != nullptr) {
        fill->expected = reading.options.ahead;
        note_lost_ahead(reading.cursor, *fill);
      }
    }
    if (fill != nullptr && !bounded(reading)) {
      refill_ahead(reading.cursor, fill->builder.position());
    }
    if (fill != nullptr) {
      outcome = wait_for_fill(reading, fill);
    } else if (error == ENOMEM && std::chrono::steady_clock::now() < reading.deadline) {
      // Everything is pinned by others at this moment; their replies will be sent soon.
      reading.stuck = ENOMEM;
      progress_.wait_until(mutex_, std::chrono::steady_clock::now() + kMemoryWait);
    } else if (error == kErrBadCookie) {
      outcome = {Step::kLost, Status::error(error)};
    } else if (error != 0) {
      outcome = {Step::kDone, Status::error(error)};
    }
    waited_ += std::chrono::steady_clock::now() - began;
  }
  if (reading.options.interrupt != nullptr) reading.options.interrupt->set_waker(nullptr);
  flush_cancels();
  return outcome;
}

DirCore::Outcome DirCore::wait_for_fill(Reading& reading, const FillPtr& fill) {
  const uint64_t key = reading.cursor.key;
  const bool skipping = reading.way_back || reading.cursor.seek_key != 0;
  fill->unread = 0;
  fill->want_attrs |= wish_of(reading.options).attrs && !attrs_refused_;
  fill->attrs_since = std::max(fill->attrs_since, reading.options.attrs_not_before);
  Outcome outcome;
  int error = 0;
  // So that what was waited for can't be reclaimed before it is read.
  if (fill->key == key && fill->page) reading.filled = fill->page.duplicate();
  while (fill->key == key) {
    const ArrayView view = fill->builder.view();
    const uint32_t none = view.count();
    const uint32_t from =
        skipping ? none
                 : view.next_live(locate(reading.cursor, view, Extent::kPartial).value_or(none));
    // Without attributes that are wanted it waits for the whole array, which is filled again then.
    const bool bare = lacks_attrs(reading, view) && !attrs_refused_;
    if (from < none && !bare) {
      consume(reading, view, from);
      outcome = {Step::kDone, {}};
      break;
    }
    if (fill->ended || fill->sealed) {
      error = fill->error;
      // Whatever kept it from being cached, it is all there. Bare, it is asked for again.
      const bool usable = fill->ended && fill->complete && (error == 0 || error == ENOMEM);
      if (usable && !bare) {
        outcome = read_view(reading, view, *fill->complete);
        error = 0;
      }
      break;
    }
    if (!fill->taking && !fill->in_flight) {
      send_request(fill);
      continue;
    }
    if (wait_a_while(reading, &error)) {
      // The last one leaves.
      if (fill->waiters == 1 && !reading.options.ahead) end_fill(*fill, error);
      break;
    }
  }
  --fill->waiters;
  if (fill->key == key) --fill->hungry;
  if (fill->waiters == 0 && outlived(*fill)) end_fill(*fill, 0);
  if (fill->waiters == 0 && fill->ended) fill->page.reset();
  if (error == kErrBadCookie) return {Step::kLost, Status::error(error)};
  // Asked for on behalf of somebody who came that way, and who may not read it: who is here asks
  // again, for himself.
  const bool for_others = fill->expected || fill->bounded;
  const bool himself = !bounded(reading) && !reading.options.ahead;
  if (for_others && himself && (error == EACCES || error == EPERM)) return {Step::kAgain, {}};
  if (error != 0 && error != ENOMEM) return {Step::kDone, Status::error(error)};
  if (error == ENOMEM) {
    reading.stuck = ENOMEM;
    progress_.wait_until(mutex_, std::chrono::steady_clock::now() + kMemoryWait);
  }
  return outcome;
}

}  // namespace cache
