// The metrics: read back as Prometheus would, checked by its own tool, and named by the dashboard
// and the alerts as they are.
#include "fusefs/metrics.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fusefs/control.h"
#include "tests/support/temp_dir.h"

namespace {

using Json = nlohmann::json;

struct Family {
  std::string type;
  std::string help;
  std::map<std::string, double> series;  // by name and labels, as written
};

// The text format, as far as it is used; anything else fails the test.
std::map<std::string, Family> parse(const std::string& text) {
  std::map<std::string, Family> families;
  std::istringstream lines(text);
  std::string last;
  static const std::regex kHead("# (HELP|TYPE) ([a-z_]+) (.+)");
  static const std::regex kSeries("([a-z_]+)(\\{.*\\})? (\\S+)");
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    std::smatch match;
    if (std::regex_match(line, match, kHead)) {
      if (match[1] == "HELP") {
        REQUIRE(families.count(match[2]) == 0);  // a family stands in one place
        last = match[2];
        families[last].help = match[3];
      } else {
        REQUIRE(match[2] == last);
        families[last].type = match[3];
      }
      continue;
    }
    REQUIRE(std::regex_match(line, match, kSeries));
    REQUIRE(match[1].str().rfind(last, 0) == 0);
    REQUIRE(
        families[last].series.emplace(match[1].str() + match[2].str(), std::stod(match[3])).second);
  }
  return families;
}

fusefs::DaemonFigures some_figures() {
  fusefs::DaemonFigures figures;
  figures.source = "sim:big=10";
  figures.mountpoint = "/mnt";
  fusefs::Latencies latencies;
  for (int i = 0; i < 40; ++i) {
    latencies.of(fusefs::RequestKind::kReaddir).record(std::chrono::microseconds(1 << (i / 4)));
  }
  latencies.of(fusefs::RequestKind::kReaddir).record(std::chrono::hours(1));
  figures.latency = latencies.figures();
  return figures;
}

std::string exposition() { return fusefs::metrics_text(some_figures(), cache::Stats()); }

int run(const std::string& command) {
  return std::system(command.c_str());
}  // NOLINT: our own words

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Names of metrics in `text` that no series has.
std::set<std::string> unknown_names(const std::string& text) {
  std::set<std::string> known;
  for (const auto& [name, family] : parse(exposition())) {
    for (const auto& [series, value] : family.series)
      known.insert(series.substr(0, series.find('{')));
  }
  std::set<std::string> unknown;
  static const std::regex kName("cookiefs_[a-z_]+");
  for (std::sregex_iterator at(text.begin(), text.end(), kName), end; at != end; ++at) {
    if (known.count(at->str()) == 0) unknown.insert(at->str());
  }
  return unknown;
}

constexpr const char* kMetricsFolder = COOKIEFS_SOURCE_DIR "/tools/metrics/";

}  // namespace

TEST_CASE("metrics: names, types and help follow the conventions") {
  for (const auto& [name, family] : parse(exposition())) {
    INFO(name);
    CHECK(name.rfind("cookiefs_", 0) == 0);
    CHECK(family.help.back() == '.');
    CHECK(!family.series.empty());
    const bool total = name.size() > 6 && name.substr(name.size() - 6) == "_total";
    CHECK((family.type == "counter") == total);
    if (family.type == "histogram") continue;
    CHECK(family.series.size() == 1);
    const std::string& series = family.series.begin()->first;
    CHECK((series == name) == (name != "cookiefs_info"));
  }
}

TEST_CASE("metrics: promtool has nothing to say") {
  const test::TempDir dir;
  std::ofstream(dir / "metrics") << exposition();
  const int status =
      run("promtool check metrics < " + (dir / "metrics") + " > " + (dir / "said") + " 2>&1");
  INFO(text_of(dir / "said"));
  CHECK(status == 0);
}

TEST_CASE("metrics: every figure of the stats is among them") {
  fusefs::DaemonFigures figures;
  cache::Stats stats;
  // Each its own number.
  int64_t next = 1'000'001;
  for (uint64_t* figure :
       {&figures.limit_bytes, &figures.bytes, &figures.peak_bytes, &figures.pressure_bound_bytes,
        &figures.pages_pinned, &figures.inodes, &figures.linked, &figures.requests_active,
        &figures.notifications, &figures.notifications_dropped, &figures.remote.requests,
        &figures.remote.inflight, &figures.remote.inflight_peak, &figures.remote.errors,
        &figures.walk.fetched, &figures.walk.used, &figures.walk.wasted}) {
    *figure = static_cast<uint64_t>(next++);
  }
  figures.walk.window = static_cast<uint32_t>(next++);
  figures.uptime_seconds = static_cast<double>(next++);
  for (cache::Gauge* gauge :
       {&stats.pages_resident, &stats.pages_private, &stats.names_bytes, &stats.attrs_bytes,
        &stats.anchors, &stats.entries_resident, &stats.name_index_bytes, &stats.fills_active,
        &stats.data_pages, &stats.dirty_bytes, &stats.writeback_bytes, &stats.unstable_bytes}) {
    gauge->add(next++);
  }
  for (cache::Counter* counter : {&stats.data_hits,          &stats.data_misses,
                                  &stats.data_read_requests, &stats.data_read_ahead,
                                  &stats.data_read_wasted,   &stats.data_writes,
                                  &stats.data_commits,       &stats.data_written_through,
                                  &stats.writeback_errors,   &stats.writeback_retries,
                                  &stats.dirty_throttled,    &stats.reclaim_pages,
                                  &stats.reclaim_scanned,    &stats.reclaim_direct,
                                  &stats.reclaim_refaults,   &stats.free_page_calls,
                                  &stats.invalidations,      &stats.allocation_failures,
                                  &stats.readdir_calls,      &stats.readdir_hits,
                                  &stats.readdir_misses,     &stats.readdir_uncached,
                                  &stats.fills_started,      &stats.fills_ahead,
                                  &stats.fills_discarded,    &stats.bad_names,
                                  &stats.bad_answers,        &stats.bad_cookies}) {
    counter->add(static_cast<uint64_t>(next++));
  }
  std::multiset<double> values;
  for (const auto& [name, family] : parse(fusefs::metrics_text(figures, stats))) {
    if (family.type == "histogram") continue;
    values.insert(family.series.begin()->second);
  }
  for (int64_t i = 1'000'001; i < next; ++i) {
    INFO(i);
    CHECK(values.count(static_cast<double>(i)) == 1);
  }
  // What the page has and this test does not know of.
  const Json json = Json::parse(fusefs::stats_json(figures, stats, fusefs::kControlTextBytes - 1));
  for (const auto& [group, inner] : json.items()) {
    if (!inner.is_object() || group == "metrics") continue;
    for (const auto& [key, value] : inner.items()) {
      INFO(group << "." << key);
      if (value.is_number()) CHECK(values.count(value.get<double>()) == 1);
    }
  }
}

