// The figures as JSON: read back, cut to size, whatever the names hold.
#include "fusefs/stats_json.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "fusefs/control.h"

namespace {

using fusefs::json_string;
using Json = nlohmann::json;

constexpr size_t kRoom = fusefs::kControlTextBytes - 1;

}  // namespace

TEST_CASE("every figure that scripts are promised is there") {
  cache::Stats stats;
  stats.pages_resident.add(11);
  stats.names_bytes.add(12);
  stats.entries_resident.add(13);
  stats.readdir_calls.add(14);
  stats.free_page_calls.add(15);
  stats.bad_names.add(16);
  fusefs::DaemonFigures figures;
  figures.source = "sim:big=10";
  figures.mountpoint = "/mnt";
  figures.uptime_seconds = 1.5;
  figures.limit_bytes = 100;
  figures.pages_pinned = 3;
  figures.remote.inflight_peak = 17;
  const Json json = Json::parse(fusefs::stats_json(figures, stats, kRoom));
  CHECK(json["source"] == "sim:big=10");
  CHECK(json["mountpoint"] == "/mnt");
  CHECK(json["uptime_seconds"] == 1.5);
  CHECK(json["cache"]["limit_bytes"] == 100);
  CHECK(json["pages"]["resident"] == 11);
  CHECK(json["pages"]["pinned"] == 3);
  CHECK(json["names"]["bytes"] == 12);
  CHECK(json["entries"]["resident"] == 13);
  CHECK(json["readdir"]["calls"] == 14);
  CHECK(json["free_page"]["calls"] == 15);
  CHECK(json["protocol"]["bad_names"] == 16);
  CHECK(json["remote"]["inflight_peak"] == 17);
  for (const char* path :
       {"/cache/bytes",          "/cache/peak_bytes",    "/cache/pressure_bound_bytes",
        "/attrs/bytes",          "/anchors/count",       "/readdir/hits",
        "/readdir/misses",       "/readdir/uncached",    "/remote/requests",
        "/remote/inflight",      "/remote/errors",       "/reclaim/pages",
        "/reclaim/scanned",      "/reclaim/direct",      "/reclaim/refaults",
        "/invalidations",        "/inodes/count",        "/inodes/linked",
        "/protocol/bad_answers", "/protocol/bad_cookies"}) {
    INFO(path);
    CHECK(json.contains(Json::json_pointer(path)));
  }
}

TEST_CASE("latencies are told by kind, in microseconds") {
  fusefs::Latencies latencies;
  for (int i = 0; i < 100; ++i) {
    latencies.of(fusefs::RequestKind::kReaddirplus).record(std::chrono::microseconds(300));
  }
  latencies.of(fusefs::RemoteKind::kLookup).record(std::chrono::seconds(2));
  fusefs::DaemonFigures figures;
  figures.latency = latencies.figures();
  figures.metrics_port = 9478;
  const Json json = Json::parse(fusefs::stats_json(figures, cache::Stats(), kRoom));
  const Json& listings = json["request_latency"]["readdirplus"];
  CHECK(listings["count"] == 100);
  CHECK(listings["p50_us"] > 262);
  CHECK(listings["p99_us"] <= 300);
  CHECK(listings["max_us"] == 300);
  CHECK(json["remote_latency"]["lookup"]["max_us"] == 2'000'000);
  CHECK(json["request_latency"].size() == fusefs::kRequestKinds.size());
  CHECK(json["remote_latency"]["read"]["count"] == 0);
  CHECK(json["metrics"]["port"] == 9478);
}

TEST_CASE("the text never outgrows the control channel, however long the names") {
  cache::Stats stats;
  fusefs::DaemonFigures figures;
  figures.source = std::string(5000, '\x01');  // six bytes each when escaped
  figures.mountpoint = std::string(5000, '"');
  fusefs::Latencies latencies;  // figures of many digits
  latencies.of(fusefs::RequestKind::kOther).record(cache::Duration::max());
  figures.latency = latencies.figures();
  const std::string text = fusefs::stats_json(figures, stats, kRoom);
  CHECK(text.size() <= kRoom);
  const Json json = Json::parse(text);
  CHECK(json["source"].get<std::string>().ends_with("..."));
}

TEST_CASE("strings are escaped so that a JSON reader gets them back") {
  const std::string odd = "tab\t quote\" back\\slash\nline \x7f \x01 \xc3\xa9 \xf0\x9f\x98\x80 end";
  CHECK(Json::parse(json_string(odd, 1000)).get<std::string>() == odd);
}

TEST_CASE("what is not UTF-8 becomes U+FFFD, byte by byte") {
  const std::string bad = "\xff|\xc3|\xed\xa0\x80|\xc0\xaf|\xf4\x90\x80\x80|\xe2\x82";
  const std::string shown = Json::parse(json_string(bad, 1000)).get<std::string>();
  const std::string r = "\xef\xbf\xbd";
  CHECK(shown == r + "|" + r + "|" + r + r + r + "|" + r + r + "|" + r + r + r + r + "|" + r + r);
}

TEST_CASE("a cut falls between characters") {
  for (size_t room = 16; room < 60; ++room) {
    const std::string text =
        json_string("\xc3\xa9\xc3\xa9\xc3\xa9\x01\x01\x01\x01\x01\xc3\xa9", room);
    CHECK(text.size() <= room);
    CHECK_NOTHROW(Json::parse(text));
  }
}
