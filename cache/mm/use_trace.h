// Records which pages are used, for tools/bench/record_traces; in ordinary builds it is nothing.
//
// Purpose:        trace_use() wherever a page is marked accessed. With -DCOOKIEFS_TRACE=ON it
//                 appends mapping and key, 8 bytes each in the machine's order, to the file that
//                 the environment's COOKIEFS_TRACE names; without that variable to none.
// Thread-safety:  any thread; one write of 16 bytes in append mode keeps records whole.
#pragma once

#include <cstdint>

#ifdef COOKIEFS_TRACE
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#endif

namespace cache {

#ifdef COOKIEFS_TRACE
inline void trace_use(uint64_t mapping_id, uint64_t key) {
  static const int file = [] {
    const char* path = std::getenv("COOKIEFS_TRACE");
    constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    return path == nullptr ? -1 : ::open(path, kFlags, 0600);
  }();
  if (file < 0) return;
  const std::array<uint64_t, 2> record = {mapping_id, key};
  (void)!::write(file, record.data(), sizeof(record));  // a full disk ends the trace
}
#else
inline void trace_use(uint64_t /*mapping_id*/, uint64_t /*key*/) {}
#endif

}  // namespace cache
