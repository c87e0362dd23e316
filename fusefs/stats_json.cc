#include "fusefs/stats_json.h"

#include <array>
#include <cstdio>
#include <initializer_list>
#include <utility>

namespace fusefs {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Length of the well-formed UTF-8 sequence at the front, 0 when there is none (Unicode, table 3-7:
// no overlong forms, no surrogates, nothing above U+10FFFF).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (text.size() < length) return 0;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  return length;
}

std::string escaped(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\r':
      return "\\r";
    default:
      break;
  }
  const auto code = static_cast<unsigned char>(c);
  if (code >= 0x20 && code != 0x7f) return {c};
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "\\u%04x", code);
  return text.data();
}

class Object {
 public:
  explicit Object(std::string* out) : out_(out) { *out_ += '{'; }
  void close() { *out_ += '}'; }
  void raw(std::string_view key, std::string_view value) {
    name(key);
    *out_ += value;
  }
  template <typename T>
  void figure(std::string_view key, T value) {
    raw(key, std::to_string(value));
  }
  // An object with `fill(inner)` in it.
  template <typename Fill>
  void object(std::string_view key, const Fill& fill) {
    name(key);
    Object inner(out_);
    fill(inner);
    inner.close();
  }
  template <typename T>
  void group(std::string_view key, std::initializer_list<std::pair<std::string_view, T>> figures) {
    object(key, [&](Object& inner) {
      for (const auto& [inner_key, value] : figures) inner.figure(inner_key, value);
    });
  }

 private:
  void name(std::string_view key) {
    if (out_->back() != '{') *out_ += ", ";
    *out_ += '"';
    *out_ += key;
    *out_ += "\": ";
  }
  std::string* out_;
};

void add_cache(Object& json, const DaemonFigures& figures, const cache::Stats& stats) {
  json.group<uint64_t>("cache", {{"limit_bytes", figures.limit_bytes},
                                 {"bytes", figures.bytes},
                                 {"peak_bytes", figures.peak_bytes},
                                 {"pressure_bound_bytes", figures.pressure_bound_bytes},
                                 {"allocation_failures", stats.allocation_failures.get()}});
  json.group<int64_t>("pages", {{"resident", stats.pages_resident.get()},
                                {"private", stats.pages_private.get()},
                                {"pinned", static_cast<int64_t>(figures.pages_pinned)}});
  json.group<int64_t>("names", {{"bytes", stats.names_bytes.get()}});
  json.group<int64_t>("attrs", {{"bytes", stats.attrs_bytes.get()}});
  json.group<int64_t>("data_pages", {{"count", stats.data_pages.get()}});
  json.group<int64_t>("anchors", {{"count", stats.anchors.get()}});
  json.group<int64_t>("entries", {{"resident", stats.entries_resident.get()}});
  json.group<int64_t>("name_index", {{"bytes", stats.name_index_bytes.get()}});
  json.group<uint64_t>("reclaim", {{"pages", stats.reclaim_pages.get()},
                                   {"scanned", stats.reclaim_scanned.get()},
                                   {"direct", stats.reclaim_direct.get()},
                                   {"refaults", stats.reclaim_refaults.get()}});
  json.group<uint64_t>("free_page", {{"calls", stats.free_page_calls.get()}});
  json.figure("invalidations", stats.invalidations.get());
}

