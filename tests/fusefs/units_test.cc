#include "fusefs/units.h"

#include <catch2/catch.hpp>

namespace {

using fusefs::parse_count;
using fusefs::parse_duration;
using fusefs::parse_rate;
using fusefs::parse_size;
using namespace std::chrono_literals;

TEST_CASE("sizes take powers of 1024 with or without B or iB") {
  CHECK(parse_size("4096").value() == 4096);
  CHECK(parse_size("0").value() == 0);
  CHECK(parse_size("10b").value() == 10);
  CHECK(parse_size("512k").value() == 524288);
  CHECK(parse_size("64M").value() == uint64_t{64} << 20);
  CHECK(parse_size("64mb").value() == uint64_t{64} << 20);
  CHECK(parse_size("1GiB").value() == uint64_t{1} << 30);
  CHECK(parse_size("2TiB").value() == uint64_t{2} << 40);
  CHECK(parse_size("18446744073709551615").value() == UINT64_MAX);
}

TEST_CASE("sizes refuse signs, fractions, unknown units and overflow") {
  for (const char* bad : {"", "-1", "+1", "1.5M", "M", "64X", "64 M", " 64M", "64Mi", "64iB",
                          "64MBB", "18446744073709551616", "17179869184G", "0x10"}) {
    CAPTURE(bad);
    CHECK(parse_size(bad).error_number() == EINVAL);
  }
}

TEST_CASE("durations take units and decimals; seconds where there is no unit") {
  CHECK(parse_duration("10ms").value() == 10ms);
  CHECK(parse_duration("3s").value() == 3s);
  CHECK(parse_duration("1.5s").value() == 1500ms);
  CHECK(parse_duration("500us").value() == 500us);
  CHECK(parse_duration("7ns").value() == 7ns);
  CHECK(parse_duration("2m").value() == 2min);
  CHECK(parse_duration("1h").value() == 1h);
  CHECK(parse_duration("1.5h").value() == 90min);
  CHECK(parse_duration("0.1ms").value() == 100us);
  CHECK(parse_duration("3").value() == 3s);
  CHECK(parse_duration("0").value() == 0s);
  CHECK(parse_duration("0.0000000019s").value() == 1ns);
}

TEST_CASE("durations refuse signs, bare points, unknown units and overflow") {
  for (const char* bad : {"", "-1s", "1.s", ".5s", "1,5s", "s", "1d", "1 s", "1S", "1e3s",
                          "9223372037s", "2562048h", "99999999999999999999"}) {
    CAPTURE(bad);
    CHECK(parse_duration(bad).error_number() == EINVAL);
  }
  CHECK(parse_duration("9223372036.854775807s").value() == std::chrono::nanoseconds::max());
  CHECK(parse_duration("9223372036.854775808s").error_number() == EINVAL);
}

TEST_CASE("counts take powers of 1000") {
  CHECK(parse_count("1000000").value() == 1'000'000);
  CHECK(parse_count("1000k").value() == 1'000'000);
  CHECK(parse_count("1M").value() == 1'000'000);
  CHECK(parse_count("2g").value() == 2'000'000'000);
  for (const char* bad : {"", "-1", "1.5M", "1kB", "1e6", "99999999999999999999", "99999999999G"}) {
    CAPTURE(bad);
    CHECK(parse_count(bad).error_number() == EINVAL);
  }
}

TEST_CASE("rates lie between 0 and 1") {
  CHECK(parse_rate("0").value() == 0);
  CHECK(parse_rate("1").value() == 1);
  CHECK(parse_rate("0.01").value() == Approx(0.01));
  CHECK(parse_rate("1%").value() == Approx(0.01));
  CHECK(parse_rate("100%").value() == 1);
  for (const char* bad :
       {"", "%", ".", "-0.1", "1.1", "101%", "nan", "inf", "1e-3", "0.1.2", "1%%"}) {
    CAPTURE(bad);
    CHECK(parse_rate(bad).error_number() == EINVAL);
  }
}

}  // namespace
