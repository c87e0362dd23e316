// One file that several write at once, through one mount.

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <sstream>
#include <thread>

#include "tests/mount/write_rig.h"
#include "tests/support/random.h"

using test::Fd;
using test::Mounted;
using test::noise;
using test::read_file;
using test::Remote;

namespace {

constexpr size_t kWriters = 4;

void at_once(const std::function<void(size_t)>& body) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kWriters; ++i) threads.emplace_back([&, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("write: records of one file, written and read by several at once") {
  // Pages have parts of several records, and so of several writers.
  constexpr size_t kRecord = 1'500;
  constexpr size_t kRecords = 1'200;
  for (const std::string& kind : test::remote_kinds()) {
    const uint64_t seed = test::seed();
    INFO(kind << ", seed " << seed);
    const Remote remote(kind);
    Mounted mount(remote, "cache_size=1M");
    REQUIRE(test::write_file(mount / "file", std::string(kRecord * kRecords, '\0')) == 0);
    std::vector<uint64_t> versions(kRecords, 0);  // each of one writer's
    std::atomic<int> wrong{0};
    at_once([&](size_t writer) {
      test::Random random(seed + writer);
      const Fd file(mount / "file", O_RDWR);
      for (uint64_t i = 1; i <= test::scaled(400); ++i) {
        const size_t record = random.below(kRecords / kWriters) * kWriters + writer;
        const std::string expected =
            versions[record] == 0 ? std::string(kRecord, '\0') : noise(versions[record], kRecord);
        if (file.read(kRecord, record * kRecord) != expected) ++wrong;
        versions[record] = seed % 1'000'000 + i * kWriters + writer;
        if (file.write(noise(versions[record], kRecord), record * kRecord) != 0) ++wrong;
        if (random.one_in(100) && file.sync() != 0) ++wrong;
      }
    });
    CHECK(wrong == 0);
    std::string text;
    for (const uint64_t version : versions) {
      text += version == 0 ? std::string(kRecord, '\0') : noise(version, kRecord);
    }
    const bool same = read_file(mount / "file") == text;
    CHECK(same);
    CHECK(mount.end() == "");
    if (remote.directory().empty()) continue;
    const bool there = read_file(remote / "file") == text;
    CHECK(there);
  }
}

TEST_CASE("write: lines that several append are whole, each once") {
  for (const std::string& kind : test::remote_kinds()) {
    for (const std::string options : {"cache_size=4M", "cache_size=4M,writeback_cache"}) {
      INFO(kind << ", -o " << options);
      const Remote remote(kind);
      Mounted mount(remote, options);
      const uint64_t lines = test::scaled(300);
      std::atomic<int> wrong{0};
      at_once([&](size_t writer) {
        const Fd file(mount / "log", O_WRONLY | O_CREAT | O_APPEND);
        for (uint64_t i = 0; i < lines; ++i) {
          const std::string line = std::to_string(writer) + " " + std::to_string(i) + " " +
                                   std::string(i % 90, 'x') + "\n";
          if (write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
            ++wrong;
          }
        }
      });
      CHECK(wrong == 0);
      std::array<uint64_t, kWriters> next{};
      std::istringstream text(read_file(mount / "log"));
      for (std::string line; std::getline(text, line);) {
        std::istringstream words(line);
        size_t writer = kWriters;
        uint64_t i = 0;
        std::string rest;
        words >> writer >> i >> rest;
        REQUIRE(writer < kWriters);
        CHECK(next.at(writer) == i);
        CHECK(rest.size() == i % 90);
        ++next.at(writer);
      }
      for (const uint64_t count : next) CHECK(count == lines);
      CHECK(mount.end() == "");
    }
  }
}

TEST_CASE("write: a file that is truncated and written at once is one or the other") {
  constexpr size_t kSize = 40'000;
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "cache_size=4M");
    const std::string text = noise(11, kSize);
    REQUIRE(test::write_file(mount / "file", text) == 0);
    std::atomic<int> wrong{0};
    at_once([&](size_t worker) {
      const Fd file(mount / "file", O_RDWR);
      for (uint64_t i = 0; i < test::scaled(100); ++i) {
        const size_t at = i * 977 % kSize;
        switch (worker) {
          case 0:
            wrong += ftruncate(file.get(), static_cast<off_t>(at)) == 0 ? 0 : 1;
            break;
          case 1:
            wrong += file.write(text.substr(at), at) == 0 ? 0 : 1;
            break;
          case 2:
            wrong += file.sync() == 0 ? 0 : 1;
            break;
          default: {
            // Each byte is the one that belongs there, or of a hole.
            const std::string seen = file.read(kSize);
            for (size_t k = 0; k < seen.size(); ++k) {
              if (seen[k] != text[k] && seen[k] != '\0') {
                ++wrong;
                break;
              }
            }
          }
        }
      }
    });
    CHECK(wrong == 0);
    const std::string last = read_file(mount / "file");
    CHECK(mount.end() == "");
    if (remote.directory().empty()) continue;
    const bool same = read_file(remote / "file") == last;
    CHECK(same);
  }
}
