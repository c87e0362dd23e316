// Options of back ends: the words behind -o that are neither the mount's nor libfuse's.
//
// Purpose:        a back end lists the options it knows; the command line is checked against that
//                 list before anything is started, and hands over what the user gave.
// Thread-safety:  pure functions.
// Errors:         one line that says what is wrong and what would be right.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fusefs {

// One option as it was given: NAME or NAME=VALUE.
struct BackendOption {
  std::string name;
  std::optional<std::string> value;
  bool operator==(const BackendOption&) const = default;
};
// In the order of the command line: where two contradict each other, the later one counts.
using BackendOptions = std::vector<BackendOption>;

// One option that a back end knows. Tables of these are constants.
struct BackendOptionSpec {
  enum class Value : uint8_t { kNone, kRequired };

  std::string_view name;
  std::string_view example;  // as one would type it, such as "nconnect=4"
  Value value = Value::kRequired;
  // What is wrong with a value, or nothing. Null: the back end takes any.
  std::string (*wrong)(const std::string& value) = nullptr;
};
using BackendOptionSpecs = std::span<const BackendOptionSpec>;

const BackendOptionSpec* find_option(BackendOptionSpecs known, std::string_view name);

// What is wrong with an option, or nothing.
std::string wrong_option(BackendOptionSpecs known, const BackendOption& option);

// "this source knows a=1, b": the end of a line about an unknown option. Empty: it knows none.
std::string known_options_text(BackendOptionSpecs known);

}  // namespace fusefs
