// The text of sources: what the URLs of all back ends have in common.
//
// Thread-safety:  pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fusefs {

// 'text', for messages.
std::string quote(std::string_view text);

// Percent-decoding (RFC 3986, 2.1). Nothing where two hexadecimal digits don't follow a '%', and
// for NUL, encoded or not, which no name can hold.
std::optional<std::string> percent_decode(std::string_view encoded);

}  // namespace fusefs
