// One object of the simulated tree that is stored: it was made, or changed.
//
// Purpose:        what no formula tells any more. The names that lead to it are the directories'
//                 (sim_overlay.h).
// Thread-safety:  none of its own; the back end's lock protects it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "cache/dir/attr.h"
#include "fusefs/backends/sim/sim_content.h"

namespace fusefs {

struct SimObject {
  cache::Attr attr;      // size, blocks and change are worked out
  uint64_t changes = 0;  // of it, a directory's entries apart
  SimContent content{};  // files
  std::string target{};  // symbolic links
  uint64_t parent = 0;   // directories: inode number; 0: where it was computed to be
  std::map<std::string, std::string> xattrs{};
};

}  // namespace fusefs
