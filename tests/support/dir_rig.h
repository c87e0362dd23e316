// DirRig: a page cache, a fake remote and a Directory on it; and listers that read it.
//
// Purpose:        tests of cache/dir read as what they promise.
// Ownership:      the rig takes everything down in the daemon's order.
// Thread-safety:  one Lister by one thread at a time.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/dir/cookie_map.h"
#include "cache/dir/directory.h"
#include "cache/mm/page_cache.h"
#include "tests/support/eventually.h"
#include "tests/support/fake_source.h"

namespace test {

using cache::Directory;
using cache::DirRequest;
using cache::ReadOptions;
using cache::Status;
using cache::TimePoint;

// Takes at most `limit` entries in all, as a reply of that size would.
class CollectSink final : public cache::EntrySink {
 public:
  explicit CollectSink(uint64_t limit) : room_(limit) {}
  void allow(uint64_t limit) { room_ = limit; }  // from now on
  uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
    uint32_t i = from;
    for (; i < to && room_ > 0; ++i, --room_) {
      names.emplace_back(view.name(i));
      cookies.push_back(view.cookie(i));
      inos.push_back(view.ino(i));
      types.push_back(view.type(i));
      if (view.has_attrs()) attrs.push_back(view.attr(i));
    }
    return i - from;
  }
  std::vector<std::string> names;
  std::vector<uint64_t> cookies;
  std::vector<uint64_t> inos;
  std::vector<uint8_t> types;
  std::vector<cache::Attr> attrs;  // of those that had them

 private:
  uint64_t room_;
};

constexpr uint64_t kNoLimit = uint64_t{1} << 40;

// One open handle.
struct Lister {
  explicit Lister(Directory& of) : dir(of) {}

  // One getdents; what it gave is added to `got`. `last` is how many that were.
  Status read(uint64_t limit, ReadOptions options = {}) {
    if (options.deadline == TimePoint::max()) {
      options.deadline = std::chrono::steady_clock::now() + kDeadline;
    }
    const size_t before = got.names.size();
    got.allow(limit);
    const Status status = dir.read(cursor, position, options, got);
    last = got.names.size() - before;
    if (last > 0) position = got.cookies.back();
    return status;
  }
  // Until `count` entries have come, and no further. The first error ends it.
  Status read_up_to(size_t count) {
    while (got.names.size() < count) {
      if (Status status = read(count - got.names.size()); !status.ok()) return status;
    }
    return {};
  }
  // To the end. The first error ends it.
  Status read_all(uint64_t limit, const ReadOptions& options = {}) {
    for (;;) {
      const Status status = read(limit, options);
      if (!status.ok() || last == 0) return status;
    }
  }
  void rewind() {
    position = 0;
    got = CollectSink(0);
  }
  void seek(uint64_t to) {
    position = to;
    got = CollectSink(0);
  }

  Directory& dir;
  cache::DirCursor cursor;
  uint64_t position = 0;
  size_t last = 0;
  CollectSink got{0};
};

struct DirRig {
  // No more than that: each rig's is reserved, and under ASan poisoned, as a whole.
  static cache::PageCacheOptions roomy() {
    return {.limit_bytes = uint64_t{64} << 20,
            .min_bytes = uint64_t{1} << 20,
            .background = cache::PageCacheOptions::Background::kNone};
  }
  explicit DirRig(const FakeSource::Options& options,
                  const cache::PageCacheOptions& memory = roomy())
      : cache(memory), source(std::make_unique<FakeSource>(options)) {
    open();
  }
  ~DirRig() {
    source->end_hooks();  // they may refer to the directory
    close();
    source.reset();
    const cache::Stats& stats = cache.stats();
    CHECK(stats.pages_resident.get() == 0);
    CHECK(stats.pages_private.get() == 0);
    CHECK(stats.names_bytes.get() == 0);
    CHECK(stats.attrs_bytes.get() == 0);
    CHECK(stats.anchors.get() == 0);
    CHECK(stats.entries_resident.get() == 0);
    CHECK(stats.name_index_bytes.get() == 0);
  }
  DirRig(const DirRig&) = delete;
  DirRig& operator=(const DirRig&) = delete;

  void open() {
    dir = std::make_unique<Directory>(cache, *source);
    dir->revalidate(source->change());
    dir->opened();
  }
  void close() {
    if (dir != nullptr) dir->closed();
    dir.reset();
  }
  // As an opendir does once the time-to-live has passed.
  void revalidate() { dir->revalidate(source->change()); }
  // A whole listing by a handle of its own.
  std::vector<std::string> list(uint64_t limit = kNoLimit, const ReadOptions& options = {}) {
    Lister lister(*dir);
    const Status status = lister.read_all(limit, options);
    INFO("errno " << status.error_number());
    CHECK(status.ok());
    return lister.got.names;
  }

  cache::PageCache cache;
  std::unique_ptr<FakeSource> source;
  std::unique_ptr<Directory> dir;
};

// With attributes, none of them older.
inline ReadOptions plus(TimePoint not_before = TimePoint::min()) {
  ReadOptions options;
  options.want_attrs = true;
  options.attrs_not_before = not_before;
  return options;
}

// Every entry is found by its name with its own attributes, and no other.
inline void check_attrs_by_name(DirRig& rig) {
  bool right = true;
  for (const FakeEntry& entry : rig.source->entries()) {
    const auto attr = rig.dir->find_attr(entry.name);
    right &= attr.has_value() && *attr == FakeSource::attr_of(entry.ino);
  }
  CHECK(right);
  CHECK_FALSE(rig.dir->find_attr("no such name").has_value());
}

inline FakeSource::Options with_style(CookieStyle style, uint32_t batch = 1000) {
  FakeSource::Options options;
  options.style = style;
  options.batch = batch;
  return options;
}

// Each of `expected` exactly once, nothing else, in that order.
inline void check_exact(const std::vector<std::string>& got,
                        const std::vector<std::string>& expected) {
  CHECK(got.size() == expected.size());
  const auto at = std::mismatch(got.begin(), got.end(), expected.begin(), expected.end());
  if (at.first != got.end()) {
    const auto index = at.first - got.begin();
    FAIL_CHECK("first difference at " << index << ": got " << *at.first);
  }
}

// Each of `stable` exactly once, every other name at most once.
inline void check_listing(const std::vector<std::string>& got,
                          const std::vector<std::string>& stable) {
  std::unordered_map<std::string_view, int> seen;
  for (const std::string& name : got) ++seen[name];
  size_t repeated = 0;
  size_t missing = 0;
  for (const auto& [name, times] : seen) repeated += times > 1 ? 1 : 0;
  for (const std::string& name : stable) missing += seen.count(name) == 0 ? 1 : 0;
  CHECK(repeated == 0);
  CHECK(missing == 0);
}

}  // namespace test
