#include "cache/dir/array_builder.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "tests/support/array_rig.h"
#include "tests/support/random.h"

using cache::ArrayBuilder;
using cache::ArrayView;
using cache::Attr;
using cache::kEntriesPerArray;
using cache::kMaxNameBytes;
using cache::PageRef;
using cache::SpanPool;
using test::ArrayRig;
using test::entries_of;
using test::ModelEntry;

TEST_CASE("a sealed array gives back its header, entries and token") {
  ArrayRig rig;
  {
    PageRef page = rig.new_page();
    ArrayBuilder builder;
    builder.reset(page->content(), {.change = 77, .filled = -5, .position = 4040});
    builder.append(10, 100, 4, "dir", nullptr);
    builder.append(20, 200, 8, std::string_view("a\xff\xc3\x28 b", 6), nullptr);
    CHECK(builder.count() == 2);
    CHECK(builder.last_cookie() == 20);
    CHECK(builder.position() == 4040);
    const std::string token(cache::kMaxNameBytes + 60, 't');
    CHECK(builder.seal(rig.pages, 20, cache::kArrayFull, token));
    const ArrayView view = ArrayView::of(page->content());
    CHECK(entries_of(view) ==
          std::vector<ModelEntry>{{10, 100, 4, "dir"}, {20, 200, 8, "a\xff\xc3\x28 b"}});
    CHECK(view.header().change == 77);
    CHECK(view.header().filled == -5);
    CHECK(view.header().position == 4040);
    CHECK(view.header().last_cookie == 20);
    CHECK(view.header().flags == (cache::kArrayFull | cache::kArrayAscending));
    CHECK(view.token() == token);
    CHECK_FALSE(view.has_attrs());
    // The names lie outside the page.
    const char* name = view.name(0).data();
    const char* begin = reinterpret_cast<const char*>(page->content());
    CHECK((name < begin || name >= begin + cache::kPageBytes));
  }
  CHECK(rig.all_zero());
}

