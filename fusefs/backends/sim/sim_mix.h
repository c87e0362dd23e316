// The directory `mix`: one of everything that a directory may hold.
//
// Purpose:        all types, hard links, the longest and the oddest names; the same for every seed.
// Thread-safety:  immutable after construction.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fusefs {

struct SimMixObject {
  uint32_t mode = 0;       // type and permissions, as in st_mode
  uint32_t nlink = 1;      // names that lead to it; of a directory as directories count
  int64_t size = -1;       // bytes; -1: whatever the seed gives
  uint64_t rdev = 0;       // devices
  std::string target{};    // symbolic links
  uint32_t directory = 0;  // directories: which one, in SimMix::directories
};

struct SimMixEntry {
  std::string name;
  uint32_t object = 0;  // in SimMix::objects
};

struct SimMix {
  // Object 0 and directory 0 are `mix` itself. Entries are in bytewise order of their names.
  std::vector<SimMixObject> objects;
  std::vector<std::vector<SimMixEntry>> directories;
};

SimMix make_sim_mix();

}  // namespace fusefs
