#include "cache/mm/pressure.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "cache/base/check.h"

namespace cache {
namespace {

constexpr uint64_t kPressedDivisor = 4;  // of the bound, given up at each step
constexpr uint64_t kUrgentDivisor = 2;
constexpr Duration kMaxGrowthGap = std::chrono::seconds(1);
// Who took what was given up so lately wants more: at a quarter every 100 ms it takes 1.3 s from
// 1 GiB to 32 MiB, and all that time somebody stands still.
constexpr Duration kStillPressed = std::chrono::seconds(1);

PressureOptions checked(PressureOptions options) {
  options.min_bytes = std::min(options.min_bytes, options.limit_bytes);
  return options;
}

uint64_t low_water(const MemoryRoom& room, const PressureOptions& options) {
  const uint64_t share = room.limit / 100 * options.low_percent;
  return std::max<uint64_t>(1, std::min(share, options.low_cap_bytes));
}

}  // namespace

PressurePolicy::PressurePolicy(const PressureOptions& options)
    : options_(checked(options)),
      bound_(options_.limit_bytes),
      since_step_(std::chrono::hours(1)),  // long ago
      calm_for_(0),
      since_pressure_(Duration::max()),
      above_low_(std::numeric_limits<uint64_t>::max()) {}

PressureLevel PressurePolicy::judge(const PressureSample& sample) const {
  double free = std::numeric_limits<double>::infinity();  // of the tightest room, in low waters
  for (const MemoryRoom& room : sample.rooms) {
    free = std::min(
        free, static_cast<double>(room.free) / static_cast<double>(low_water(room, options_)));
  }
  const bool room_to_grow = free >= 2;
  // Without rooms stalls are all there is to go by.
  const bool ample = free >= 4 && !sample.rooms.empty();
  if (sample.killed || free < 0.5) return PressureLevel::kUrgent;
  // A cgroup full of file pages is always held at its limit, and that hurts nobody.
  if (free < 1 || (sample.held_at_limit && !room_to_grow)) return PressureLevel::kPressed;
  // Stalls with ample memory are somebody else's, held by a limit of their own: giving memory up
  // would not help them.
  const double stalled = ample ? 0 : sample.stalled_percent.value_or(0);
  if (stalled >= options_.stalled_percent) return PressureLevel::kPressed;
  return room_to_grow && stalled <= options_.calm_percent ? PressureLevel::kCalm
                                                          : PressureLevel::kSteady;
}

uint64_t PressurePolicy::update(const PressureSample& sample, Duration elapsed) {
  level_ = judge(sample);
  above_low_ = std::numeric_limits<uint64_t>::max();
  for (const MemoryRoom& room : sample.rooms) {
    const uint64_t low = low_water(room, options_);
    above_low_ = std::min(above_low_, room.free > low ? room.free - low : 0);
  }
  if (level_ >= PressureLevel::kPressed) {
    since_pressure_ = Duration(0);
  } else if (since_pressure_ < options_.calm_time) {
    since_pressure_ += elapsed;
  }
  switch (level_) {
    case PressureLevel::kUrgent:
      shrink(kUrgentDivisor, elapsed);
      break;
    case PressureLevel::kPressed:
      shrink(kPressedDivisor, elapsed);
      break;
    case PressureLevel::kSteady:
      since_step_ += elapsed;
      calm_for_ = Duration(0);
      break;
    case PressureLevel::kCalm:
      since_step_ += elapsed;
      grow(elapsed);
      break;
  }
  CACHE_DCHECK(bound_ >= options_.min_bytes && bound_ <= options_.limit_bytes);
  return bound_;
}

std::chrono::milliseconds PressurePolicy::period() const {
  if (since_pressure_ < options_.calm_time) return kPressedPeriod;
  const uint64_t per_ms = std::max<uint64_t>(1, options_.fastest_taker / 1000);
  const uint64_t longest = static_cast<uint64_t>(kCalmPeriod.count());
  const std::chrono::milliseconds soonest(std::min(above_low_ / per_ms, longest));
  return std::max(soonest, kTightPeriod);
}

void PressurePolicy::shrink(uint64_t divisor, Duration elapsed) {
  calm_for_ = Duration(0);
  since_step_ += elapsed;
  if (since_step_ < options_.step_time) return;
  if (since_step_ <= kStillPressed) divisor = kUrgentDivisor;
  since_step_ = Duration(0);
  bound_ = std::max(options_.min_bytes, bound_ - bound_ / divisor);
}

void PressurePolicy::grow(Duration elapsed) {
  calm_for_ += elapsed;
  if (calm_for_ <= options_.calm_time) return;
  using Seconds = std::chrono::duration<double>;
  const double part = Seconds(std::min(elapsed, kMaxGrowthGap)) / Seconds(options_.growth_time);
  const auto range = static_cast<double>(options_.limit_bytes - options_.min_bytes);
  const uint64_t missing = options_.limit_bytes - bound_;
  bound_ += std::min(missing, static_cast<uint64_t>(range * part) + 1);
}

PressureWatcher::PressureWatcher(const PressureOptions& options,
                                 std::unique_ptr<PressureSampler> sampler, const Clock& clock,
                                 Tell tell)
    : sampler_(std::move(sampler)), clock_(clock), tell_(std::move(tell)), policy_(options) {
  // Signals belong to the daemon's main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { thread_main(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

PressureWatcher::~PressureWatcher() {
  sampler_->wake();
  thread_.join();
}

void PressureWatcher::thread_main() {
  pthread_setname_np(pthread_self(), "pressure");
  using Listen = PressureSampler::Listen;
  using Woken = PressureSampler::Woken;
  TimePoint last = clock_.now();
  Woken woken = Woken::kTimeout;
  while (woken != Woken::kStop) {
    const TimePoint now = clock_.now();
    const uint64_t before = policy_.bound_bytes();
    const uint64_t bound = policy_.update(sampler_->sample(), now - last);
    last = now;
    if (bound != before) tell_(bound);
    // Events come in storms (a cgroup full of file pages reports its limit a hundred times a
    // second): after one, and while samples are frequent anyway, they are left alone for a while.
    const auto period = policy_.period();
    const bool often = woken == Woken::kEvent || period <= PressurePolicy::kPressedPeriod;
    woken = often ? sampler_->wait(PressurePolicy::kPressedPeriod, Listen::kWakeOnly)
                  : sampler_->wait(period, Listen::kEvents);
  }
}

}  // namespace cache
