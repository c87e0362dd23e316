// What is held of single directories, and its JSON: what `cookiefsctl dir --json`, `top` and `map`
// read.
//
// Shape:          ages and times are seconds, null where there is nothing to tell. A change token
// is
//                 a string: 64 bits are more than JSON's readers keep of a number. Keys are stable.
// Thread-safety:  pure functions.
// Errors:         none; text that is not UTF-8 is shown with U+FFFD for what is wrong in it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cache/base/clock.h"
#include "cache/dir/directory.h"

namespace fusefs {

struct DirectoryFigures {
  uint64_t ino = 0;
  cache::TimePoint now;
  cache::Duration ttl{};
  std::optional<cache::TimePoint> token_asked;
  cache::DirectoryInfo info;
  cache::DirectoryContent content;
};

std::string directory_json(const DirectoryFigures& figures);

struct TopDirectory {
  std::string path;  // below the mount point
  cache::DirectoryInfo info;
  cache::DirectoryContent content;
};

// As many of them, from the first on, as `max_bytes` have room for. `count`: how many there are.
std::string top_json(const std::vector<TopDirectory>& top, size_t count, size_t max_bytes);

// {"entries": N, "end_known": B, "cells": "..."}: a character a cell, from '0' (none of it held) to
// ':' (all).
std::string map_json(const cache::DirectoryMap& map);

}  // namespace fusefs
