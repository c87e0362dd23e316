// Entries by name in listings too long to look through: the index of names, and fills that fetch a
// part of a listing again for its attributes.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <random>
#include <thread>

#include "cache/dir/name_index.h"
#include "tests/fusefs/hand_made_array.h"
#include "tests/support/dir_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

using cache::NameIndex;

std::vector<std::string> shuffled(std::vector<std::string> names) {
  std::mt19937_64 random(names.size());
  std::shuffle(names.begin(), names.end(), random);
  return names;
}

size_t found_by_name(DirRig& rig, const std::vector<std::string>& names) {
  size_t found = 0;
  for (const std::string& name : names) found += rig.dir->find_attr(name).has_value() ? 1 : 0;
  return found;
}

// An array of `count` names that begin with `prefix`.
void put_names(HandMadeArray& array, const std::string& prefix, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) array.add(prefix + std::to_string(i), i + 1, 0, i + 1);
}

TEST_CASE("an index of names leads to the arrays that were added, and hardly to others") {
  cache::PageCache pages(DirRig::roomy());
  constexpr uint32_t kArrays = 300;
  constexpr uint32_t kEach = 200;
  const uint64_t before = pages.bytes();
  auto index = NameIndex::create(pages, kArrays * kEach, kArrays);
  REQUIRE(index != nullptr);
  CHECK(pages.bytes() - before == static_cast<uint64_t>(pages.stats().name_index_bytes.get()));
  const auto name_of_entry = [](uint32_t array, uint32_t i) {
    return "dir" + std::to_string(array) + "-" + std::to_string(i);
  };
  for (int again = 0; again < 2; ++again) {  // as when an array was evicted and filled again
    for (uint32_t array = 0; array < kArrays; ++array) {
      HandMadeArray made;
      put_names(made, "dir" + std::to_string(array) + "-", kEach);
      REQUIRE(index->add(1000 + array, made.view()));
    }
  }
  CHECK(index->arrays() == kArrays);
  std::array<uint64_t, 8> keys{};
  size_t wrong = 0;
  size_t others = 0;
  for (uint32_t array = 0; array < kArrays; ++array) {
    for (uint32_t i = 0; i < kEach; ++i) {
      const size_t count = index->find(name_of_entry(array, i), keys);
      wrong +=
          std::count(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(count), 1000 + array) == 1
              ? 0
              : 1;
      others += count - 1;
      others += index->find("no" + name_of_entry(array, i), keys);
    }
  }
  CHECK(wrong == 0);
  CHECK(others < kArrays * kEach / 100);
  index.reset();
  CHECK(pages.bytes() == before);
  CHECK(pages.stats().name_index_bytes.get() == 0);
}

TEST_CASE("an index of names says when it is full, and takes no more than its share") {
  cache::PageCache pages(DirRig::roomy());
  auto index = NameIndex::create(pages, 1000, 5);
  REQUIRE(index != nullptr);
  uint64_t added = 0;
  for (uint64_t key = 1; key < 1000; ++key, ++added) {
    HandMadeArray made;
    put_names(made, std::to_string(key) + "-", 200);
    if (!index->add(key, made.view())) break;
  }
  CHECK(added >= 5);
  CHECK(added < 100);
  CHECK(NameIndex::create(pages, 100'000'000, 500'000) == nullptr);
}

TEST_CASE("stat after stat in any order, of a listing of any length, costs no request") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 10000));
    rig.source->fill(20000);
    rig.revalidate();
    rig.list(kNoLimit, plus());
    const uint64_t requests = rig.source->request_count();
    const std::vector<std::string> names = shuffled(rig.source->names());
    // The first few are missed: until then nothing shows that it is wanted.
    CHECK(found_by_name(rig, names) >= names.size() - 16);
    CHECK(found_by_name(rig, names) == names.size());
    check_attrs_by_name(rig);
    CHECK(rig.cache.stats().name_index_bytes.get() > 0);
    CHECK(rig.source->request_count() == requests);
    rig.dir->invalidate();
    CHECK(rig.cache.stats().name_index_bytes.get() == 0);
    CHECK(found_by_name(rig, names) == 0);
  }
}

TEST_CASE("names of arrays that come, go and come again are found by them") {
  DirRig rig(with_style(CookieStyle::kHashed, 1000));
  rig.source->fill(20000);
  rig.revalidate();
  Lister lister(*rig.dir);
  while (lister.got.names.size() < 8000) REQUIRE(lister.read(kNoLimit, plus()).ok());
  const std::vector<std::string> first = shuffled(lister.got.names);
  found_by_name(rig, first);
  CHECK(found_by_name(rig, first) == first.size());
  // Those that are listed later.
  REQUIRE(lister.read_all(kNoLimit, plus()).ok());
  const std::vector<std::string> all = shuffled(rig.source->names());
  found_by_name(rig, all);
  CHECK(found_by_name(rig, all) == all.size());
  // Evicted: the index that leads nowhere goes too.
  rig.cache.drop_clean();
  CHECK(found_by_name(rig, all) == 0);
  CHECK(rig.cache.stats().name_index_bytes.get() == 0);
  rig.list(kNoLimit, plus());
  found_by_name(rig, all);
  CHECK(found_by_name(rig, all) == all.size());
}

