#include "fusefs/units.h"

#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <optional>

namespace fusefs {
namespace {

using cache::Result;
using cache::Status;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

Status invalid() { return Status::error(EINVAL); }

// Takes the digits off the front of `text`; nothing when there is none or they overflow.
std::optional<uint64_t> take_digits(std::string_view* text) {
  uint64_t value = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc()) return std::nullopt;  // from_chars takes no sign for unsigned types
  text->remove_prefix(static_cast<size_t>(rest - text->data()));
  return value;
}

std::optional<uint64_t> multiply(uint64_t value, uint64_t factor) {
  if (value > kMax / factor) return std::nullopt;
  return value * factor;
}

// The exponent of a k/M/G/T letter in front of `text`, which is taken off; 0 when there is none.
unsigned take_magnitude(std::string_view* text) {
  if (text->empty()) return 0;
  constexpr std::string_view kLetters = "kmgt";
  const auto letter = static_cast<char>(std::tolower(static_cast<unsigned char>(text->front())));
  const size_t place = kLetters.find(letter);
  if (place == std::string_view::npos) return 0;
  text->remove_prefix(1);
  return static_cast<unsigned>(place) + 1;
}

bool equal_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(text[i])) != lower[i]) return false;
  }
  return true;
}

Result<uint64_t> scale(uint64_t value, uint64_t base, unsigned exponent) {
  for (unsigned i = 0; i < exponent; ++i) {
    const std::optional<uint64_t> scaled = multiply(value, base);
    if (!scaled) return invalid();
    value = *scaled;
  }
  return value;
}

// Nanoseconds of a unit, 0 for an unknown one. No unit: seconds.
uint64_t nanoseconds_per(std::string_view unit) {
  struct Unit {
    std::string_view name;
    uint64_t nanoseconds;
  };
  constexpr uint64_t kSecond = 1'000'000'000;
  constexpr std::array<Unit, 8> kUnits = {{{"", kSecond},
                                           {"s", kSecond},
                                           {"ns", 1},
                                           {"us", 1'000},
                                           {"ms", 1'000'000},
                                           {"m", 60 * kSecond},
                                           {"min", 60 * kSecond},
                                           {"h", 3600 * kSecond}}};
  for (const Unit& known : kUnits) {
    if (known.name == unit) return known.nanoseconds;
  }
  return 0;
}

// The value of the decimals behind a point, in nanoseconds; digits beyond a nanosecond are dropped.
uint64_t fraction_of(std::string_view digits, uint64_t unit) {
  uint64_t total = 0;
  for (const char digit : digits) {
    if (unit < 10) break;
    unit /= 10;
    total += unit * static_cast<uint64_t>(digit - '0');
  }
  return total;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  const std::optional<uint64_t> value = take_digits(&text);
  if (!value) return invalid();
  const unsigned exponent = take_magnitude(&text);
  const bool plain_end = text.empty() || equal_ignoring_case(text, "b");
  if (!plain_end && !(exponent > 0 && equal_ignoring_case(text, "ib"))) return invalid();
  return scale(*value, 1024, exponent);
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const std::optional<uint64_t> whole = take_digits(&text);
  if (!whole) return invalid();
  std::string_view decimals;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
    if (digits == 0) return invalid();
    decimals = text.substr(0, digits);
    text.remove_prefix(digits);
  }
  const uint64_t unit = nanoseconds_per(text);
  if (unit == 0) return invalid();
  const std::optional<uint64_t> scaled = multiply(*whole, unit);
  constexpr auto kLongest = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const uint64_t fraction = fraction_of(decimals, unit);
  if (!scaled || *scaled > kLongest - fraction) return invalid();
  return std::chrono::nanoseconds(static_cast<int64_t>(*scaled + fraction));
}

Result<uint64_t> parse_count(std::string_view text) {
  const std::optional<uint64_t> value = take_digits(&text);
  if (!value) return invalid();
  const unsigned exponent = take_magnitude(&text);
  if (!text.empty()) return invalid();
  return scale(*value, 1000, exponent);
}

Result<double> parse_rate(std::string_view text) {
  const bool percent = !text.empty() && text.back() == '%';
  if (percent) text.remove_suffix(1);
  // Digits and a point only: from_chars would also take "inf", "nan" and a sign.
  if (text.empty() || text.find_first_not_of("0123456789.") != std::string_view::npos) {
    return invalid();
  }
  double rate = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, rate);
  if (error != std::errc() || rest != end) return invalid();
  if (percent) rate /= 100;
  if (rate > 1) return invalid();
  return rate;
}

}  // namespace fusefs
