// Lists a directory of its own making through the cache, without FUSE: twice, and the second time
// the remote is not asked.
//
//   g++ -std=c++20 cache_example.cc $(pkg-config --cflags --libs cookiefs-cache)

#include <dirent.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>

#include "cache/dir/directory.h"
#include "cache/mm/page_cache.h"

namespace {

constexpr uint64_t kFiles = 100'000;

// The remote: its files are numbered, and so are their cookies.
class NumberedFiles final : public cache::DirSource {
 public:
  RequestId read_dir(cache::DirRequest request, Completion done) override {
    std::thread([request, done = std::move(done)] {  // never from inside read_dir()
      cache::DirAnswer answer;
      const uint64_t first = request.after.cookie + 1;
      const uint64_t end = std::min(kFiles + 1, first + request.max_entries);
      for (uint64_t i = first; i < end; ++i) answer.add("file" + std::to_string(i), i, DT_REG, i);
      answer.eof = end > kFiles;
      done(std::move(answer));
    })
        .detach();
    return ++requests;
  }
  void cancel(RequestId) override {}  // an answer nobody waits for is on its way already
  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kNative;
  }
  [[nodiscard]] uint32_t max_batch() const override { return 10'000; }

  std::atomic<uint64_t> requests{0};
};

class Listing final : public cache::EntrySink {
 public:
  uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
    names += to - from;
    position = view.cookie(to - 1);
    return to - from;
  }
  uint64_t names = 0, position = 0;
};

}  // namespace

int main() {
  cache::PageCache cache({.limit_bytes = uint64_t{64} << 20});
  NumberedFiles remote;
  cache::Directory directory(cache, remote);
  for (int time = 1; time <= 2; ++time) {
    cache::DirCursor cursor;
    Listing listing;
    uint64_t before = 0;
    do {  // until a read gives nothing more
      before = listing.names;
      if (!directory.read(cursor, listing.position, {}, listing).ok()) return 1;
    } while (listing.names > before);
    std::printf("%d: %llu names, %llu requests so far\n", time,
                static_cast<unsigned long long>(listing.names),
                static_cast<unsigned long long>(remote.requests));
  }
  return 0;
}
