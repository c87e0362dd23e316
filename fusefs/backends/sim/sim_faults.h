// What goes wrong with which request: decided by the seed and the request's number alone.
#pragma once

#include <cstdint>

#include "fusefs/backends/sim/sim_url.h"

namespace fusefs {

enum class SimFault : uint8_t {
  kNone,
  kError,
  kTimeout,
  kDisconnect,
  kRepeat,
  kEmpty,
  kBadName,
  kLostReply,
  kReboot,
};

struct SimDraw {
  SimFault fault = SimFault::kNone;
  uint64_t random = 0;  // for whatever else is left to chance
};

// kRepeat, kEmpty and kBadName happen to listings only, kLostReply and kReboot to changes.
enum class SimFaultScope : uint8_t { kListing, kChange, kOther };
SimDraw draw_sim_fault(const SimFaultRates& rates, uint64_t seed, uint64_t serial,
                       SimFaultScope scope);

}  // namespace fusefs