TEST_CASE("a part of a listing is fetched again for its attributes, and nothing else is touched") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 10000));
    rig.source->fill(20000);
    rig.revalidate();
    const std::vector<std::string> names = rig.list();
    const uint64_t arrays = rig.dir->info().arrays;
    REQUIRE(arrays > 50);
    for (const std::string& name : names) CHECK(rig.dir->find_ino(name).has_value());
    const uint64_t requests = rig.source->request_count();

    constexpr size_t kMiddle = 10000;
    constexpr uint32_t kMost = 10;
    std::optional<uint64_t> place;
    for (int i = 0; i < 20 && !place; ++i) place = rig.dir->place_of(names[kMiddle]);
    REQUIRE(place.has_value());
    ReadOptions options = plus();
    options.most_arrays = kMost;
    Lister lister(*rig.dir);
    lister.seek(*place);
    while (lister.got.names.size() + 1 < kMost * cache::kEntriesPerArray) {
      REQUIRE(lister.read(kNoLimit, options).ok());
    }
    CHECK(lister.got.attrs.size() == lister.got.names.size());
    CHECK(rig.source->wait_idle());
    CHECK(rig.source->request_count() <= requests + 2);
    CHECK(rig.dir->info().arrays == arrays);  // no hole is left
    CHECK(rig.dir->info().fills == 0);
    CHECK(found_by_name(rig, names) == kMost * cache::kEntriesPerArray);
    CHECK(rig.dir->find_attr(names[kMiddle]).has_value());
    // The rest is as it was.
    const uint64_t now = rig.source->request_count();
    check_exact(rig.list(), rig.source->names());
    CHECK(rig.source->request_count() == now);
  }
}

TEST_CASE("indexes of names give way: the oldest to others, all of them to pressure") {
  cache::PageCacheOptions memory = DirRig::roomy();
  memory.limit_bytes = uint64_t{32} << 20;
  DirRig rig(with_style(CookieStyle::kOrdered, 10000), memory);
  rig.source->fill(2100);
  const std::vector<std::string> names = shuffled(rig.source->names());
  std::vector<std::unique_ptr<Directory>> directories;
  const auto index_bytes = [&] {
    return static_cast<uint64_t>(rig.cache.stats().name_index_bytes.get());
  };
  uint64_t most = 0;
  uint64_t found_again = 0;
  for (int i = 0; i < 200; ++i) {
    directories.push_back(std::make_unique<Directory>(rig.cache, *rig.source));
    Lister lister(*directories.back());
    REQUIRE(lister.read_all(kNoLimit, plus()).ok());
    for (const std::string& name : names) static_cast<void>(lister.dir.find_attr(name));
    found_again += lister.dir.find_attr(names.back()).has_value() ? 1 : 0;
    most = std::max(most, index_bytes());
  }
  CHECK(found_again == directories.size());
  CHECK(most <= rig.cache.bound_bytes() / NameIndex::kShare);
  CHECK(most > rig.cache.bound_bytes() / NameIndex::kShare / 2);
  rig.cache.set_pressure_bound(uint64_t{4} << 20);
  CHECK(index_bytes() == 0);
  check_exact(rig.list(), rig.source->names());
}

TEST_CASE("a part that is fetched again ends though its reader left, and nobody has it open") {
  DirRig rig(with_style(CookieStyle::kOrdered, 300));
  rig.source->fill(20000);
  rig.revalidate();
  const std::vector<std::string> names = rig.list();
  rig.dir->closed();
  std::optional<uint64_t> place;
  for (int i = 0; i < 20 && !place; ++i) place = rig.dir->place_of(names[10000]);
  REQUIRE(place.has_value());
  ReadOptions options = plus();
  options.most_arrays = 10;
  Lister lister(*rig.dir);
  lister.seek(*place);
  REQUIRE(lister.read(100, options).ok());
  CHECK(eventually([&] { return rig.dir->info().fills == 0; }));
  CHECK(rig.cache.pinned_pages() == 0);
  CHECK(rig.dir->info().arrays == (20000 + cache::kEntriesPerArray - 1) / cache::kEntriesPerArray);
  rig.dir->opened();
}

