// A directory read by raw getdents64, with a buffer of the caller's size each time.
//
// Purpose:        libc's readdir always asks for 32 KiB; odd buffer sizes are where a reply's end
//                 and a cookie's resume point go wrong.
// Ownership:      owns the descriptor; the names handed to `visit` live until it returns.
// Thread-safety:  one thread.
// Errors:         negative errnos. EINTR is retried; a buffer too small for the next name (EINVAL)
//                 is retried once with room for any name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace stress {

struct DirEntry {
  std::string_view name;
  uint64_t offset;  // d_off: where the next entry is found
};

class DirStream {
 public:
  DirStream() = default;
  DirStream(const DirStream&) = delete;
  DirStream& operator=(const DirStream&) = delete;
  ~DirStream();

  // Opens `path`, closing what was open. Returns 0 or a negative errno.
  int open(const std::string& path);
  // One getdents64 of `bytes`. Returns the number of entries visited, 0 at the end, or a negative
  // errno.
  int64_t read(size_t bytes, const std::function<void(const DirEntry&)>& visit);
  // lseek to 0 or to an entry's offset. Returns 0 or a negative errno.
  int seek(uint64_t offset);

 private:
  int64_t fill(size_t bytes);

  int fd_ = -1;
  std::vector<char> buffer_;
};

}  // namespace stress
