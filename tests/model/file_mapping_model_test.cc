// FileMapping against a plain string: random reads, writes, truncations, flushes, direct I/O,
// changes made elsewhere, reclaim in a small cache, and a remote that fails, reorders and crashes.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/support/data_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

using cache::FileMapping;
using cache::ReadStream;
using Durable = FileMapping::Durable;

constexpr uint64_t kMostSize = 700000;

struct Mode {
  bool stable = true;
  bool faults = false;
  bool threaded = false;  // answers come from another thread, in random order
};

DataRig::Setup setup_of(const Mode& mode, Random& random) {
  DataRig::Setup setup;
  setup.cache_bytes = random.one_in(2) ? uint64_t{1200} << 10 : uint64_t{8} << 20;
  setup.file.max_read = static_cast<uint32_t>(4096 << random.below(6));
  setup.file.max_write = static_cast<uint32_t>(4096 << random.below(6));
  setup.file.stable = mode.stable;
  setup.file.answers = mode.threaded ? FakeFile::Answers::kThread : FakeFile::Answers::kAtOnce;
  setup.file.seed = random.below(1000);
  setup.write_back.expire = std::chrono::milliseconds(random.one_in(2) ? 1 : 100000);
  setup.content = pattern(0, random.below(kMostSize));
  return setup;
}

class Model {
 public:
  Model(const Mode& mode, uint64_t seed)
      : mode_(mode), random_(seed), setup_(setup_of(mode, random_)), rig_(setup_) {
    expected_ = setup_.content;
    faults_ = std::make_shared<Random>(seed + 1);
    if (mode.faults) set_faults();
  }

  void run(uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) step();
    flush(Durable::kYes);
    CHECK(rig_.nothing_left());
  }

 private:
  void set_faults() {
    rig_.file->set_fault([this](const FakeFile::Call& call) {
      const std::lock_guard lock(fault_mutex_);
      if (!faults_->one_in(12)) return 0;
      if (call.kind == FakeFile::Kind::kRead) return faults_->one_in(2) ? EIO : EAGAIN;
      return faults_->one_in(2) ? ETIMEDOUT : ECONNRESET;
    });
  }
  uint64_t place() { return random_.below(expected_.size() + 20000); }
  uint64_t length() { return 1 + random_.below(random_.one_in(4) ? 200000 : 9000); }

  void step() {
    switch (random_.below(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return read(place(), length());
      case 4:
      case 5:
      case 6:
      case 7:
        return write(place(), length());
      case 8:
        return flush(random_.one_in(2) ? Durable::kYes : Durable::kNo);
      case 9:
        return truncate(random_.below(kMostSize));
      case 10:
        return change_elsewhere();
      case 11:
        return read_direct(place(), 1 + random_.below(9000));
      case 12:
        return write_direct(place(), 1 + random_.below(9000));
      default:
        return disturb();
    }
  }

  void read(uint64_t offset, uint64_t size) {
    if (random_.one_in(2)) offset = sequential_;
    for (int tries = 0; tries < 200; ++tries) {
      const cache::Result<std::string> got = rig_.read(offset, size, stream_);
      if (!got.ok()) {
        REQUIRE(mode_.faults);
        continue;
      }
      const std::string wanted =
          offset < expected_.size() ? expected_.substr(offset, size) : std::string();
      REQUIRE(got.value().size() == wanted.size());
      REQUIRE((got.value() == wanted));
      sequential_ = wanted.empty() ? 0 : offset + wanted.size();
      return;
    }
    FAIL("it never succeeds");
  }
  void put(uint64_t offset, const std::string& bytes) {
    if (expected_.size() < offset + bytes.size()) expected_.resize(offset + bytes.size(), '\0');
    expected_.replace(offset, bytes.size(), bytes);
  }
  void write(uint64_t offset, uint64_t size) {
    if (offset + size > kMostSize) return;
    const std::string bytes = pattern(offset, size, ++salt_);
    put(offset, bytes);
    // What fails may be done in part: it is done again.
    for (int tries = 0; tries < 200; ++tries) {
      if (rig_.write(offset, bytes).ok()) return;
      REQUIRE(mode_.faults);
    }
    FAIL("it never succeeds");
  }
  void flush(Durable durable) {
    cache::ErrorMark mark = rig_.mapping->error_mark();
    REQUIRE(rig_.flush(durable).ok());
    REQUIRE(rig_.mapping->check_error(mark).ok());
    REQUIRE_FALSE(rig_.mapping->has_unwritten());
    REQUIRE((rig_.file->content() == expected_.substr(0, rig_.file->size())));
    REQUIRE(rig_.file->size() == expected_.size());
    REQUIRE((rig_.file->durable() == expected_));
  }
  void truncate(uint64_t size) {
    REQUIRE(rig_.truncate(size).error_number() == 0);
    expected_.resize(size, '\0');
    REQUIRE(rig_.mapping->size() == size);
  }
  void change_elsewhere() {
    flush(Durable::kYes);
    const std::string bytes = pattern(0, 1 + random_.below(5000), ++salt_);
    if (random_.one_in(3)) {
      rig_.file->truncate(random_.below(kMostSize));
    } else {
      rig_.file->write_elsewhere(random_.below(kMostSize - 5000), bytes);
    }
    expected_ = rig_.file->content();
    REQUIRE(rig_.mapping->invalidate(expected_.size()).ok());
    REQUIRE(rig_.mapping->size() == expected_.size());
  }
  void read_direct(uint64_t offset, uint64_t size) {
    std::string out(size, '?');
    for (int tries = 0; tries < 200; ++tries) {
      const auto got = rig_.mapping->read_direct(
          rig_.source, offset, std::as_writable_bytes(std::span(out.data(), size)),
          DataRig::patience());
      if (!got.ok()) {
        REQUIRE(mode_.faults);
        continue;
      }
      const std::string wanted =
          offset < expected_.size() ? expected_.substr(offset, size) : std::string();
      REQUIRE(got.value() == wanted.size());
      REQUIRE((out.substr(0, got.value()) == wanted));
      return;
    }
    FAIL("it never succeeds");
  }
  void write_direct(uint64_t offset, uint64_t size) {
    if (offset + size > kMostSize) return;
    const std::string bytes = pattern(offset, size, ++salt_);
    put(offset, bytes);
    for (int tries = 0; tries < 200; ++tries) {
      if (rig_.mapping
              ->write_direct(rig_.source, offset, DataRig::bytes_of(bytes), DataRig::patience())
              .ok()) {
        return;
      }
      REQUIRE(mode_.faults);
    }
    FAIL("it never succeeds");
  }
  void disturb() {
    switch (random_.below(4)) {
      case 0:
        rig_.cache.drop_clean();
        break;
      case 1:
        rig_.cache.set_pressure_bound((random_.below(8) + 1) << 20);
        break;
      case 2:
        rig_.source = rig_.file->open();
        stream_ = {};
        break;
      default:
        if (!mode_.stable) rig_.file->crash();
    }
  }

  const Mode mode_;
  Random random_;
  const DataRig::Setup setup_;
  std::mutex fault_mutex_;
  std::shared_ptr<Random> faults_;
  DataRig rig_;
  ReadStream stream_;
  std::string expected_;
  uint64_t sequential_ = 0;
  uint64_t salt_ = 0;
};

