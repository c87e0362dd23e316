#include "tools/bench/reclaim_trace.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <unordered_map>

namespace bench {
namespace {

constexpr char kMagic[] = "cookiefs-trace 1\n";

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream all;
  all << file.rdbuf();
  return all.str();
}

NamedTrace named(const std::string& name, Trace trace, std::vector<uint32_t> capacities = {},
                 Counts counts = {}) {
  const uint32_t pages = page_count(trace);
  if (capacities.empty()) {
    for (const uint32_t divisor : {20U, 10U, 4U, 2U}) {
      capacities.push_back(std::max(pages / divisor, 8U));
    }
  }
  return {name, std::move(trace), pages, std::move(capacities), std::move(counts)};
}

}  // namespace

Trace dense(const std::vector<uint64_t>& uses) {
  std::unordered_map<uint64_t, PageNumber> numbers;
  Trace trace;
  trace.reserve(uses.size());
  for (const uint64_t use : uses) {
    trace.push_back(numbers.emplace(use, static_cast<PageNumber>(numbers.size())).first->second);
  }
  return trace;
}

uint32_t page_count(const Trace& trace) {
  return trace.empty() ? 0 : *std::max_element(trace.begin(), trace.end()) + 1;
}

Trace loop(uint32_t pages, uint32_t rounds) {
  Trace trace;
  for (uint32_t round = 0; round < rounds; ++round) {
    for (uint32_t page = 0; page < pages; ++page) trace.push_back(page);
  }
  return trace;
}

Trace scan_and_hot(uint32_t hot, uint32_t scanned_between, uint32_t rounds) {
  Trace trace;
  PageNumber scanned = hot;
  for (uint32_t round = 0; round < rounds; ++round) {
    for (uint32_t page = 0; page < hot; ++page) trace.push_back(page);
    for (uint32_t i = 0; i < scanned_between; ++i) trace.push_back(scanned++);
  }
  return trace;
}

Counts after_first_round(uint32_t pages) {
  return [=](size_t at) { return at >= pages; };
}

Counts hot_uses(uint32_t hot, uint32_t scanned_between) {
  return [=](size_t at) {
    const size_t round = hot + scanned_between;
    return at >= round && at % round < hot;
  };
}

Trace zipf(uint32_t pages, uint32_t uses, double exponent, uint64_t seed) {
  std::vector<double> sums(pages);
  double sum = 0;
  for (uint32_t i = 0; i < pages; ++i) sums[i] = sum += std::pow(i + 1, -exponent);
  std::mt19937_64 random(seed);
  std::vector<uint64_t> drawn;
  for (uint32_t i = 0; i < uses; ++i) {
    const double at = static_cast<double>(random() >> 11) * 0x1p-53 * sum;
    drawn.push_back(
        static_cast<uint64_t>(std::lower_bound(sums.begin(), sums.end(), at) - sums.begin()));
  }
  return dense(drawn);
}

Trace phases(uint32_t pages, uint32_t rounds, uint32_t sets) {
  Trace trace;
  for (uint32_t set = 0; set < sets; ++set) {
    for (uint32_t round = 0; round < rounds; ++round) {
      for (uint32_t page = 0; page < pages; ++page) trace.push_back(set * pages + page);
    }
  }
  return trace;
}

std::string pack(const Trace& trace) {
  std::string bytes = kMagic;
  int64_t before = -1;
  for (const PageNumber page : trace) {
    const int64_t step = static_cast<int64_t>(page) - before;
    auto zigzag = static_cast<uint64_t>((step << 1) ^ (step >> 63));
    for (; zigzag >= 128; zigzag >>= 7) bytes += static_cast<char>(zigzag | 128);
    bytes += static_cast<char>(zigzag);
    before = page;
  }
  return bytes;
}

Trace unpack(const std::string& bytes) {
  if (bytes.rfind(kMagic, 0) != 0) return {};
  Trace trace;
  int64_t page = -1;
  uint64_t zigzag = 0;
  unsigned shift = 0;
  for (size_t i = sizeof(kMagic) - 1; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (shift > 35) return {};
    zigzag |= uint64_t{byte & 127U} << shift;
    shift += 7;
    if (byte >= 128) continue;
    page += static_cast<int64_t>(zigzag >> 1) ^ -static_cast<int64_t>(zigzag & 1);
    if (page < 0 || page > UINT32_MAX / 2) return {};
    trace.push_back(static_cast<PageNumber>(page));
    zigzag = shift = 0;
  }
  return trace;
}

Trace read_trace(const std::string& path) { return unpack(contents(path)); }

Trace read_raw(const std::string& path) {
  const std::string bytes = contents(path);
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> numbers;
  std::vector<uint64_t> uses;
  for (size_t at = 0; at + 16 <= bytes.size(); at += 16) {
    std::pair<uint64_t, uint64_t> page;
    std::memcpy(&page.first, bytes.data() + at, 8);
    std::memcpy(&page.second, bytes.data() + at + 8, 8);
    uses.push_back(numbers.emplace(page, numbers.size()).first->second);
  }
  return dense(uses);
}

std::vector<NamedTrace> trace_suite(const std::string& folder) {
  std::vector<NamedTrace> suite;
  suite.push_back(named("loop of 2 caches", loop(2000, 12), {1000}, after_first_round(2000)));
  suite.push_back(named("loop of 1.25 caches", loop(1250, 12), {1000}, after_first_round(1250)));
  suite.push_back(
      named("scan, hot directory", scan_and_hot(300, 1000, 150), {1000}, hot_uses(300, 1000)));
  suite.push_back(named("zipf 0.8", zipf(20000, 200000, 0.8, 1)));
  suite.push_back(named("zipf 1.1", zipf(20000, 200000, 1.1, 2)));
  suite.push_back(named("changing sets", phases(800, 15, 6), {500, 1000}));
  std::vector<std::filesystem::path> recorded;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".trace") recorded.push_back(entry.path());
  }
  std::sort(recorded.begin(), recorded.end());
  for (const auto& path : recorded) {
    suite.push_back(named(path.stem().string(), read_trace(path.string())));
  }
  return suite;
}

}  // namespace bench
