#include "fusefs/backends/nfs/nfs_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "cache/base/clock.h"
#include "fusefs/backends/nfs/nfs_connection.h"

namespace fusefs::nfs {

using cache::MutexLock;
using cache::steady_now;
using cache::TimePoint;

namespace {

constexpr size_t kCompletionThreads = 2;
constexpr std::chrono::milliseconds kTickPeriod(200);  // at least so often deadlines are looked at

// Failures of the server or of the way to it, not of the question.
bool is_failure(int error) {
  return error == EIO || error == ETIMEDOUT || error == ENOTCONN || error == EPROTO ||
         error == EREMOTEIO;
}

}  // namespace

Client::Client(ClientOptions options)
    : options_(std::move(options)), completions_(kCompletionThreads) {}

Client::~Client() {
  {
    MutexLock lock(mutex_);
    stopping_.store(true, std::memory_order_release);
    changed_.notify_all();
    for (Channel& channel : channels_) channel.connection->wake();
  }
  if (timer_.joinable()) timer_.join();
  // Threads that are ending still use the channels' other fields.
  std::vector<std::unique_ptr<Connection>> connections;
  {
    MutexLock lock(mutex_);
    for (Channel& channel : channels_) connections.push_back(std::move(channel.connection));
  }
  connections.clear();  // joins
  completions_.stop();
  // What completions captured is released with no lock held.
  std::unordered_multimap<uint64_t, CallPtr> calls;
  std::deque<CallPtr> queue;
  std::multimap<TimePoint, CallPtr> paused;
  MutexLock lock(mutex_);
  calls.swap(calls_);
  queue.swap(queue_);
  paused.swap(paused_);
}

cache::Status Client::start(TimePoint deadline) {
  completions_.start();
  timer_ = std::thread([this] { tick_forever(); });
  MutexLock lock(mutex_);
  for (size_t i = 0; i < options_.connections; ++i) {
    channels_.push_back({.connection = std::make_unique<Connection>(*this, i)});
  }
  for (Channel& channel : channels_) channel.connection->start();
  for (;;) {
    if (up_ > 0) return {};
    const bool all_failed = std::all_of(channels_.begin(), channels_.end(),
                                        [](const Channel& channel) { return channel.tried; });
    if (all_failed) return cache::Status::error(last_error_);
    if (!changed_.wait_until(mutex_, deadline)) return cache::Status::error(ETIMEDOUT);
  }
}

// ---- Calls --------------------------------------------------------------------------------------

void Client::submit(uint64_t id, CallPtr call) { submit_later(id, std::move(call), {}); }

void Client::submit_later(uint64_t id, CallPtr call, cache::Duration pause) {
  {
    MutexLock lock(mutex_);
    call->id_ = id;
    call->submitted_ = steady_now();
    if (calls_.size() < kMaxCalls) {
      calls_.emplace(id, call);
      peak_ = std::max<uint64_t>(peak_, calls_.size());
      if (pause == pause.zero()) {
        enqueue_locked(std::move(call));
      } else {
        paused_.emplace(call->submitted_ + pause, std::move(call));
        changed_.notify_all();
      }
      return;
    }
  }
  completions_.post([call = std::move(call)] { call->finish(EAGAIN); });
}

void Client::enqueue_locked(CallPtr call) {
  queue_.push_back(std::move(call));
  wake_one_locked();
}

// The connection with the least to do; the others may be decoding.
void Client::wake_one_locked() {
  Channel* best = nullptr;
  for (Channel& channel : channels_) {
    if (!channel.connected || channel.connection == nullptr) continue;
    if (best == nullptr || channel.sent < best->sent) best = &channel;
  }
  if (best == nullptr) return;
  best->connection->wake();
}

bool Client::live_locked(const Call& call) const {
  const auto [from, to] = calls_.equal_range(call.id_);
  return std::any_of(from, to, [&](const auto& entry) { return entry.second.get() == &call; });
}

void Client::end_locked(const CallPtr& call) {
  const auto [from, to] = calls_.equal_range(call->id_);
  for (auto entry = from; entry != to; ++entry) {
    if (entry->second != call) continue;
    calls_.erase(entry);
    return;
  }
}

void Client::cancel(uint64_t id) {
  std::vector<CallPtr> dropped;  // destroyed outside the lock
  MutexLock lock(mutex_);
  const auto [from, to] = calls_.equal_range(id);
  for (auto entry = from; entry != to; ++entry) dropped.push_back(entry->second);
  calls_.erase(from, to);
  if (dropped.empty()) return;
  const auto gone = [&](const CallPtr& call) { return call->id_ == id; };
  std::erase_if(queue_, gone);
  std::erase_if(paused_, [&](const auto& entry) { return gone(entry.second); });
  lock.unlock();
}

void Client::finish(const CallPtr& call, int error) {
  if (is_failure(error)) errors_.fetch_add(1, std::memory_order_relaxed);
  if (call->weight() == Call::Weight::kHeavy) {
    completions_.post([call, error] { call->finish(error); });
  } else {
    call->finish(error);
  }
}

// ---- For connections ----------------------------------------------------------------------------

std::vector<CallPtr> Client::take_queued(size_t room, size_t connection) {
  std::vector<CallPtr> taken;
  MutexLock lock(mutex_);
  while (taken.size() < room && !queue_.empty()) {
    CallPtr call = std::move(queue_.front());
    queue_.pop_front();
    if (live_locked(*call)) taken.push_back(std::move(call));
  }
  channels_[connection].sent += taken.size();
  requests_.fetch_add(taken.size(), std::memory_order_relaxed);
  // One wake-up may stand for many calls: whoever has room, too, takes the rest.
  if (!queue_.empty() && taken.size() == room) wake_one_locked();
  return taken;
}

void Client::answered(const CallPtr& call, int outcome, size_t connection) {
  {
    MutexLock lock(mutex_);
    Channel& channel = channels_[connection];
    if (channel.sent > 0) --channel.sent;
    complained_ = false;
    if (!live_locked(*call)) return;
    if (outcome == kErrAgain) return enqueue_locked(call);
    if (outcome == kErrLater) {
      const auto pause = std::min<cache::Duration>(
          kFirstPause * (uint32_t{1} << std::min(call->pauses_++, 10u)), kLongestPause);
      paused_.emplace(steady_now() + pause, call);
      changed_.notify_all();
      return;
    }
    end_locked(call);
  }
  finish(call, outcome);
}

void Client::requeue(const std::vector<CallPtr>& calls, size_t connection) {
  MutexLock lock(mutex_);
  channels_[connection].sent = 0;
  for (size_t i = calls.size(); i-- > 0;) {
    if (!live_locked(*calls[i])) continue;
    calls[i]->repeated_ = true;
    queue_.push_front(calls[i]);
  }
  if (!queue_.empty()) wake_one_locked();
}

void Client::connected(size_t connection) {
  MutexLock lock(mutex_);
  Channel& channel = channels_[connection];
  channel.connected = channel.tried = true;
  ++up_;
  if (complained_) spdlog::info("nfs: server {} is back", options_.host);
  complained_ = false;
  changed_.notify_all();
}

void Client::disconnected(size_t connection, int error) {
  MutexLock lock(mutex_);
  Channel& channel = channels_[connection];
  if (channel.connected) --up_;
  channel.connected = false;
  channel.tried = true;
  last_error_ = error;
  if (up_ == 0 && !complained_ && !stopping() && !calls_.empty()) {
    spdlog::warn("nfs: server {} is not responding ({}), still trying", options_.host,
                 std::strerror(error));
    complained_ = true;
  }
  changed_.notify_all();
}

// A minimum that forgets: old luck must not hide that the way has become longer.
void Client::note_round_trip(cache::Duration took) {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
  const int64_t old = round_trip_us_.load(std::memory_order_relaxed);
  const int64_t aged = old + old / 16 + 1;
  round_trip_us_.store(old == 0 ? now : std::min(now, aged), std::memory_order_relaxed);
}

// ---- Time ---------------------------------------------------------------------------------------

TimePoint Client::tick_locked(TimePoint now, std::vector<CallPtr>* expired) {
  while (!paused_.empty() && paused_.begin()->first <= now) {
    CallPtr call = std::move(paused_.begin()->second);
    paused_.erase(paused_.begin());
    if (live_locked(*call)) enqueue_locked(std::move(call));
  }
  if (options_.patience == ClientOptions::Patience::kSoft) {
    const auto limit = options_.timeo * (options_.retrans + 1);
    std::erase_if(calls_, [&](const auto& entry) {
      if (now - entry.second->submitted_ < limit) return false;
      expired->push_back(entry.second);
      return true;
    });
  }
  const TimePoint next = now + kTickPeriod;
  return paused_.empty() ? next : std::min(next, paused_.begin()->first);
}

void Client::tick_forever() {
  MutexLock lock(mutex_);
  while (!stopping()) {
    std::vector<CallPtr> expired;
    const TimePoint next = tick_locked(steady_now(), &expired);
    if (!expired.empty()) {
      lock.unlock();
      for (const CallPtr& call : expired) finish(call, ETIMEDOUT);
      expired.clear();
      lock.lock();
      continue;
    }
    changed_.wait_until(mutex_, next);
  }
}

BackendCounters Client::counters() const {
  BackendCounters counters;
  counters.requests = requests_.load(std::memory_order_relaxed);
  counters.errors = errors_.load(std::memory_order_relaxed);
  MutexLock lock(mutex_);
  counters.inflight = calls_.size();
  counters.inflight_peak = peak_;
  return counters;
}

}  // namespace fusefs::nfs