void add_listings(Object& json, const DaemonFigures& figures, const cache::Stats& stats) {
  json.group<uint64_t>("readdir", {{"calls", stats.readdir_calls.get()},
                                   {"hits", stats.readdir_hits.get()},
                                   {"misses", stats.readdir_misses.get()},
                                   {"uncached", stats.readdir_uncached.get()}});
  json.group<uint64_t>("fills", {{"started", stats.fills_started.get()},
                                 {"ahead", stats.fills_ahead.get()},
                                 {"discarded", stats.fills_discarded.get()}});
  json.group<uint64_t>("data", {{"hits", stats.data_hits.get()},
                                {"misses", stats.data_misses.get()},
                                {"read_requests", stats.data_read_requests.get()},
                                {"ahead_bytes", stats.data_read_ahead.get()},
                                {"wasted_bytes", stats.data_read_wasted.get()},
                                {"writes", stats.data_writes.get()},
                                {"commits", stats.data_commits.get()},
                                {"written_through_bytes", stats.data_written_through.get()},
                                {"write_errors", stats.writeback_errors.get()},
                                {"write_retries", stats.writeback_retries.get()},
                                {"throttled", stats.dirty_throttled.get()}});
  json.group<int64_t>("unwritten", {{"dirty_bytes", stats.dirty_bytes.get()},
                                    {"under_way_bytes", stats.writeback_bytes.get()},
                                    {"uncommitted_bytes", stats.unstable_bytes.get()}});
  json.group<uint64_t>("walk_ahead", {{"fetched", figures.walk.fetched},
                                      {"used", figures.walk.used},
                                      {"wasted", figures.walk.wasted},
                                      {"window", figures.walk.window}});
  json.group<uint64_t>("remote", {{"requests", figures.remote.requests},
                                  {"inflight", figures.remote.inflight},
                                  {"inflight_peak", figures.remote.inflight_peak},
                                  {"errors", figures.remote.errors}});
  json.group<uint64_t>("protocol", {{"bad_names", stats.bad_names.get()},
                                    {"bad_answers", stats.bad_answers.get()},
                                    {"bad_cookies", stats.bad_cookies.get()}});
}

template <size_t kKinds>
void add_latencies(Object& json, std::string_view key,
                   const std::array<std::string_view, kKinds>& kinds,
                   const std::array<HistogramSnapshot, kKinds>& histograms) {
  constexpr uint64_t kMicro = 1000;
  json.object(key, [&](Object& inner) {
    for (size_t i = 0; i < kKinds; ++i) {
      const HistogramSnapshot& histogram = histograms[i];
      inner.group<uint64_t>(kinds[i], {{"count", histogram.count()},
                                       {"p50_us", histogram.quantile_ns(0.5) / kMicro},
                                       {"p99_us", histogram.quantile_ns(0.99) / kMicro},
                                       {"max_us", histogram.max_ns / kMicro}});
    }
  });
}

}  // namespace

std::string json_string(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const std::string piece = length == 0   ? std::string(kReplacement)
                              : length == 1 ? escaped(text.front())
                                            : std::string(text.substr(0, length));
    if (out.size() + piece.size() + 4 > max_bytes) {  // with room for the ellipsis and the quote
      out += "...";
      break;
    }
    out += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out + '"';
}

std::string stats_json(const DaemonFigures& figures, const cache::Stats& stats, size_t max_bytes) {
  std::string rest;
  Object tail(&rest);
  std::array<char, 32> uptime{};
  std::snprintf(uptime.data(), uptime.size(), "%.3f", figures.uptime_seconds);
  tail.raw("uptime_seconds", uptime.data());
  add_cache(tail, figures, stats);
  add_listings(tail, figures, stats);
  tail.group<uint64_t>("inodes", {{"count", figures.inodes}, {"linked", figures.linked}});
  tail.group<uint64_t>("requests", {{"active", figures.requests_active}});
  tail.group<uint64_t>("notifications", {{"sent", figures.notifications},
                                         {"dropped", figures.notifications_dropped}});
  add_latencies(tail, "request_latency", kRequestKinds, figures.latency.requests);
  add_latencies(tail, "remote_latency", kRemoteKinds, figures.latency.remote);
  tail.group<uint64_t>("metrics", {{"port", figures.metrics_port}});
  tail.close();

  constexpr size_t kFixed = 64;  // keys and punctuation of the two names
  const size_t room = max_bytes > rest.size() + kFixed ? max_bytes - rest.size() - kFixed : 0;
  const size_t each = room / 2 < 16 ? 16 : room / 2;
  return "{\"source\": " + json_string(figures.source, each) +
         ", \"mountpoint\": " + json_string(figures.mountpoint, each) + ", " + rest.substr(1);
}

}  // namespace fusefs
