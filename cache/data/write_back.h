// WriteBack: the dirty pages of all files of a mount, how many there may be, and when they go.
//
// Purpose:        one bound on dirty data (a share of the cache's own, so that reclaim always finds
//                 something clean), one thread that writes back what is old or too much, files in
//                 the order in which they became dirty, many requests in flight, bounded in bytes.
// Ownership:      owns its thread; refers to the PageCache. Outlives every FileMapping.
// Thread-safety:  all members from any thread.
// Source:         Linux mm/page-writeback.c: a background limit and a hard one, writers wait at the
//                 second.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

namespace cache {

class PageCache;
class WriteBackCore;

struct WriteBackOptions {
  uint32_t dirty_percent = 40;                    // of the cache's present bound: writers wait
  uint32_t background_percent = 10;               // ... and the thread begins: at that, or
  uint64_t background_bytes = uint64_t{8} << 20;  // ... at so many already
  std::chrono::milliseconds expire{1000};         // what has been dirty for so long is written
  uint64_t most_inflight = uint64_t{16} << 20;    // bytes of requests under way, outside the budget
  // How long what is under way, either way, may keep others' requests waiting (line_window.h).
  std::chrono::milliseconds line_wait{300};
};

class WriteBack {
 public:
  WriteBack(PageCache& cache, const WriteBackOptions& options);
  ~WriteBack();  // every FileMapping is gone
  WriteBack(const WriteBack&) = delete;
  WriteBack& operator=(const WriteBack&) = delete;

 private:
  friend class FileMapping;
  std::shared_ptr<WriteBackCore> core_;  // shared with late completions
};

}  // namespace cache
