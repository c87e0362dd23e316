// One file that several write at once, through one mount.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
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

namespace {

constexpr size_t kKept = 10'000;  // never truncated; ends within a page
constexpr size_t kGrown = 45'000;

// What is below is always there, in every way to read it.
class KeptBytes {
 public:
  explicit KeptBytes(const std::string& path)
      : file_(path, O_RDONLY),
        memory_(mmap(nullptr, kKept, PROT_READ, MAP_SHARED, file_.get(), 0)) {
    REQUIRE(memory_ != MAP_FAILED);
  }
  ~KeptBytes() { munmap(memory_, kKept); }
  KeptBytes(const KeptBytes&) = delete;
  KeptBytes& operator=(const KeptBytes&) = delete;

  [[nodiscard]] bool mapped() const { return std::memcmp(memory_, text().data(), kKept) == 0; }
  [[nodiscard]] bool read() const { return file_.read(kGrown).compare(0, kKept, text()) == 0; }
  // The next reading and the next fault come to the daemon.
  void forget() const {
    madvise(memory_, kKept, MADV_DONTNEED);
    posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  static const std::string& text() {
    static const std::string kText = noise(12, kKept);
    return kText;
  }

 private:
  const Fd file_;
  void* const memory_;
};

// One cuts the file down and lets it grow all the time, the others look at what is left.
void check_kept_bytes(const Mounted& mount, const std::function<bool()>& cut_and_grow) {
  std::atomic<bool> ended{false};
  std::atomic<int> wrong_read{0};
  std::atomic<int> wrong_mapped{0};
  std::atomic<int> wrong_grown{0};
  at_once([&](size_t worker) {
    if (worker == 0) {
      for (uint64_t i = 0; i < test::scaled(150); ++i) wrong_grown += cut_and_grow() ? 0 : 1;
      ended = true;
      return;
    }
    const KeptBytes kept(mount / "file");
    while (!ended) {
      if (worker != 1) kept.forget();
      wrong_read += kept.read() ? 0 : 1;
      wrong_mapped += kept.mapped() ? 0 : 1;
    }
  });
  CHECK(wrong_grown == 0);
  CHECK(wrong_read == 0);
  CHECK(wrong_mapped == 0);
}

std::string grown(const std::string& more) {
  std::string text = KeptBytes::text() + more;
  text.resize(kGrown, '\0');
  return text;
}

}  // namespace

// Trap 27, on mounts.
TEST_CASE("write: what a truncation leaves is there for readers and mappings all the time") {
  const std::string beyond = noise(13, kGrown - kKept);
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "cache_size=4M");
    REQUIRE(test::write_file(mount / "file", grown(beyond)) == 0);
    Fd file(mount / "file", O_RDWR);
    check_kept_bytes(mount, [&] {
      if (ftruncate(file.get(), kKept) != 0 || ftruncate(file.get(), kGrown) != 0) return false;
      const bool right = file.read() == grown("");
      return file.write(beyond, kKept) == 0 && file.read() == grown(beyond) && right;
    });
    CHECK(file.shut() == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: what a truncation elsewhere leaves is there for readers and mappings") {
  const std::string beyond = noise(13, kGrown - kKept);
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    REQUIRE(test::write_file(remote / "file", grown(beyond)) == 0);
    Mounted mount(remote, "cache_size=4M,ttl=0");
    const Fd there(remote / "file", O_RDWR);
    check_kept_bytes(mount, [&] {
      if (ftruncate(there.get(), kKept) != 0) return false;
      const bool cut = read_file(mount / "file") == KeptBytes::text();
      if (ftruncate(there.get(), kGrown) != 0) return false;
      const bool right = read_file(mount / "file") == grown("");
      // (Over SFTP times are seconds, and a change that leaves the size need not show.)
      return there.write(beyond, kKept) == 0 && cut && right;
    });
    CHECK(mount.end() == "");
  }
}
