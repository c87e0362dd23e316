#include "fusefs/backends/sim/sim_faults.h"

#include <array>
#include <optional>

#include "cache/base/hash.h"

namespace fusefs {

SimDraw draw_sim_fault(const SimFaultRates& rates, uint64_t seed, uint64_t serial,
                       SimFaultScope scope) {
  struct Kind {
    SimFault fault;
    double rate;
    std::optional<SimFaultScope> only;
  };
  constexpr auto kAll = std::nullopt;
  // New ones come last: what the seed decides of the others stays.
  const std::array<Kind, 8> kinds = {
      {{SimFault::kError, rates.error, kAll},
       {SimFault::kTimeout, rates.timeout, kAll},
       {SimFault::kDisconnect, rates.disconnect, kAll},
       {SimFault::kRepeat, rates.repeat, SimFaultScope::kListing},
       {SimFault::kEmpty, rates.empty, SimFaultScope::kListing},
       {SimFault::kBadName, rates.badname, SimFaultScope::kListing},
       {SimFault::kLostReply, rates.lostreply, SimFaultScope::kChange},
       {SimFault::kReboot, rates.reboot, SimFaultScope::kChange}}};
  SimDraw draw;
  uint64_t random = cache::mix64(cache::mix64(seed) + serial * 0x9e3779b97f4a7c15ULL);
  draw.random = random;
  for (const Kind& kind : kinds) {
    random = cache::mix64(random + 0x9e3779b97f4a7c15ULL);
    const double chance = static_cast<double>(random >> 11) * 0x1p-53;  // in [0, 1)
    if (chance >= kind.rate) continue;
    if (kind.only && *kind.only != scope) continue;
    draw.fault = kind.fault;
    break;
  }
  return draw;
}

}  // namespace fusefs
