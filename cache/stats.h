// Every counter of the cache, declared once, with its unit.
//
// Thread-safety:  counters are relaxed atomics: each is exact, a set of them read together is not a
//                 snapshot. Nothing is ordered by them.
// Gauges rise and fall and read zero when everything has been torn down; counters only rise.
#pragma once

#include <atomic>
#include <cstdint>

namespace cache {

class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void add(int64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  void sub(int64_t n) { value_.fetch_sub(n, std::memory_order_relaxed); }
  [[nodiscard]] int64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// In cache-line groups by who writes them, so that a listing does not bounce reclaim's line.
struct Stats {
  // mm
  alignas(64) Gauge pages_resident;   // pages findable in the index
  Gauge pages_private;                // pages outside the index that somebody holds
  Gauge names_bytes;                  // bytes of names held by arrays
  Gauge attrs_bytes;                  // bytes of attributes held by arrays
  Gauge anchors;                      // anchors kept
  Gauge entries_resident;             // directory entries in arrays
  Gauge name_index_bytes;             // bytes of indexes of names, and of names we added
  alignas(64) Counter reclaim_pages;  // pages removed by reclaim
  Counter reclaim_scanned;            // pages reclaim looked at
  Counter reclaim_direct;             // times that the asking thread had to reclaim
  Counter reclaim_refaults;           // pages filled again soon after reclaim took them
  Counter free_page_calls;            // free_page hooks run
  Counter invalidations;              // whole mappings or ranges invalidated
  Counter allocation_failures;        // asked for memory that reclaim could not make
  // dir
  alignas(64) Counter readdir_calls;  // reads of a directory position
  Counter readdir_hits;               // arrays found resident
  Counter readdir_misses;             // arrays that had to be filled or waited for
  Counter readdir_uncached;           // reads that took the uncached path
  Counter fills_started;              // chains of requests begun
  Counter fills_ahead;                // of them, begun from anchors ahead of a reader
  Gauge fills_active;                 // chains not ended, but idle ones ahead
  Counter fills_discarded;            // answers that came after an invalidation
  Counter bad_names;                  // entries refused for their names
  Counter bad_answers;                // answers that broke the protocol
  Counter bad_cookies;                // answers that no longer knew the place
  // data
  alignas(64) Gauge data_pages;   // pages of file data
  Gauge dirty_bytes;              // bytes of pages to be written back
  Gauge writeback_bytes;          // bytes of pages whose write-back is under way
  Gauge unstable_bytes;           // bytes of pages written, but not committed
  Gauge data_ahead_bytes;         // bytes asked ahead that are under way
  alignas(64) Counter data_hits;  // pages that a read found
  Counter data_misses;            // pages that a read had to wait for
  Counter data_read_requests;     // reads of the remote
  Counter data_read_ahead;        // bytes asked ahead of readers
  Counter data_read_wasted;       // bytes asked ahead and gone when the reader came
  Counter data_writes;            // writes to the remote
  Counter data_commits;           // commits asked of the remote
  Counter data_written_through;   // bytes written past the pages
  Counter writeback_errors;       // writes and commits that the remote refused for good
  Counter writeback_retries;      // ... and that failed for the time being
  Counter dirty_throttled;        // times that a writer had to wait
};

}  // namespace cache