TEST_CASE("a part that can't be fetched again does not cost the listing") {
  FakeSource::Options how = with_style(CookieStyle::kHashed, 1000);
  how.strict_verifier = true;
  DirRig rig(how);
  rig.source->fill(20000);
  rig.revalidate();
  const std::vector<std::string> names = rig.list();
  const uint64_t arrays = rig.dir->info().arrays;
  rig.source->append("one more");
  std::optional<uint64_t> place;
  for (int i = 0; i < 20 && !place; ++i) place = rig.dir->place_of(names[10000]);
  REQUIRE(place.has_value());
  const uint64_t requests = rig.source->request_count();
  ReadOptions options = plus();
  options.most_arrays = 10;
  Lister lister(*rig.dir);
  lister.seek(*place);
  static_cast<void>(lister.read(kNoLimit, options));
  CHECK(rig.source->wait_idle());
  CHECK(rig.source->request_count() <= requests + 10);
  CHECK(rig.dir->info().arrays + 2 >= arrays);
}

TEST_CASE("a part that another may not fetch again does not end a listing that waits for it") {
  for (const int error : {EACCES, EPERM}) {
    DirRig rig(with_style(CookieStyle::kOrdered, 10000));
    rig.source->fill(5000);
    rig.revalidate();
    const std::vector<std::string> names = rig.list();
    std::optional<uint64_t> place;
    for (int i = 0; i < 20 && !place; ++i) place = rig.dir->place_of(names[2500]);
    REQUIRE(place.has_value());
    REQUIRE(rig.source->wait_idle());
    const FakeSource::Number refused = rig.source->request_count() + 1;
    const cache::Counter& misses = rig.cache.stats().readdir_misses;
    const uint64_t both_wait = misses.get() + 2;
    std::atomic<bool> joined{false};
    HookGuard guard(*rig.source);
    rig.source->on_request([&](FakeSource::Number number) {
      if (number == refused) joined = eventually([&] { return misses.get() >= both_wait; });
    });
    rig.source->on_answer(
        [&](FakeSource::Number number, const DirRequest&, cache::DirAnswer& answer) {
          if (number != refused) return;
          answer = {};
          answer.error = error;
        });
    int got = 0;
    std::thread other([&] {
      ReadOptions options = plus();
      options.most_arrays = 4;
      Lister lister(*rig.dir);
      lister.seek(*place);
      got = lister.read(100, options).error_number();
    });
    CHECK(rig.source->wait_requests(refused));
    check_exact(rig.list(), names);
    other.join();
    CHECK(joined);
    CHECK(got == error);
  }
}

TEST_CASE("listings without attributes are fetched again with them by long requests") {
  DirRig rig(with_style(CookieStyle::kOrdered, 10000));
  rig.source->fill(20000);
  rig.revalidate();
  rig.list();
  const uint64_t requests = rig.source->request_count();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(kNoLimit, plus()).ok());
  CHECK(lister.got.attrs.size() == 20000);
  // Arrays that have to be replaced were taken for ones to join: a request for each.
  CHECK(rig.source->request_count() <= requests + 8);
}

TEST_CASE("lookups by name beside listers, evictions, invalidations and renewals") {
  cache::PageCacheOptions memory = DirRig::roomy();
  memory.limit_bytes = uint64_t{8} << 20;
  DirRig rig(with_style(CookieStyle::kHashed, 1000), memory);
  rig.source->fill(scaled(20'000), 20);
  rig.revalidate();
  const std::vector<std::string> names = shuffled(rig.source->names());
  std::atomic<int> done{0};
  std::atomic<uint64_t> found{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      const auto end = std::chrono::steady_clock::now() + kDeadline;
      for (size_t n = t; n < names.size() || (found == 0 && end > std::chrono::steady_clock::now());
           n += 2) {
        const size_t i = n % names.size();
        found += rig.dir->find_attr(names[i]).has_value() ? 1 : 0;
        if (i % 500 > 1) continue;
        if (const auto place = rig.dir->place_of(names[i])) {
          ReadOptions options = plus();
          options.most_arrays = 4;
          Lister lister(*rig.dir);
          lister.seek(*place);
          static_cast<void>(lister.read(400, options));
        }
      }
      ++done;
    });
  }
  std::vector<int> errors(2, -1);
  for (size_t t = 0; t < errors.size(); ++t) {
    threads.emplace_back([&, t] {
      do {
        Lister lister(*rig.dir);
        errors[t] = lister.read_all(500, t == 0 ? plus() : ReadOptions{}).error_number();
        if (errors[t] != 0) return;
        check_listing(lister.got.names, names);
      } while (done < 2);
    });
  }
  for (int i = 0; done < 2; ++i) {
    if (i % 50 == 0) rig.cache.drop_clean();
    if (i % 333 == 0) rig.dir->invalidate();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(errors == std::vector<int>{0, 0});
  CHECK(found > 0);
  rig.cache.check_invariants();
}

}  // namespace
}  // namespace test