TEST_CASE("metrics: buckets rise to the count, which ends the sum") {
  const auto families = parse(exposition());
  const Family& family = families.at("cookiefs_request_duration_seconds");
  const auto of = [&](const std::string& part, const std::string& labels) {
    const std::string label = "{operation=\"readdir\"" + labels + "}";
    return family.series.at("cookiefs_request_duration_seconds_" + part + label);
  };
  const std::string label = "operation=\"readdir\",le=\"";
  double before = 0;
  for (size_t i = 0; i < fusefs::HistogramSnapshot::kBounds; ++i) {
    const double seconds = static_cast<double>(fusefs::HistogramSnapshot::bound_ns(i)) / 1e9;
    double found = -1;
    for (const auto& [series, value] : family.series) {
      const size_t at = series.find(label);
      if (at == std::string::npos) continue;
      const std::string le = series.substr(at + label.size());
      if (le.rfind("+Inf", 0) != 0 && std::stod(le) == seconds) found = value;
    }
    INFO(seconds);
    CHECK(found >= before);
    before = found;
  }
  CHECK(before == 40);
  CHECK(of("bucket", ",le=\"+Inf\"") == 41);
  CHECK(of("count", "") == 41);
  CHECK(of("sum", "") == Approx(3600 + 1023 * 4e-6));
}

TEST_CASE("metrics: what is odd in the names of source and mount point comes back") {
  fusefs::DaemonFigures figures;
  figures.source = "a\"b\\c\nd\te";
  figures.mountpoint = "/\xff{}";
  const std::string text = fusefs::metrics_text(figures, cache::Stats());
  CHECK(text.find("source=\"a\\\"b\\\\c\\nd\\\\te\",mountpoint=\"/\xef\xbf\xbd{}\"} 1\n") !=
        std::string::npos);
  CHECK(parse(text).count("cookiefs_info") == 1);
}

TEST_CASE("metrics: pages are whole lines, each fits, and together they are all") {
  fusefs::DaemonFigures figures = some_figures();
  figures.source = std::string(9000, '"');
  figures.mountpoint = std::string(9000, '\x01');
  const cache::Stats stats;
  const auto blocks = fusefs::metrics_blocks(figures, stats);
  constexpr size_t kRoom = fusefs::kControlTextBytes - 1;
  std::string all;
  size_t pages = 0;
  for (size_t next = 0; next != 0 || pages == 0; ++pages) {
    const fusefs::MetricsPage page = fusefs::metrics_page(blocks, next, kRoom);
    REQUIRE(!page.text.empty());
    REQUIRE(page.text.size() <= kRoom);
    CHECK(page.text.back() == '\n');
    all += page.text;
    next = page.next;
  }
  CHECK(pages > 1);
  CHECK(all == fusefs::metrics_text(figures, stats));
  CHECK(fusefs::metrics_page(blocks, ~size_t{0}, kRoom).text.empty());
}

TEST_CASE("the dashboard asks for metrics that there are") {
  const Json board = Json::parse(text_of(kMetricsFolder + std::string("dashboard.json")));
  size_t expressions = 0;
  for (const Json& panel : board.at("panels")) {
    for (const Json& target : panel.at("targets")) {
      const std::string expr = target.at("expr");
      INFO(expr);
      CHECK(expr.find("cookiefs_") != std::string::npos);
      CHECK(unknown_names(expr).empty());
      ++expressions;
    }
  }
  CHECK(expressions > 10);
  for (const Json& variable : board.at("templating").at("list")) {
    CHECK(unknown_names(variable.at("query").dump()).empty());
  }
}

TEST_CASE("the alerts are rules, of metrics that there are, and fire when they should") {
  const std::string alerts = kMetricsFolder + std::string("alerts.yml");
  CHECK(unknown_names(text_of(alerts)).empty());
  const test::TempDir dir;
  const int sound = run("promtool check rules " + alerts + " > " + (dir / "said") + " 2>&1");
  INFO(text_of(dir / "said"));
  CHECK(sound == 0);
  const int fire =
      run("promtool test rules " COOKIEFS_SOURCE_DIR "/tests/metrics/alerts_test.yml > " +
          (dir / "said") + " 2>&1");
  INFO(text_of(dir / "said"));
  CHECK(fire == 0);
}
