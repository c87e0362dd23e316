#include "fusefs/backends/sim/sim_url.h"

#include <catch2/catch.hpp>

namespace fusefs {
namespace {

using Catch::Matchers::Contains;
using namespace std::chrono_literals;

SimConfig parsed(const std::string& text) {
  std::string error;
  const auto config = parse_sim_url(text, &error);
  INFO(error);
  REQUIRE(config);
  return *config;
}

std::string refused(const std::string& text) {
  std::string error;
  CAPTURE(text);
  CHECK_FALSE(parse_sim_url(text, &error));
  CHECK(error.rfind("sim: ", 0) == 0);
  CHECK(error.find('\n') == std::string::npos);
  return error;
}

TEST_CASE("every key of a sim URL reaches the config") {
  const SimConfig config = parsed(
      "big=1M,tree=1000x50,deep=7,mix,name_len=40,rtt=10ms,jitter=2ms,bandwidth=10M,batch=500,"
      "inflight=4,cookies=hashed,eofcookie=sentinel,verifier=strict,churn=100,wcc=no,unstable=yes,"
      "xattr=yes,fold=yes,space=100M,faults=error:0.01+timeout:1%+disconnect:0.5+repeat:0.25+empty:"
      "0.125+"
      "badname:1+lostreply:0.75+reboot:2%,seed=42");
  CHECK(config.big == 1'000'000);
  CHECK(config.tree->directories == 1000);
  CHECK(config.tree->files == 50);
  CHECK(config.deep == 7);
  CHECK(config.mix);
  CHECK(config.name_len == 40);
  CHECK(config.rtt == 10ms);
  CHECK(config.jitter == 2ms);
  CHECK(config.bandwidth == 10 << 20);
  CHECK(config.batch == 500);
  CHECK(config.inflight == 4);
  CHECK(config.cookies == SimCookies::kHashed);
  CHECK(config.eof_sentinel);
  CHECK(config.strict_verifier);
  CHECK(config.churn == 100);
  CHECK(config.faults.error == Approx(0.01));
  CHECK(config.faults.timeout == Approx(0.01));
  CHECK(config.faults.disconnect == 0.5);
  CHECK(config.faults.repeat == 0.25);
  CHECK(config.faults.empty == 0.125);
  CHECK(config.faults.badname == 1);
  CHECK(config.faults.lostreply == 0.75);
  CHECK(config.faults.reboot == Approx(0.02));
  CHECK_FALSE(config.wcc);
  CHECK(config.unstable);
  CHECK(config.xattr);
  CHECK(config.fold);
  CHECK(config.space == 100 << 20);
  CHECK(config.seed == 42);
}

TEST_CASE("every cookie style has its name") {
  CHECK(parsed("cookies=ordered").cookies == SimCookies::kOrdered);
  CHECK(parsed("cookies=hashed").cookies == SimCookies::kHashed);
  CHECK(parsed("cookies=descending").cookies == SimCookies::kDescending);
  CHECK(parsed("cookies=huge").cookies == SimCookies::kHuge);
  CHECK(parsed("cookies=index").cookies == SimCookies::kIndex);
  CHECK(parsed("cookies=name").cookies == SimCookies::kName);
}

TEST_CASE("a sim URL without content gets some, one with content gets just that") {
  CHECK(parsed("").big == 1000);
  CHECK(parsed("rtt=1ms").tree->directories == 10);
  CHECK(parsed("").mix);
  CHECK_FALSE(parsed("mix").big);
  CHECK_FALSE(parsed("big=5").mix);
  CHECK(parsed("big=0").big == 0);
  CHECK(parsed("big=10").name_len == 24);
  CHECK(parsed("big=10").batch == 10000);
  CHECK(parsed("").wcc);
  CHECK_FALSE(parsed("").unstable);
  CHECK_FALSE(parsed("").xattr);
  CHECK_FALSE(parsed("").fold);
  CHECK(parsed("").space == 0);
}

TEST_CASE("an unknown key is named, with the known ones") {
  const std::string error = refused("big=10,bgi=5");
  CHECK_THAT(error, Contains("'bgi'") && Contains("big, tree, deep, mix, name_len, rtt"));
  CHECK_THAT(refused("BIG=1"), Contains("'BIG'"));
  CHECK_THAT(refused("=1"), Contains("unknown key ''"));
}

TEST_CASE("a malformed value is shown, with what would be right") {
  const std::pair<const char*, const char*> cases[] = {
      {"big=abc", "big=1000000"},
      {"big=-1", "big=1000000"},
      {"big=2000G", "up to 1000G"},
      {"tree=1000", "tree=1000x50"},
      {"tree=x", "tree=1000x50"},
      {"tree=1Gx1M", "together"},
      {"deep=", "deep=100"},
      {"name_len=0", "1 to 255"},
      {"name_len=256", "1 to 255"},
      {"rtt=10 ms", "rtt=10ms"},
      {"rtt=2h", "up to 1h"},
      {"jitter=x", "jitter=2ms"},
      {"bandwidth=0", "bandwidth=10M"},
      {"batch=0", "batch=10000"},
      {"inflight=0", "inflight=8"},
      {"cookies=odd", "ordered, hashed, descending, huge"},
      {"eofcookie=yes", "sentinel"},
      {"verifier=lax", "verifier=strict"},
      {"churn=1.5", "churn=100"},
      {"wcc=maybe", "wcc=yes or wcc=no"},
      {"unstable=1", "unstable=yes"},
      {"xattr=", "xattr=no"},
      {"space=0", "space=100M"},
      {"faults=error", "KIND:RATE"},
      {"faults=error:2", "KIND:RATE"},
      {"faults=fire:0.1", "error, timeout, disconnect"},
      {"faults=error:0.1+", "'+'"},
      {"seed=x", "seed=1"}};
  for (const auto& [url, right] : cases) {
    const std::string error = refused(url);
    CHECK_THAT(error, Contains(std::string("'") + url + "'") && Contains(right));
  }
}

TEST_CASE("keys without what they need are refused") {
  CHECK_THAT(refused("big"), Contains("'big' needs a value"));
  CHECK_THAT(refused("mix=1"), Contains("'mix' takes no value"));
  CHECK_THAT(refused("big=1,big=2"), Contains("given twice"));
  CHECK_THAT(refused("big=1,"), Contains("last ','"));
  CHECK_THAT(refused("big=1,,mix"), Contains("unknown key ''"));
}

TEST_CASE("combinations that can't be carried out are refused") {
  CHECK_THAT(refused("big=1000,name_len=2"), Contains("at least name_len=3"));
  CHECK(parsed("big=1000,name_len=3").name_len == 3);
  CHECK_THAT(refused("eofcookie=sentinel,cookies=name"), Contains("cookies=ordered"));
  CHECK_THAT(refused("eofcookie=sentinel,cookies=index"), Contains("cookies=ordered"));
  CHECK_THAT(refused("mix,churn=5"), Contains("big=N"));
}

}  // namespace
}  // namespace fusefs
