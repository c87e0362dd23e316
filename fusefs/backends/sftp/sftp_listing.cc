#include "fusefs/backends/sftp/sftp_listing.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "cache/base/clock.h"
#include "fusefs/backends/sftp/sftp_paths.h"

namespace fusefs::sftp {
void SftpListing::read_dir(RequestId id, Directory directory, cache::DirRequest request,
                           cache::DirSource::Completion done) {
  start(std::move(directory), Waiter{id, std::move(request), std::move(done), cache::steady_now()});
}

void SftpListing::start(Directory&& directory, Waiter&& waiter) {
  const std::optional<Place> place = Place::of_token(waiter.request.after.bytes);
  if (!place) {
    cache::DirAnswer refusal;
    refusal.error = cache::kErrBadCookie;
    return waiter.done(std::move(refusal));
  }
  auto at = place->ordinal > 0 ? find(directory.path, *place) : streams_.end();
  if (at == streams_.end() && place->ordinal > 0) at = lead_on(directory.path, *place);
  if (at == streams_.end()) {
    if (!make_room()) {
      parked_.push_back({std::move(directory), std::move(waiter)});
      return;
    }
    streams_.emplace_back(client_, directory, *place);
    at = std::prev(streams_.end());
  }
  at->waiter = std::move(waiter);
  at->stream.advance();
}

SftpListing::Streams::iterator SftpListing::find(const std::string& path, const Place& place) {
  return std::find_if(streams_.begin(), streams_.end(), [&](const Open& open) {
    return !open.waiter && !open.forgotten && open.stream.place() == place && open.path == path;
  });
}

// The stream that is nearest before the place, led on to it.
SftpListing::Streams::iterator SftpListing::lead_on(const std::string& path, const Place& place) {
  const cache::TimePoint time = cache::steady_now();
  auto best = streams_.end();
  for (auto open = streams_.begin(); open != streams_.end(); ++open) {
    const Place& at = open->stream.place();
    if (open->waiter || open->forgotten || open->path != path ||
        at.generation != place.generation || at.ordinal > place.ordinal ||
        time - open->idle_since < kLeft) {
      continue;
    }
    if (best == streams_.end() || at.ordinal > best->stream.place().ordinal) best = open;
  }
  if (best != streams_.end() && !best->stream.skip_to(place)) {
    streams_.erase(best);
    best = streams_.end();
  }
  return best;
}

// Closes the stream that nobody has waited for longest, where there are too many.
bool SftpListing::make_room() {
  const auto idle = static_cast<size_t>(
      std::count_if(streams_.begin(), streams_.end(), [](const Open& o) { return !o.waiter; }));
  if (streams_.size() < kMaxStreams && idle < kMaxIdle) return true;
  if (idle == 0) return false;
  const auto oldest =
      std::min_element(streams_.begin(), streams_.end(), [](const Open& a, const Open& b) {
        if (a.waiter.has_value() != b.waiter.has_value()) return !a.waiter;
        return a.idle_since < b.idle_since;
      });
  streams_.erase(oldest);
  return true;
}

void SftpListing::cancel(RequestId id) {
  std::erase_if(parked_, [&](const Parked& parked) { return parked.waiter.id == id; });
  for (Open& open : streams_) {
    if (!open.waiter || open.waiter->id != id) continue;
    open.waiter.reset();
    open.idle_since = cache::steady_now();
    return;
  }
}

void SftpListing::forget(const std::string& path) {
  for (Open& open : streams_) {
    if (!moved_path(open.path, path, "/").empty()) open.forgotten = true;
  }
}

void SftpListing::answer(SftpClient& client, Open& open) {
  Waiter waiter = std::move(*open.waiter);
  open.waiter.reset();
  open.idle_since = cache::steady_now();
  cache::DirAnswer answer = open.stream.take(waiter.request);
  // The next requests go out before the answer is put to use.
  if (!open.stream.over()) open.stream.read_ahead();
  client.flush();
  waiter.done(std::move(answer));
}

bool SftpListing::has_enough(const Open& open, cache::TimePoint time) {
  const DirStream& stream = open.stream;
  if (!stream.ready()) return false;
  if (!stream.more_to_come() || stream.place().ordinal == 0) return true;
  const size_t enough = std::min<size_t>(open.waiter->request.max_entries, kGather);
  return stream.ahead() >= enough || time - open.waiter->since >= kGatherTime;
}

cache::TimePoint SftpListing::serve() {
  const cache::TimePoint time = cache::steady_now();
  const size_t ahead =
      std::accumulate(streams_.begin(), streams_.end(), size_t{0},
                      [](size_t sum, const Open& open) { return sum + open.stream.ahead(); });
  cache::TimePoint next = cache::TimePoint::max();
  for (auto open = streams_.begin(); open != streams_.end();) {
    if (open->waiter && has_enough(*open, time)) {
      answer(client_, *open);
    } else if (open->waiter) {
      open->stream.advance();
      if (open->stream.ready()) next = std::min(next, open->waiter->since + kGatherTime);
    } else if (ahead < kMaxAheadTotal) {
      open->stream.read_ahead();
    }
    const bool ended = open->stream.over() || (open->forgotten && !open->waiter);
    open = ended ? streams_.erase(open) : std::next(open);
  }
  start_parked();
  return next;
}

void SftpListing::start_parked() {
  while (!parked_.empty() && streams_.size() < kMaxStreams) {
    Parked parked = std::move(parked_.front());
    parked_.pop_front();
    start(std::move(parked.directory), std::move(parked.waiter));
  }
}

void SftpListing::tick(cache::TimePoint time) {
  std::erase_if(streams_,
                [&](const Open& open) { return !open.waiter && time - open.idle_since > kMaxAge; });
}

void SftpListing::clear() {
  parked_.clear();
  streams_.clear();
}

}  // namespace fusefs::sftp
