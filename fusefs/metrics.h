// The figures of one mount as Prometheus reads them (text exposition format 0.0.4).
//
// Shape:          blocks of whole lines, in one order always: what one metric has, and of a family
//                 of histograms what one kind has. Names, types and help stand in one table
//                 (metrics.cc); base units, counters end in _total.
// Thread-safety:  pure functions.
// Errors:         none; text that is not UTF-8 is shown with U+FFFD for what is wrong in it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cache/stats.h"
#include "fusefs/stats_json.h"

namespace fusefs {

std::vector<std::string> metrics_blocks(const DaemonFigures& figures, const cache::Stats& stats);

// All of it.
std::string metrics_text(const DaemonFigures& figures, const cache::Stats& stats);

// As many whole blocks from `first` on as fit `max_bytes`, which is more than any block has.
struct MetricsPage {
  std::string text;
  size_t next = 0;  // the first block that is not in it; 0: there is none
};
MetricsPage metrics_page(const std::vector<std::string>& blocks, size_t first, size_t max_bytes);

}  // namespace fusefs
