// What setattr() is to change, in a word.
#pragma once

#include "fusefs/backends/backend.h"

namespace test {

inline fusefs::SetAttr set_mode(uint32_t mode) {
  fusefs::SetAttr set;
  set.valid = fusefs::SetAttr::kMode;
  set.mode = mode;
  return set;
}

inline fusefs::SetAttr set_size(uint64_t size) {
  fusefs::SetAttr set;
  set.valid = fusefs::SetAttr::kSize;
  set.size = size;
  return set;
}

inline fusefs::SetAttr set_mtime(const cache::Timespec& time) {
  fusefs::SetAttr set;
  set.valid = fusefs::SetAttr::kMtime;
  set.mtime = time;
  return set;
}

}  // namespace test
