#include "fusefs/latency.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace fusefs {
namespace {

// The least i with ns <= 1024 * 2^i.
size_t bucket_of(uint64_t ns) {
  const auto bucket = static_cast<size_t>(std::bit_width((std::max<uint64_t>(ns, 1) - 1) >> 10));
  return std::min(bucket, HistogramSnapshot::kBounds);
}

}  // namespace

uint64_t HistogramSnapshot::count() const {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

uint64_t HistogramSnapshot::quantile_ns(double q) const {
  const double rank = q * static_cast<double>(count());
  double below = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (counts[i] == 0 || below + here < rank) {
      below += here;
      continue;
    }
    if (i == kBounds) return max_ns;
    const double from = i == 0 ? 0 : static_cast<double>(bound_ns(i - 1));
    const double width = static_cast<double>(bound_ns(i)) - from;
    const double at = from + width * std::clamp((rank - below) / here, 0.0, 1.0);
    return std::min(static_cast<uint64_t>(at), max_ns);
  }
  return max_ns;  // of nothing 0
}

void Histogram::record(cache::Duration took) {
  const int64_t count = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  const uint64_t ns = count > 0 ? static_cast<uint64_t>(count) : 0;
  counts_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(ns, std::memory_order_relaxed);
  uint64_t longest = max_ns_.load(std::memory_order_relaxed);
  while (ns > longest && !max_ns_.compare_exchange_weak(longest, ns, std::memory_order_relaxed)) {
  }
}

HistogramSnapshot Histogram::snapshot() const {
  HistogramSnapshot result;
  for (size_t i = 0; i < counts_.size(); ++i) {
    result.counts[i] = counts_[i].load(std::memory_order_relaxed);
  }
  result.sum_ns = sum_ns_.load(std::memory_order_relaxed);
  result.max_ns = max_ns_.load(std::memory_order_relaxed);
  return result;
}

LatencyFigures Latencies::figures() const {
  LatencyFigures result;
  for (size_t i = 0; i < requests_.size(); ++i) result.requests[i] = requests_[i].snapshot();
  for (size_t i = 0; i < remote_.size(); ++i) result.remote[i] = remote_[i].snapshot();
  return result;
}

}  // namespace fusefs
