// Sizes, times and counts as people write them in options and URLs.
//
// Errors:  EINVAL; the caller names the option, and example() what would be right.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "cache/base/result.h"

namespace fusefs {

// "64M", "1GiB", "512k", "4096": bytes; units are powers of 1024, of either case, with an optional
// "B" or "iB". No sign, no fraction, no overflow.
cache::Result<uint64_t> parse_size(std::string_view text);

// "10ms", "3s", "1.5s", "500us", "2m", "1h", "3" (seconds, as in mount options).
cache::Result<std::chrono::nanoseconds> parse_duration(std::string_view text);

// "1000000", "1000k", "1M": a plain count; k, M, G are powers of 1000.
cache::Result<uint64_t> parse_count(std::string_view text);

// "0.01" or "1%": a rate between 0 and 1.
cache::Result<double> parse_rate(std::string_view text);

}  // namespace fusefs