TEST_CASE("the longest names of a full array fit, in one allocation of their size") {
  ArrayRig rig;
  {
    PageRef page = rig.new_page();
    const uint64_t before = rig.pages.bytes();
    ArrayBuilder builder;
    builder.reset(page->content(), {});
    while (!builder.full()) {
      const std::string name(kMaxNameBytes, static_cast<char>('a' + builder.count() % 26));
      builder.append(builder.count() + 1, 1, 8, name, nullptr);
    }
    CHECK(builder.count() == kEntriesPerArray);
    CHECK(builder.seal(rig.pages, kEntriesPerArray, cache::kArrayFull, {}));
    const ArrayView view = ArrayView::of(page->content());
    const char* at = view.name(0).data();
    for (uint32_t i = 0; i < view.count(); ++i) {
      REQUIRE(view.name(i).data() == at);  // back to back
      REQUIRE(view.name(i) == std::string(kMaxNameBytes, static_cast<char>('a' + i % 26)));
      at += kMaxNameBytes;
    }
    CHECK(rig.pages.stats().names_bytes.get() == kEntriesPerArray * kMaxNameBytes);
    CHECK(rig.pages.bytes() <= before + SpanPool::kSpanBytes + 1024);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("names, attributes and entries are counted and all given back") {
  ArrayRig rig(uint64_t{8} << 20);  // 40 sizes: a span each
  {
    std::vector<PageRef> arrays;
    int64_t names = 0, entries = 0, attrs = 0;
    for (uint32_t n = 0; n < 40; ++n) {
      PageRef page = rig.new_page();
      ArrayBuilder builder;
      builder.reset(page->content(), {.with_attrs = n % 2 == 0});
      const Attr attr;
      for (uint32_t i = 0; i < n * 5; ++i) {
        const std::string name(1 + i, 'x');
        builder.append(i + 1, i, 8, name, &attr);
        names += static_cast<int64_t>(name.size());
      }
      entries += n * 5;
      if (n % 2 == 0) attrs += static_cast<int64_t>(n * 5 * sizeof(cache::PackedAttr));
      const std::string token(n, 't');
      REQUIRE(builder.seal(rig.pages, 0, 0, token));
      names += n;
      arrays.push_back(std::move(page));
      CHECK(rig.pages.stats().names_bytes.get() == names);
      CHECK(rig.pages.stats().entries_resident.get() == entries);
      CHECK(rig.pages.stats().attrs_bytes.get() == attrs);
    }
  }
  CHECK(rig.all_zero());
  CHECK(rig.pages.stats().free_page_calls.get() == 40);
}

TEST_CASE("an array that was never sealed, or not even begun, is freed like any other") {
  ArrayRig rig;
  {
    PageRef never = rig.new_page();
    PageRef begun = rig.new_page();
    ArrayBuilder builder;
    builder.reset(begun->content(), {.change = 1, .position = 9});
    builder.append(1, 1, 8, "name", nullptr);
    begun.reset();  // the builder may be asked after that
    CHECK(builder.count() == 1);
    CHECK(builder.position() == 9);
    CHECK(builder.last_cookie() == 1);
  }
  CHECK(rig.all_zero());
  CHECK(rig.pages.stats().free_page_calls.get() == 2);
}

TEST_CASE("attributes are kept when every entry has them, else dropped for the whole array") {
  ArrayRig rig;
  {
    const bool complete = GENERATE(true, false);
    const auto gap = GENERATE(0u, 1u, 2u);
    PageRef page = rig.new_page();
    ArrayBuilder builder;
    builder.reset(page->content(), {.with_attrs = true});
    for (uint32_t i = 0; i < 3; ++i) {
      Attr attr;
      attr.ino = 500 + i;
      attr.size = i * 1000;
      builder.append(i + 1, 500 + i, 8, "f", !complete && i == gap ? nullptr : &attr);
    }
    const ArrayView building = builder.view();
    CHECK(building.has_attrs() == complete);
    if (complete) CHECK(building.attr(2).size == 2000);
    REQUIRE(builder.seal(rig.pages, 3, 0, {}));
    const ArrayView view = ArrayView::of(page->content());
    CHECK(view.has_attrs() == complete);
    for (uint32_t i = 0; complete && i < 3; ++i) {
      CHECK(view.attr(i).size == i * 1000);
      CHECK(view.attr(i).ino == 500 + i);
    }
  }
  CHECK(rig.all_zero());
}

TEST_CASE("dropping the last run takes every entry of the last cookie, or nothing") {
  ArrayRig rig;
  {
    PageRef page = rig.new_page();
    ArrayBuilder builder;
    builder.reset(page->content(), {.with_attrs = true});
    Attr attr;
    const std::vector<uint64_t> cookies = {4, 5, 5, 6, 5, 5, 5};
    for (const uint64_t cookie : cookies) {
      attr.size = cookie;
      builder.append(cookie, cookie, 8, "name" + std::to_string(cookie), &attr);
    }
    CHECK(builder.drop_last_run());
    CHECK(builder.count() == 4);
    CHECK(builder.last_cookie() == 6);
    CHECK(builder.drop_last_run());
    CHECK(builder.drop_last_run());  // the run of two
    CHECK(builder.count() == 1);
    CHECK_FALSE(builder.drop_last_run());
    CHECK(builder.count() == 1);
    CHECK(builder.last_cookie() == 4);
    attr.size = 9;
    builder.append(9, 9, 8, "after", &attr);
    REQUIRE(builder.seal(rig.pages, 9, 0, {}));
    const ArrayView view = ArrayView::of(page->content());
    CHECK(entries_of(view) == std::vector<ModelEntry>{{4, 4, 8, "name4"}, {9, 9, 8, "after"}});
    CHECK(view.attr(1).size == 9);
    CHECK(rig.pages.stats().names_bytes.get() == 10);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("the last cookie may be replaced by the next array's key") {
  ArrayRig rig;
  {
    PageRef page = rig.new_page();
    ArrayBuilder builder;
    builder.reset(page->content(), {});
    builder.append(1, 1, 8, "a", nullptr);
    builder.append(2, 2, 8, "b", nullptr);
    builder.set_last_cookie(uint64_t{3} << cache::kMaxNameBytes % 64);
    REQUIRE(builder.seal(rig.pages, builder.last_cookie(), 0, {}));
    const ArrayView view = ArrayView::of(page->content());
    CHECK(view.cookie(1) == view.header().last_cookie);
    CHECK(view.find_cookie(view.header().last_cookie) == 1);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("without memory sealing fails and what was built can still be read") {
  ArrayRig rig(uint64_t{1} << 20);
  {
    PageRef page = rig.new_page();
    ArrayBuilder builder;
    const bool attrs_fail = GENERATE(false, true);
    builder.reset(page->content(), {.with_attrs = true});
    Attr attr;
    for (uint32_t i = 0; i < kEntriesPerArray; ++i) {
      builder.append(i + 1, 1, 8, std::string(attrs_fail ? 8 : 200, 'n'), &attr);
    }
    std::vector<void*> taken;
    while (void* object = rig.pages.allocate(SpanPool::kMaxObject)) taken.push_back(object);
    // Room for the names, or not even for them; never for the attributes.
    while (rig.pages.charge(64)) taken.push_back(nullptr);
    std::vector<void*> small;
    const size_t names = kEntriesPerArray * 8;
    if (!attrs_fail) {
      while (void* object = rig.pages.allocate(names)) small.push_back(object);
    }
    CHECK_FALSE(builder.seal(rig.pages, 0, 0, {}));
    CHECK(builder.view().count() == kEntriesPerArray);
    CHECK(builder.view().name(5).size() == (attrs_fail ? 8 : 200));
    CHECK(rig.pages.stats().names_bytes.get() == 0);
    CHECK(rig.pages.stats().entries_resident.get() == 0);
    for (void* object : small) rig.pages.free(object, names);
    for (void* object : taken) {
      if (object != nullptr) rig.pages.free(object, SpanPool::kMaxObject);
    }
    rig.pages.uncharge(64 * static_cast<uint64_t>(std::count(taken.begin(), taken.end(), nullptr)));
    CHECK(builder.seal(rig.pages, 0, 0, {}));  // later it works
  }
  CHECK(rig.all_zero());
}

TEST_CASE("random arrays agree with a model") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  ArrayRig rig;
  ArrayBuilder builder;
  for (uint64_t round = 0; round < test::scaled(500); ++round) {
    PageRef page = rig.new_page();
    REQUIRE(page);
    std::vector<ModelEntry> model;
    builder.reset(page->content(), {.change = round});
    const uint64_t wish = random.below(kEntriesPerArray + 1);
    while (model.size() < wish) {
      ModelEntry entry{random.below(40), random.below(~uint64_t{0}),
                       static_cast<uint8_t>(random.below(16)),
                       std::string(1 + random.below(kMaxNameBytes), 'q')};
      for (char& c : entry.name) c = static_cast<char>(1 + random.below(255));
      builder.append(entry.cookie, entry.ino, entry.type, entry.name, nullptr);
      model.push_back(entry);
      if (!random.one_in(50)) continue;
      std::vector<ModelEntry> shorter = model;
      while (!shorter.empty() && shorter.back().cookie == entry.cookie) shorter.pop_back();
      REQUIRE(builder.drop_last_run() == !shorter.empty());
      if (!shorter.empty()) model = shorter;
    }
    REQUIRE(entries_of(builder.view()) == model);
    REQUIRE(builder.seal(rig.pages, 1, 0, {}));
    const ArrayView view = ArrayView::of(page->content());
    REQUIRE(entries_of(view) == model);
    for (uint64_t cookie = 0; cookie < 42; ++cookie) {
      REQUIRE(view.find_cookie(cookie) == test::first_with_cookie(model, cookie));
    }
  }
  CHECK(rig.all_zero());
}
