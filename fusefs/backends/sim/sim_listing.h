// One answer to one listing request: entries, cookies, tokens and the faults among them.
//
// Purpose:        where to continue, which entries follow, and what stands for their places.
// Thread-safety:  none of its own: reads a SimTree under the back end's lock.
// Errors:         in DirAnswer::error: ENOTDIR, kErrBadCookie.
#pragma once

#include <vector>

#include "cache/dir/source.h"
#include "fusefs/backends/sim/sim_faults.h"
#include "fusefs/backends/sim/sim_tree.h"

namespace fusefs {

// `change` is left 0: the caller fills it in, as a server does, after the content.
cache::DirAnswer make_sim_listing(const SimTree& tree, const SimNode& directory,
                                  const cache::DirRequest& request, const SimDraw& draw);

struct SimListed {
  std::string name;
  uint64_t ino = 0;
  uint8_t type = 0;  // DT_*
  bool operator==(const SimListed&) const = default;
};

// Everything a directory holds now, in listing order.
std::vector<SimListed> sim_contents(const SimTree& tree, const SimNode& directory);

}  // namespace fusefs
