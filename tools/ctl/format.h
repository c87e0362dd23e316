// Figures and names, as cookiefsctl shows them to people.
//
// Thread-safety:  pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/ctl/channel.h"

namespace ctl {

std::string format_bytes(double bytes);
std::string format_seconds(double seconds);             // 0.35 s, 12 s, 3.4 min, ...
std::string format_microseconds(double us);             // 12 us, 3.4 ms, 5.6 s
std::string format_rate(double per_second);             // 0, 0.4, 12, 1,234
std::string format_percent(double part, double whole);  // "-" of nothing
std::string format_count(uint64_t count);               // 1,234,567
std::string grouped(std::string digits);

// The name of a counter says its unit; and without it, in words.
std::string format_value(std::string_view name, const Json& value);
std::string label(std::string_view name);

// A name that can't move the cursor or end the line.
std::string printable(std::string_view name);

// The figure behind "readdir.hits" or the like; 0 where there is none.
double figure(const Json& json, std::string_view path);

bool utf8_terminal();
int terminal_columns();  // of stdout; 80 where it does not say

}  // namespace ctl
