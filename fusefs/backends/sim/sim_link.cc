#include "fusefs/backends/sim/sim_link.h"

#include <algorithm>
#include <utility>

#include "cache/base/hash.h"

namespace fusefs {

using cache::MutexLock;

namespace {

SimFaultScope scope_of(SimRequestKind kind) {
  switch (kind) {
    case SimRequestKind::kReadDir:
      return SimFaultScope::kListing;
    case SimRequestKind::kWrite:
    case SimRequestKind::kCommit:
    case SimRequestKind::kChange:
      return SimFaultScope::kChange;
    default:
      return SimFaultScope::kOther;
  }
}

}  // namespace

SimLink::SimLink(const SimConfig& config, SimScheduler& scheduler)
    : config_(config), scheduler_(scheduler) {}

SimLink::RequestId SimLink::submit(SimRequestKind kind, std::unique_ptr<SimExchange> exchange) {
  MutexLock lock(mutex_);
  const RequestId id = next_id_++;
  Request& request = requests_[id];
  request.kind = kind;
  request.exchange = std::move(exchange);
  queue_.push_back(id);
  pump();
  return id;
}

void SimLink::pump() {
  if (scheduler_.elapsed() < down_until_) return;
  while (!queue_.empty()) {
    if (config_.inflight != 0 && counters_.inflight >= config_.inflight) return;
    const RequestId id = queue_.front();
    queue_.pop_front();
    const auto place = requests_.find(id);
    if (place == requests_.end()) continue;
    Request& request = place->second;
    request.state = State::kSent;
    const SimFaultScope scope = scope_of(request.kind);
    if (request.kind != SimRequestKind::kConnect) {
      request.draw = draw_sim_fault(config_.faults, config_.seed, next_fault_serial_++, scope);
    }
    ++counters_.requests;
    ++kinds_[static_cast<size_t>(request.kind)];
    counters_.inflight_peak = std::max(counters_.inflight_peak, ++counters_.inflight);
    request.event = scheduler_.call_at(scheduler_.elapsed() + config_.rtt / 2,
                                       [this, id](Duration due) { arrive(id, due); });
  }
}

bool SimLink::park(RequestId id) {
  if (cut_) parked_.push_back(id);
  return cut_;
}

void SimLink::arrive(RequestId id, Duration due) {
  std::shared_ptr<SimExchange> exchange;
  SimDraw draw;
  {
    MutexLock lock(mutex_);
    const auto place = requests_.find(id);
    if (place == requests_.end() || park(id)) return;
    exchange = place->second.exchange;
    draw = place->second.draw;
  }
  constexpr uint64_t kErrorBytes = 64;
  switch (draw.fault) {
    case SimFault::kTimeout:
      return;
    case SimFault::kDisconnect:
      break_off(due);
      return;
    case SimFault::kError:
      schedule_answer(id, due, kErrorBytes);
      return;
    default:
      schedule_answer(id, due, exchange->serve(draw));
  }
}

SimLink::Duration SimLink::jitter(const SimDraw& draw) const {
  if (config_.jitter.count() == 0) return Duration(0);
  const double share = static_cast<double>(cache::mix64(draw.random) >> 11) * 0x1p-53;
  return Duration(static_cast<Duration::rep>(share * static_cast<double>(config_.jitter.count())));
}

void SimLink::schedule_answer(RequestId id, Duration due, uint64_t bytes) {
  MutexLock lock(mutex_);
  const auto place = requests_.find(id);
  if (place == requests_.end()) return;
  Request& request = place->second;
  request.state = State::kServed;
  Duration gone = due;  // when the last byte has left the server
  if (config_.bandwidth != 0) {
    const double seconds = static_cast<double>(bytes) / static_cast<double>(config_.bandwidth);
    gone = std::max(gone, free_at_) +
           std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    free_at_ = gone;
  }
  const Duration back = config_.rtt - config_.rtt / 2 + jitter(request.draw);
  request.event = scheduler_.call_at(gone + back, [this, id](Duration) { hand_over(id); });
}

SimLink::Request SimLink::take(Requests::iterator place) {
  Request request = std::move(place->second);
  requests_.erase(place);
  if (request.state != State::kQueued) --counters_.inflight;
  pump();
  return request;
}

void SimLink::hand_over(RequestId id) {
  Request request;
  int error = 0;
  {
    MutexLock lock(mutex_);
    const auto place = requests_.find(id);
    if (place == requests_.end() || park(id)) return;
    request = take(place);
    if (request.draw.fault == SimFault::kError) error = EIO;
    if (request.draw.fault == SimFault::kLostReply) error = ENOTCONN;
    if (error != 0) ++counters_.errors;
  }
  request.exchange->deliver(error);
}

void SimLink::cancel(RequestId id) {
  Request request;  // destroyed after the lock is
  MutexLock lock(mutex_);
  const auto place = requests_.find(id);
  if (place == requests_.end()) return;
  if (place->second.state == State::kQueued) {
    std::erase(queue_, id);
  } else {
    scheduler_.cancel(place->second.event);
    std::erase(parked_, id);
  }
  request = take(place);
}

void SimLink::cut() {
  MutexLock lock(mutex_);
  cut_ = true;
}

void SimLink::restore() {
  MutexLock lock(mutex_);
  cut_ = false;
  for (const RequestId id : std::exchange(parked_, {})) {
    const auto place = requests_.find(id);
    if (place == requests_.end()) continue;
    Request& request = place->second;
    const bool served = request.state == State::kServed;
    request.event = scheduler_.call_at(scheduler_.elapsed(), [this, id, served](Duration due) {
      if (served) {
        hand_over(id);
      } else {
        arrive(id, due);
      }
    });
  }
}

void SimLink::disconnect() {
  scheduler_.call_at(scheduler_.elapsed(), [this](Duration due) { break_off(due); });
}

void SimLink::break_off(Duration due) {
  std::vector<std::shared_ptr<SimExchange>> broken;
  {
    MutexLock lock(mutex_);
    down_until_ = due + 2 * config_.rtt + std::chrono::milliseconds(1);
    std::vector<std::pair<RequestId, std::shared_ptr<SimExchange>>> sent;
    for (auto place = requests_.begin(); place != requests_.end();) {
      if (place->second.state == State::kQueued) {
        ++place;
        continue;
      }
      scheduler_.cancel(place->second.event);
      sent.emplace_back(place->first, std::move(place->second.exchange));
      place = requests_.erase(place);
    }
    counters_.inflight = 0;
    counters_.errors += sent.size();
    std::sort(sent.begin(), sent.end());  // in the order of their requests, every time
    for (auto& [id, exchange] : sent) broken.push_back(std::move(exchange));
    scheduler_.call_at(down_until_, [this](Duration) {
      MutexLock again(mutex_);
      pump();
    });
  }
  for (const auto& exchange : broken) exchange->deliver(ENOTCONN);
}

void SimLink::close() {
  Requests dropped;
  MutexLock lock(mutex_);
  dropped.swap(requests_);
  queue_.clear();
  counters_.inflight = 0;
}

BackendCounters SimLink::counters() const {
  MutexLock lock(mutex_);
  return counters_;
}

uint64_t SimLink::requests(SimRequestKind kind) const {
  MutexLock lock(mutex_);
  return kinds_[static_cast<size_t>(kind)];
}

}  // namespace fusefs
