// Traces for the reclaim policies: made here, or recorded by tools/bench/record_traces.
//
// Purpose:        the workloads that the policy is judged by.
// Format:         a recorded trace is the line "cookiefs-trace 1", then for each use the difference
//                 to the page number before, zigzag, in base 128 with the low seven bits first: a
//                 scan takes a byte a page. Numbers are dense, in the order of first use.
// Errors:         a file that is none gives an empty trace.
#pragma once

#include <string>

#include "tools/bench/reclaim_policy.h"

namespace bench {

struct NamedTrace {
  std::string name;
  Trace trace;
  uint32_t pages = 0;
  std::vector<uint32_t> capacities;
  Counts counts;  // which uses are judged; all, when it is empty
};

// Numbers pages in the order of first use.
Trace dense(const std::vector<uint64_t>& uses);
uint32_t page_count(const Trace& trace);

Trace loop(uint32_t pages, uint32_t rounds);
// Between any two rounds over `hot` pages that many are read that never come back.
Trace scan_and_hot(uint32_t hot, uint32_t scanned_between, uint32_t rounds);
// Those after the first round, in which nothing can hit.
Counts after_first_round(uint32_t pages);
// Those of a trace of scan_and_hot that belong to the hot directory and could hit.
Counts hot_uses(uint32_t hot, uint32_t scanned_between);
Trace zipf(uint32_t pages, uint32_t uses, double exponent, uint64_t seed);
// A working set that is replaced by another.
Trace phases(uint32_t pages, uint32_t rounds, uint32_t sets);

std::string pack(const Trace& trace);
Trace unpack(const std::string& bytes);
Trace read_trace(const std::string& path);
// What a daemon built with COOKIEFS_TRACE wrote: mapping and key of each use.
Trace read_raw(const std::string& path);

// Made traces, then the recorded ones of the folder in the order of their names.
std::vector<NamedTrace> trace_suite(const std::string& folder);

}  // namespace bench
