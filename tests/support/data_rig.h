// A page cache, its write-back, one remote file and the mapping of it; short calls for tests.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "cache/data/file_mapping.h"
#include "cache/data/write_back.h"
#include "cache/mm/page_cache.h"
#include "tests/support/eventually.h"
#include "tests/support/fake_file.h"

namespace test {

constexpr uint64_t kPage = 4096;

// Different at every place of the file, so that bytes that moved show.
inline std::string pattern(uint64_t offset, uint64_t size, uint64_t salt = 0) {
  std::string bytes(size, '\0');
  for (uint64_t i = 0; i < size; ++i) {
    const uint64_t at = offset + i;
    bytes[i] = static_cast<char>(1 + (at * 31 + at / 4096 * 17 + salt * 101) % 251);
  }
  return bytes;
}

struct DataRig {
  struct Setup {
    uint64_t cache_bytes = uint64_t{32} << 20;
    // Only what is flushed, or too much, is written: tests say when. No machine is too slow.
    cache::WriteBackOptions write_back{.dirty_percent = 40,
                                       .background_percent = 10,
                                       .expire = std::chrono::hours(1),
                                       .most_inflight = uint64_t{16} << 20,
                                       .line_wait = std::chrono::hours(1)};
    FakeFile::Options file{};
    std::string content{};
  };

  DataRig() : DataRig(Setup{}) {}
  explicit DataRig(const Setup& setup)
      : cache({.limit_bytes = setup.cache_bytes, .min_bytes = uint64_t{1} << 20}),
        write_back(std::make_unique<cache::WriteBack>(cache, setup.write_back)),
        file(FakeFile::make(setup.file)) {
    file->set_content(setup.content);
    source = file->open();
    mapping = std::make_unique<cache::FileMapping>(cache, *write_back, setup.content.size());
  }

  static cache::DataWait patience() { return {std::chrono::steady_clock::now() + kDeadline}; }
  static cache::DataWait impatience() { return {std::chrono::steady_clock::now()}; }

  cache::Result<std::string> read(uint64_t offset, uint64_t size, cache::ReadStream& at) {
    std::string out(size, '?');
    const cache::Result<size_t> got = mapping->read(
        at, source, offset, std::as_writable_bytes(std::span(out.data(), out.size())), patience());
    if (!got.ok()) return got.status();
    out.resize(got.value());
    return out;
  }
  cache::Result<std::string> read(uint64_t offset, uint64_t size) {
    cache::ReadStream fresh;
    return read(offset, size, fresh);
  }
  std::string get(uint64_t offset, uint64_t size) {
    cache::Result<std::string> got = read(offset, size);
    return got.ok() ? got.value() : "error " + std::to_string(got.error_number());
  }
  static std::span<const std::byte> bytes_of(std::string_view bytes) {
    return std::as_bytes(std::span(bytes.data(), bytes.size()));
  }
  cache::Status write(uint64_t offset, std::string_view bytes) {
    return mapping->write(source, offset, bytes_of(bytes), patience());
  }
  cache::Status flush(cache::FileMapping::Durable durable = cache::FileMapping::Durable::kNo) {
    return mapping->flush(durable, patience());
  }
  cache::Status truncate(uint64_t size) {
    auto begun = mapping->begin_truncate(size, patience());
    if (!begun.ok()) return begun.status();
    file->truncate(size);
    begun.value()->end_truncate(cache::FileMapping::Truncation::Remote::kTruncated);
    return {};
  }
  cache::Stats& stats() { return cache.stats(); }
  // Ends the mapping; whether every gauge is back at zero.
  bool nothing_left() {
    mapping.reset();
    return eventually([this] {
      cache::Stats& s = cache.stats();
      return s.pages_resident.get() == 0 && s.pages_private.get() == 0 && s.data_pages.get() == 0 &&
             s.dirty_bytes.get() == 0 && s.writeback_bytes.get() == 0 &&
             s.unstable_bytes.get() == 0 && s.data_ahead_bytes.get() == 0;
    });
  }

  cache::PageCache cache;
  std::unique_ptr<cache::WriteBack> write_back;
  std::shared_ptr<FakeFile> file;
  std::shared_ptr<cache::FileSource> source;
  std::unique_ptr<cache::FileMapping> mapping;
};

}  // namespace test
