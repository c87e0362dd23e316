// bench_warm_read: reads a cached listing again and again, in the process; prints nothing.
//
// Purpose:        the warm READDIR path without FUSE, for callgrind and perf: Directory::read with
//                 the daemon's encoder as its sink and 32 KiB replies. What one pass costs is the
//                 difference between two runs with different numbers of passes.
// Usage:          bench_warm_read [ENTRIES [PASSES [REPLY_BYTES]]]
// Errors:         exit status 1 when a pass did not give every entry.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "cache/dir/directory.h"
#include "cache/mm/page_cache.h"
#include "fusefs/dirent_encoder.h"
#include "tools/bench/bench_source.h"

namespace {

constexpr uint32_t kBatch = 10000;

class ReplySink final : public cache::EntrySink {
 public:
  explicit ReplySink(fusefs::DirentEncoder& encoder) : encoder_(encoder) {}
  uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
    const uint32_t taken = encoder_.append(view, from, to);
    if (taken != 0) last_ = view.cookie(from + taken - 1);
    taken_ += taken;
    return taken;
  }
  [[nodiscard]] uint64_t last() const { return last_; }
  [[nodiscard]] uint32_t taken() const { return taken_; }

 private:
  fusefs::DirentEncoder& encoder_;
  uint64_t last_ = 0;
  uint32_t taken_ = 0;
};

// One listing by a handle of its own, as a fresh `ls` does it. Returns the entries it gave.
uint64_t pass(cache::Directory& directory, std::vector<std::byte>* reply) {
  cache::DirCursor cursor;
  uint64_t position = 0;
  uint64_t entries = 0;
  for (;;) {
    fusefs::DirentEncoder encoder(reply->data(), reply->size(), fusefs::DirentFormat::kPlain);
    ReplySink sink(encoder);
    if (!directory.read(cursor, position, {}, sink).ok() || sink.taken() == 0) return entries;
    position = sink.last();
    entries += sink.taken();
  }
}

uint64_t number(int argc, char** argv, int index, uint64_t otherwise) {
  if (index >= argc) return otherwise;
  uint64_t value = 0;
  const char* const end = argv[index] + std::strlen(argv[index]);
  const auto [rest, wrong] = std::from_chars(argv[index], end, value);
  return wrong == std::errc() && rest == end && value > 0 ? value : otherwise;
}

}  // namespace

int main(int argc, char** argv) try {
  const uint64_t entries = number(argc, argv, 1, 1'000'000);
  const uint64_t passes = number(argc, argv, 2, 1);
  std::vector<std::byte> reply(number(argc, argv, 3, 32768));
  constexpr uint64_t kBytesAnEntry = 128;  // more than twice what one takes
  cache::PageCache pages({.limit_bytes = (uint64_t{16} << 20) + entries * kBytesAnEntry,
                          .background = cache::PageCacheOptions::Background::kNone});
  bench::BenchSource source(entries, kBatch);
  cache::Directory directory(pages, source);
  directory.opened();
  bool complete = true;
  for (uint64_t i = 0; i <= passes; ++i) complete &= pass(directory, &reply) == entries;
  directory.closed();
  return complete ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_warm_read: %s\n", error.what());
  return 1;
}
