#include "fusefs/metrics.h"

#include <array>
#include <charconv>
#include <string_view>
#include <utility>

namespace fusefs {
namespace {

enum class Type : uint8_t { kCounter, kGauge };

struct Figures {
  const DaemonFigures& daemon;
  const cache::Stats& cache;
};

struct Metric {
  std::string_view name;  // with its unit at the end
  Type type;
  std::string_view help;
  double (*value)(const Figures& figures);
};

template <typename Number>
constexpr double number(Number value) {
  return static_cast<double>(value);
}

// NOLINTBEGIN: a row is one expression
#define OF_DAEMON(field) [](const Figures& figures) { return number(figures.daemon.field); }
#define OF_CACHE(field) [](const Figures& figures) { return number(figures.cache.field.get()); }
// NOLINTEND

constexpr auto kMetrics = std::to_array<Metric>({
    {"cookiefs_uptime_seconds", Type::kGauge, "Time since the daemon started.",
     OF_DAEMON(uptime_seconds)},

    // Memory.
    {"cookiefs_cache_limit_bytes", Type::kGauge, "What the cache may hold when all is calm.",
     OF_DAEMON(limit_bytes)},
    {"cookiefs_cache_pressure_bound_bytes", Type::kGauge,
     "What the cache may hold now; less than the limit under memory pressure.",
     OF_DAEMON(pressure_bound_bytes)},
    {"cookiefs_cache_resident_bytes", Type::kGauge, "What the cache holds, everything counted.",
     OF_DAEMON(bytes)},
    {"cookiefs_cache_peak_bytes", Type::kGauge, "The most that the cache has held.",
     OF_DAEMON(peak_bytes)},
    {"cookiefs_cache_allocation_failures_total", Type::kCounter,
     "Requests for memory that reclaim could not meet within the limit.",
     OF_CACHE(allocation_failures)},
    {"cookiefs_pages_resident", Type::kGauge, "Pages that can be found in the cache.",
     OF_CACHE(pages_resident)},
    {"cookiefs_pages_private", Type::kGauge, "Pages outside the cache that somebody reads.",
     OF_CACHE(pages_private)},
    {"cookiefs_pages_pinned", Type::kGauge, "Pages in use, which can't be reclaimed.",
     OF_DAEMON(pages_pinned)},
    {"cookiefs_entries_resident", Type::kGauge, "Directory entries in the cache.",
     OF_CACHE(entries_resident)},
    {"cookiefs_names_bytes", Type::kGauge, "Names of the entries in the cache.",
     OF_CACHE(names_bytes)},
    {"cookiefs_attributes_bytes", Type::kGauge, "Attributes of the entries in the cache.",
     OF_CACHE(attrs_bytes)},
    {"cookiefs_name_index_bytes", Type::kGauge, "Indexes of names.", OF_CACHE(name_index_bytes)},
    {"cookiefs_anchors", Type::kGauge, "Places in listings that are known after their eviction.",
     OF_CACHE(anchors)},
    {"cookiefs_reclaimed_pages_total", Type::kCounter, "Pages removed to make room.",
     OF_CACHE(reclaim_pages)},
    {"cookiefs_reclaim_scanned_pages_total", Type::kCounter, "Pages that reclaim looked at.",
     OF_CACHE(reclaim_scanned)},
    {"cookiefs_reclaim_direct_total", Type::kCounter,
     "Times that who needed memory had to make room itself.", OF_CACHE(reclaim_direct)},
    {"cookiefs_refaulted_pages_total", Type::kCounter,
     "Pages fetched again soon after they were removed: the cache is too small.",
     OF_CACHE(reclaim_refaults)},
    {"cookiefs_freed_pages_total", Type::kCounter, "Pages whose content was freed.",
     OF_CACHE(free_page_calls)},
    {"cookiefs_invalidations_total", Type::kCounter,
     "Listings, or parts of them, that were forgotten because they had changed.",
     OF_CACHE(invalidations)},

    // Listings.
    {"cookiefs_readdir_calls_total", Type::kCounter, "Reads of a directory position.",
     OF_CACHE(readdir_calls)},
    {"cookiefs_readdir_hits_total", Type::kCounter, "Arrays of entries found in the cache.",
     OF_CACHE(readdir_hits)},
    {"cookiefs_readdir_misses_total", Type::kCounter,
     "Arrays of entries that had to be fetched or waited for.", OF_CACHE(readdir_misses)},
    {"cookiefs_readdir_uncached_total", Type::kCounter, "Reads that went past the cache.",
     OF_CACHE(readdir_uncached)},
    {"cookiefs_fills_total", Type::kCounter, "Chains of requests for a listing that were begun.",
     OF_CACHE(fills_started)},
    {"cookiefs_fills_ahead_total", Type::kCounter, "Of them, those begun ahead of a reader.",
     OF_CACHE(fills_ahead)},
    {"cookiefs_fills_active", Type::kGauge, "Chains of requests under way.",
     OF_CACHE(fills_active)},
    {"cookiefs_fills_discarded_total", Type::kCounter,
     "Answers that a change had overtaken when they came.", OF_CACHE(fills_discarded)},
    {"cookiefs_data_pages", Type::kGauge, "Pages of file data.", OF_CACHE(data_pages)},
    {"cookiefs_dirty_bytes", Type::kGauge, "File data to be written to the remote.",
     OF_CACHE(dirty_bytes)},
    {"cookiefs_writeback_bytes", Type::kGauge, "File data whose writing is under way.",
     OF_CACHE(writeback_bytes)},
    {"cookiefs_uncommitted_bytes", Type::kGauge, "File data written, but not committed.",
     OF_CACHE(unstable_bytes)},
    {"cookiefs_data_hits_total", Type::kCounter, "Pages of file data that a read found.",
     OF_CACHE(data_hits)},
    {"cookiefs_data_misses_total", Type::kCounter,
     "Pages of file data that a read had to wait for.", OF_CACHE(data_misses)},
    {"cookiefs_data_reads_total", Type::kCounter, "Reads of file data asked of the remote.",
     OF_CACHE(data_read_requests)},
    {"cookiefs_data_ahead_bytes_total", Type::kCounter, "File data asked for ahead of readers.",
     OF_CACHE(data_read_ahead)},
    {"cookiefs_data_wasted_bytes_total", Type::kCounter,
     "Of that, what was gone when its reader came.", OF_CACHE(data_read_wasted)},
    {"cookiefs_data_writes_total", Type::kCounter, "Writes of file data sent to the remote.",
     OF_CACHE(data_writes)},
    {"cookiefs_data_commits_total", Type::kCounter, "Commits asked of the remote.",
     OF_CACHE(data_commits)},
    {"cookiefs_data_written_through_bytes_total", Type::kCounter,
     "File data written past the pages.", OF_CACHE(data_written_through)},
    {"cookiefs_write_errors_total", Type::kCounter,
     "Writes and commits that the remote refused for good.", OF_CACHE(writeback_errors)},
    {"cookiefs_write_retries_total", Type::kCounter,
     "Writes and commits that failed for the time being.", OF_CACHE(writeback_retries)},
    {"cookiefs_writers_throttled_total", Type::kCounter,
     "Times that a writer had to wait until less was dirty.", OF_CACHE(dirty_throttled)},
    {"cookiefs_walk_ahead_fetched_total", Type::kCounter,
     "Directories fetched ahead of a program that walks the tree.", OF_DAEMON(walk.fetched)},
    {"cookiefs_walk_ahead_used_total", Type::kCounter, "Of them, those that it then listed.",
     OF_DAEMON(walk.used)},
    {"cookiefs_walk_ahead_wasted_total", Type::kCounter, "Of them, those fetched in vain.",
     OF_DAEMON(walk.wasted)},
    {"cookiefs_walk_ahead_window", Type::kGauge, "Directories to be fetched ahead at present.",
     OF_DAEMON(walk.window)},

    // The remote.
    {"cookiefs_remote_requests_total", Type::kCounter, "Requests sent to the remote.",
     OF_DAEMON(remote.requests)},
    {"cookiefs_remote_requests_inflight", Type::kGauge, "Requests that the remote has to answer.",
     OF_DAEMON(remote.inflight)},
    {"cookiefs_remote_requests_inflight_peak", Type::kGauge, "The most of them at one time.",
     OF_DAEMON(remote.inflight_peak)},
    {"cookiefs_remote_errors_total", Type::kCounter,
     "Requests that failed at the remote or on the way to it.", OF_DAEMON(remote.errors)},
    {"cookiefs_protocol_bad_names_total", Type::kCounter,
     "Entries from the remote that were refused for their names.", OF_CACHE(bad_names)},
    {"cookiefs_protocol_bad_answers_total", Type::kCounter,
     "Answers of the remote that broke the protocol.", OF_CACHE(bad_answers)},
    {"cookiefs_protocol_bad_cookies_total", Type::kCounter,
     "Answers of a remote that no longer knew a place in a listing.", OF_CACHE(bad_cookies)},

    // The kernel.
    {"cookiefs_inodes", Type::kGauge, "Inodes that the kernel refers to.", OF_DAEMON(inodes)},
    {"cookiefs_linked_entries_total", Type::kCounter,
     "Listed entries that the kernel was given as inodes.", OF_DAEMON(linked)},
    {"cookiefs_requests_active", Type::kGauge, "Requests of the kernel that may be waiting.",
     OF_DAEMON(requests_active)},
    {"cookiefs_notifications_total", Type::kCounter,
     "Times that the kernel was told to forget something.", OF_DAEMON(notifications)},
    {"cookiefs_notifications_dropped_total", Type::kCounter,
     "Times that it was not told, since too many were waiting.", OF_DAEMON(notifications_dropped)},
});

#undef OF_DAEMON
#undef OF_CACHE

constexpr std::string_view kInfoName = "cookiefs_info";
constexpr std::string_view kInfoHelp = "What is mounted where; always 1.";

struct HistogramMetric {
  std::string_view name;
  std::string_view help;
};
constexpr HistogramMetric kRequestMetric = {
    "cookiefs_request_duration_seconds",
    "Time from a request of the kernel to its reply, by operation."};
constexpr HistogramMetric kRemoteMetric = {
    "cookiefs_remote_request_duration_seconds",
    "Time from a request to the remote to its answer, by operation."};

// Whole numbers without an exponent, as long as a double is exact; else the shortest that is.
std::string written(double value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  std::array<char, 32> text{};
  const bool whole = value > -kExact && value < kExact &&
                     value == static_cast<double>(static_cast<int64_t>(value));
  const auto end =
      whole ? std::to_chars(text.data(), text.data() + text.size(), static_cast<int64_t>(value))
            : std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end.ptr};
}

std::string seconds(uint64_t ns) { return written(static_cast<double>(ns) / 1e9); }

std::string head(std::string_view name, std::string_view type, std::string_view help) {
  std::string out = "# HELP ";
  out.append(name).append(" ").append(help).append("\n# TYPE ");
  return out.append(name).append(" ").append(type).append("\n");
}

// Of a label's value backslash, quote and newline are escaped; that a name is long is no harm here,
// but that a block is.
std::string label_value(std::string_view text) {
  constexpr size_t kMost = 4000;
  const std::string json = json_string(text, kMost);
  std::string out;
  // JSON writes other control characters as \uXXXX, which is shown as it stands.
  for (size_t i = 0; i < json.size(); ++i) {
    const bool escape = json[i] == '\\' && i + 1 < json.size();
    if (escape && json[i + 1] != '"' && json[i + 1] != '\\' && json[i + 1] != 'n') out += '\\';
    out += json[i];
    if (escape) out += json[++i];
  }
  return out;
}

std::string info_block(const DaemonFigures& figures) {
  std::string out = head(kInfoName, "gauge", kInfoHelp);
  out.append(kInfoName).append("{version=\"" COOKIEFS_VERSION "\",source=");
  out.append(label_value(figures.source)).append(",mountpoint=");
  return out.append(label_value(figures.mountpoint)).append("} 1\n");
}

std::string metric_block(const Metric& metric, const Figures& figures) {
  std::string out =
      head(metric.name, metric.type == Type::kCounter ? "counter" : "gauge", metric.help);
  return out.append(metric.name).append(" ").append(written(metric.value(figures))).append("\n");
}

// One kind of a family.
class HistogramText {
 public:
  HistogramText(std::string_view name, std::string_view kind) : name_(name), kind_(kind) {}

