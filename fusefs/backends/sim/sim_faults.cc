#include "fusefs/backends/sim/sim_faults.h"

#include <array>

#include "cache/base/hash.h"

namespace fusefs {

SimDraw draw_sim_fault(const SimFaultRates& rates, uint64_t seed, uint64_t serial,
                       SimFaultScope scope) {
  struct Kind {
    SimFault fault;
    double rate;
    bool listings_only;
  };
  const std::array<Kind, 6> kinds = {{{SimFault::kError, rates.error, false},
                                      {SimFault::kTimeout, rates.timeout, false},
                                      {SimFault::kDisconnect, rates.disconnect, false},
                                      {SimFault::kRepeat, rates.repeat, true},
                                      {SimFault::kEmpty, rates.empty, true},
                                      {SimFault::kBadName, rates.badname, true}}};
  SimDraw draw;
  uint64_t random = cache::mix64(cache::mix64(seed) + serial * 0x9e3779b97f4a7c15ULL);
  draw.random = random;
  for (const Kind& kind : kinds) {
    random = cache::mix64(random + 0x9e3779b97f4a7c15ULL);
    const double chance = static_cast<double>(random >> 11) * 0x1p-53;  // in [0, 1)
    if (chance >= kind.rate) continue;
    if (kind.listings_only && scope != SimFaultScope::kListing) continue;
    draw.fault = kind.fault;
    break;
  }
  return draw;
}

}  // namespace fusefs