TEST_CASE("a file against a plain string of bytes") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  for (uint64_t run = 0; run < scaled(40) + 8; ++run) {
    const Mode mode{.stable = (run & 1) == 0, .faults = (run & 2) != 0, .threaded = (run & 4) != 0};
    INFO("run " << run);
    Model(mode, seed + run).run(150);
  }
}

// Each thread owns every n-th stretch of the file, of a length that is no whole page: neighbours
// share pages, and nobody's bytes may be lost or mixed.
class Owner {
 public:
  Owner(DataRig& rig, uint64_t index, uint64_t owners, uint64_t seed)
      : rig_(rig), index_(index), owners_(owners), random_(seed) {}
  static constexpr uint64_t kStretch = 3000;
  static constexpr uint64_t kStretches = 120;

  void run(uint64_t steps) {
    std::vector<std::string> mine(kStretches / owners_);
    for (uint64_t i = 0; i < mine.size(); ++i) mine[i] = pattern(at(i), kStretch);
    for (uint64_t step = 0; step < steps && bad == 0; ++step) {
      const uint64_t i = random_.below(mine.size());
      const uint64_t kind = random_.below(12);
      if (kind < 5) {
        mine[i] = pattern(at(i), kStretch, ++salt_);
        if (!rig_.write(at(i), mine[i]).ok()) ++bad;
      } else if (kind < 10) {
        const auto got = rig_.read(at(i), kStretch, stream_);
        if (!got.ok() || got.value() != mine[i]) ++bad;
      } else if (kind == 10) {
        if (!rig_.flush(random_.one_in(4) ? Durable::kYes : Durable::kNo).ok()) ++bad;
      } else {
        disturb();
      }
    }
    for (uint64_t i = 0; i < mine.size(); ++i) {
      if (rig_.get(at(i), kStretch) != mine[i]) ++bad;
    }
  }
  uint64_t bad = 0;

 private:
  [[nodiscard]] uint64_t at(uint64_t i) const { return (i * owners_ + index_) * kStretch; }
  void disturb() {
    if (random_.one_in(2)) {
      rig_.cache.drop_clean();
    } else {
      const cache::Status status = rig_.mapping->invalidate(kStretch * kStretches);
      if (!status.ok() && status.error_number() != EBUSY) ++bad;
    }
  }

  DataRig& rig_;
  const uint64_t index_, owners_;
  Random random_;
  ReadStream stream_;
  uint64_t salt_ = 0;
};

TEST_CASE("many threads write neighbouring bytes of one file") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  for (uint64_t run = 0; run < 4; ++run) {
    INFO("run " << run);
    DataRig::Setup setup;
    setup.cache_bytes = (run & 1) != 0 ? uint64_t{1100} << 10 : uint64_t{16} << 20;
    setup.content = pattern(0, Owner::kStretch * Owner::kStretches);
    setup.file.answers = FakeFile::Answers::kThread;
    setup.file.stable = (run & 2) == 0;
    setup.file.max_read = 32 << 10;
    setup.file.max_write = 64 << 10;
    setup.file.seed = seed + run;
    setup.write_back.expire = std::chrono::milliseconds(2);
    DataRig rig(setup);
    constexpr uint64_t kOwners = 4;
    std::vector<std::unique_ptr<Owner>> owners;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < kOwners; ++i) {
      owners.push_back(std::make_unique<Owner>(rig, i, kOwners, seed + run * 10 + i));
      threads.emplace_back([owner = owners.back().get()] { owner->run(scaled(1500)); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& owner : owners) CHECK(owner->bad == 0);
    CHECK(rig.flush().ok());
    CHECK(rig.file->overlapping_writes() == 0);
    CHECK((rig.get(0, setup.content.size()) == rig.file->content()));
    CHECK(rig.nothing_left());
  }
}

}  // namespace
}  // namespace test
