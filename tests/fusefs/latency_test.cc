// The histograms of latencies: what falls where, what is read from it, and many who record at once.
#include "fusefs/latency.h"

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

using fusefs::Histogram;
using fusefs::HistogramSnapshot;
using std::chrono::nanoseconds;

namespace {

// The bucket that a single record of so long falls into.
size_t bucket_of(nanoseconds took) {
  Histogram histogram;
  histogram.record(took);
  const HistogramSnapshot snapshot = histogram.snapshot();
  size_t found = HistogramSnapshot::kBuckets;
  for (size_t i = 0; i < HistogramSnapshot::kBuckets; ++i) {
    if (snapshot.counts[i] != 0) found = i;
  }
  return found;
}

HistogramSnapshot recorded(const std::vector<nanoseconds>& times) {
  Histogram histogram;
  for (const nanoseconds took : times) histogram.record(took);
  return histogram.snapshot();
}

}  // namespace

TEST_CASE("each bound belongs to its own bucket, one more nanosecond to the next") {
  for (size_t i = 0; i < HistogramSnapshot::kBounds; ++i) {
    const auto bound = static_cast<int64_t>(HistogramSnapshot::bound_ns(i));
    CHECK(bucket_of(nanoseconds(bound)) == i);
    CHECK(bucket_of(nanoseconds(bound + 1)) == i + 1);
  }
}

TEST_CASE("nothing, less than nothing, and more than any bound have a bucket") {
  CHECK(bucket_of(nanoseconds(0)) == 0);
  CHECK(bucket_of(nanoseconds(-5)) == 0);
  CHECK(bucket_of(std::chrono::hours(1)) == HistogramSnapshot::kBounds);
  CHECK(bucket_of(nanoseconds::max()) == HistogramSnapshot::kBounds);
}

TEST_CASE("count, sum and longest are those of what was recorded") {
  const HistogramSnapshot snapshot =
      recorded({nanoseconds(10), nanoseconds(5'000), nanoseconds(7), nanoseconds(2'000'000)});
  CHECK(snapshot.count() == 4);
  CHECK(snapshot.sum_ns == 2'005'017);
  CHECK(snapshot.max_ns == 2'000'000);
}

TEST_CASE("quantiles lie in the bucket that has them, and not beyond the longest") {
  CHECK(recorded({}).quantile_ns(0.5) == 0);
  std::vector<nanoseconds> times(99, nanoseconds(3'000));
  times.emplace_back(std::chrono::milliseconds(40));
  const HistogramSnapshot snapshot = recorded(times);
  CHECK(snapshot.quantile_ns(0.5) > 2048);
  CHECK(snapshot.quantile_ns(0.5) <= 4096);
  CHECK(snapshot.quantile_ns(0.99) <= 4096);
  CHECK(snapshot.quantile_ns(0.995) > 33'000'000);
  CHECK(snapshot.quantile_ns(1) == 40'000'000);
  CHECK(recorded({nanoseconds(1100)}).quantile_ns(0.99) == 1100);
  CHECK(recorded({std::chrono::hours(2)}).quantile_ns(0.5) == 7'200'000'000'000);
}

TEST_CASE("half of what is even within a bucket is its middle") {
  std::vector<nanoseconds> times;
  for (int i = 1024; i < 2048; ++i) times.emplace_back(i + 1);
  CHECK(recorded(times).quantile_ns(0.5) == 1536);
}

TEST_CASE("records of many threads at once are all counted") {
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kEach = 20'000;
  Histogram histogram;
  std::array<std::thread, kThreads> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&histogram] {
      for (uint64_t i = 1; i <= kEach; ++i) histogram.record(nanoseconds(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const HistogramSnapshot snapshot = histogram.snapshot();
  CHECK(snapshot.count() == kThreads * kEach);
  CHECK(snapshot.sum_ns == kThreads * kEach * (kEach + 1) / 2);
  CHECK(snapshot.max_ns == kEach);
}
