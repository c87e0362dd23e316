// Reclaim policies over a trace of page uses: the cache's own, and those it is compared with.
//
// Purpose:        one interface, so that a trace can be replayed under each and hits be counted.
//                 Own is the real code: cache::ReclaimLists and cache::RefaultHistory on real
//                 descriptors, driven as PageCache drives them.
// Units:          pages; a policy holds at most `capacity` of them, which is at least 1.
// Thread-safety:  one object by one thread.
// Source:         CLOCK (Corbato 1968); SIEVE (Zhang et al., NSDI 2024); S3-FIFO (Yang et al., SOSP
//                 2023); W-TinyLFU (Einziger et al. 2017); the optimum: Belady 1966.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bench {

using PageNumber = uint32_t;  // dense: from 0, in the order of first use
using Trace = std::vector<PageNumber>;

class Policy {
 public:
  virtual ~Policy() = default;
  // One use of a page. True when it was in the cache; it is there afterwards.
  virtual bool use(PageNumber page) = 0;
};

struct PolicyKind {
  std::string name;
  // `pages`: how many numbers the trace has.
  std::function<std::unique_ptr<Policy>(uint32_t capacity, uint32_t pages)> make;
};
// The cache's own policy first.
const std::vector<PolicyKind>& policies();
std::unique_ptr<Policy> make_own(uint32_t capacity, uint32_t pages);

// The share of uses that hit, of those for which `counts` is true (all, when it is empty).
using Counts = std::function<bool(size_t at)>;
double hit_ratio(Policy& policy, const Trace& trace, const Counts& counts = {});
// What no policy that must take in every page can pass: the farthest next use goes.
double optimum(const Trace& trace, uint32_t capacity, const Counts& counts = {});

}  // namespace bench