  void add_bucket(std::string_view bound, uint64_t count) {
    begin("_bucket");
    out_.append(",le=\"").append(bound).append("\"} ").append(std::to_string(count)).append("\n");
  }
  void add(std::string_view part, std::string_view value) {
    begin(part);
    out_.append("} ").append(value).append("\n");
  }
  std::string text() && { return std::move(out_); }

 private:
  void begin(std::string_view part) {
    out_.append(name_).append(part).append("{operation=\"").append(kind_).append("\"");
  }

  const std::string_view name_;
  const std::string_view kind_;
  std::string out_;
};

std::string histogram_block(std::string_view name, std::string_view kind,
                            const HistogramSnapshot& histogram) {
  HistogramText text(name, kind);
  uint64_t below = 0;
  for (size_t i = 0; i < HistogramSnapshot::kBounds; ++i) {
    below += histogram.counts[i];
    text.add_bucket(seconds(HistogramSnapshot::bound_ns(i)), below);
  }
  const uint64_t count = histogram.count();
  text.add_bucket("+Inf", count);
  text.add("_sum", seconds(histogram.sum_ns));
  text.add("_count", std::to_string(count));
  return std::move(text).text();
}

template <size_t kKinds>
void add_histograms(std::vector<std::string>* blocks, const HistogramMetric& metric,
                    const std::array<std::string_view, kKinds>& kinds,
                    const std::array<HistogramSnapshot, kKinds>& histograms) {
  for (size_t i = 0; i < kKinds; ++i) {
    std::string block = i == 0 ? head(metric.name, "histogram", metric.help) : std::string();
    block += histogram_block(metric.name, kinds[i], histograms[i]);
    blocks->push_back(std::move(block));
  }
}

}  // namespace

std::vector<std::string> metrics_blocks(const DaemonFigures& daemon, const cache::Stats& stats) {
  const Figures figures = {.daemon = daemon, .cache = stats};
  std::vector<std::string> blocks = {info_block(daemon)};
  for (const Metric& metric : kMetrics) blocks.push_back(metric_block(metric, figures));
  add_histograms(&blocks, kRequestMetric, kRequestKinds, daemon.latency.requests);
  add_histograms(&blocks, kRemoteMetric, kRemoteKinds, daemon.latency.remote);
  return blocks;
}

std::string metrics_text(const DaemonFigures& figures, const cache::Stats& stats) {
  std::string text;
  for (const std::string& block : metrics_blocks(figures, stats)) text += block;
  return text;
}

MetricsPage metrics_page(const std::vector<std::string>& blocks, size_t first, size_t max_bytes) {
  MetricsPage page;
  for (size_t i = first; i < blocks.size(); ++i) {
    if (page.text.size() + blocks[i].size() > max_bytes) {
      page.next = i;
      break;
    }
    page.text += blocks[i];
  }
  return page;
}

}  // namespace fusefs
