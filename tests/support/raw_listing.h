// Listing as the kernel gives it: getdents64 with a buffer of any size, nothing in between.
//
// Errors:         negative errnos as results; no Catch2, so that children can use it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace test {

struct RawEntry {
  uint64_t ino = 0;
  int64_t offset = 0;
  uint8_t type = 0;
  std::string name;
};

class RawDir {
 public:
  RawDir() = default;
  explicit RawDir(const std::string& path) { open(path); }
  ~RawDir() { close(); }
  RawDir(const RawDir&) = delete;
  RawDir& operator=(const RawDir&) = delete;

  int open(const std::string& path);  // 0 or a negative errno
  void close();
  [[nodiscard]] int fd() const { return fd_; }
  // One getdents64: appends what came. Its bytes, 0 at the end, or a negative errno.
  int read(size_t buffer_bytes, std::vector<RawEntry>* out);
  // To the end: 0 or a negative errno.
  int read_all(size_t buffer_bytes, std::vector<RawEntry>* out);
  int64_t seek(int64_t offset);
  [[nodiscard]] int64_t tell();

 private:
  int fd_ = -1;
  std::vector<char> buffer_;
};

// Everything in the directory; throws when that fails.
std::vector<RawEntry> list(const std::string& path, size_t buffer_bytes = 64 * 1024);

using NameCounts = std::map<std::string, int>;
NameCounts count_names(const std::vector<RawEntry>& entries);

// What is wrong with a listing that should hold '.', '..' and exactly these names, each once;
// empty when nothing is. Further names may be there at most once where `others` allows them.
enum class Others : uint8_t { kNone, kAtMostOnce };
std::string differences(const std::vector<RawEntry>& entries,
                        const std::vector<std::string>& expected, Others others = Others::kNone);

// The names of the simulated directory `big` with that many files.
std::vector<std::string> big_names(uint64_t count, uint32_t length = 24);

}  // namespace test
