// Replays traces under every reclaim policy and prints the hit ratios as JSON; tools/bench/reclaim
// makes a table and a picture of them.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/bench/reclaim_trace.h"

namespace {

nlohmann::json replay(const bench::NamedTrace& named, uint32_t capacity) {
  nlohmann::json ratios;
  for (const bench::PolicyKind& kind : bench::policies()) {
    const auto policy = kind.make(capacity, named.pages);
    ratios[kind.name] = bench::hit_ratio(*policy, named.trace, named.counts);
  }
  ratios["optimum"] = bench::optimum(named.trace, capacity, named.counts);
  return {{"trace", named.name},
          {"uses", named.trace.size()},
          {"pages", named.pages},
          {"capacity", capacity},
          {"hit_ratio", ratios}};
}

int run(int argc, char** argv) {
  CLI::App app("Hit ratios of reclaim policies over traces, as JSON");
  std::string folder;
  std::vector<std::string> to_pack;
  app.add_option("--traces", folder, "folder of recorded traces");
  app.add_option("--pack", to_pack, "RAW TRACE: packs what a tracing daemon wrote")->expected(2);
  CLI11_PARSE(app, argc, argv);
  if (!to_pack.empty()) {
    const bench::Trace trace = bench::read_raw(to_pack[0]);
    std::ofstream(to_pack[1], std::ios::binary) << bench::pack(trace);
    std::printf("%zu uses of %u pages\n", trace.size(), bench::page_count(trace));
    return trace.empty() ? 1 : 0;
  }
  nlohmann::json results = nlohmann::json::array();
  for (const bench::NamedTrace& named : bench::trace_suite(folder)) {
    if (named.trace.empty()) {
      std::fprintf(stderr, "%s: no trace\n", named.name.c_str());
      return 1;
    }
    for (const uint32_t capacity : named.capacities) results.push_back(replay(named, capacity));
  }
  std::puts(results.dump(1).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "bench_reclaim: %s\n", exception.what());
    return 1;
  }
}
