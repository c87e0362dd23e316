#include "cache/dir/readdir_array.h"

#include <catch2/catch.hpp>
#include <string>

#include "tests/support/array_rig.h"

using cache::ArrayBuilder;
using cache::ArrayPage;
using cache::ArrayView;
using cache::kEntriesPerArray;
using cache::PageRef;
using test::ArrayRig;

namespace {

constexpr uint64_t k2To63 = uint64_t{1} << 63;

// An array of these cookies, sealed on a page of its own.
PageRef array_of(ArrayRig& rig, const std::vector<uint64_t>& cookies) {
  PageRef page = rig.new_page();
  ArrayBuilder builder;
  builder.reset(page->content(), {});
  for (const uint64_t cookie : cookies) builder.append(cookie, 1, 8, "n", nullptr);
  REQUIRE(builder.seal(rig.pages, 0, 0, {}));
  return page;
}

}  // namespace

TEST_CASE("one page holds an array of at least 168 entries of at most 24 bytes") {
  CHECK(sizeof(ArrayPage) <= 4096);
  CHECK(kEntriesPerArray >= 168);
  CHECK((sizeof(ArrayPage) - sizeof(cache::ArrayHeader)) / kEntriesPerArray <= 24);
}

TEST_CASE("a cookie is found by its full 64 bits, wherever it stands") {
  ArrayRig rig;
  std::vector<uint64_t> cookies;
  for (uint64_t i = 0; i < kEntriesPerArray; ++i) cookies.push_back((i + 1) << 32 | 7);
  {
    const PageRef page = array_of(rig, cookies);
    const ArrayView view = ArrayView::of(page->content());
    for (uint32_t i = 0; i < kEntriesPerArray; ++i) REQUIRE(view.find_cookie(cookies[i]) == i);
    CHECK(view.find_cookie(7) == view.count());
    CHECK(view.find_cookie(uint64_t{1} << 32) == view.count());
    CHECK(view.find_cookie(0) == view.count());
  }
  CHECK(rig.all_zero());
}

TEST_CASE("trap 12: extreme, unordered and duplicated cookies") {
  ArrayRig rig;
  {
    const std::vector<uint64_t> cookies = {
        k2To63, 1, ~uint64_t{0}, 0, uint64_t{1} << 32, (uint64_t{1} << 31) + 5, k2To63 - 1,
        1,      5, ~uint64_t{0}};
    const PageRef page = array_of(rig, cookies);
    const ArrayView view = ArrayView::of(page->content());
    CHECK(view.find_cookie(k2To63) == 0);
    CHECK(view.find_cookie(1) == 1);  // the first of several
    CHECK(view.find_cookie(~uint64_t{0}) == 2);
    CHECK(view.find_cookie(0) == 3);
    CHECK(view.find_cookie(k2To63 - 1) == 6);
    CHECK(view.find_cookie(5) == 8);
    CHECK(view.find_cookie(6) == view.count());
    CHECK((view.header().flags & (cache::kArrayAscending | cache::kArrayDescending)) == 0);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("searches end at the count, not at what an earlier array left on the page") {
  ArrayRig rig;
  {
    PageRef page = rig.new_page();
    ArrayBuilder builder;
    for (const uint32_t count :
         {kEntriesPerArray, uint32_t{17}, uint32_t{16}, uint32_t{15}, uint32_t{1}, uint32_t{0}}) {
      builder.reset(page->content(), {});
      for (uint32_t i = 0; i < count; ++i) builder.append(1000 + i, 1, 8, "n", nullptr);
      CHECK(builder.view().find_cookie(1000 + count) == count);
      if (count > 0) CHECK(builder.view().find_cookie(1000 + count - 1) == count - 1);
    }
  }
  CHECK(rig.all_zero());
}

TEST_CASE("the order flags tell strict order only") {
  ArrayRig rig;
  {
    const auto flags = [&](const std::vector<uint64_t>& cookies) {
      const PageRef page = array_of(rig, cookies);
      return ArrayView::of(page->content()).header().flags;
    };
    constexpr uint16_t kBoth = cache::kArrayAscending | cache::kArrayDescending;
    CHECK(flags({1, 2, 3}) == cache::kArrayAscending);
    CHECK(flags({k2To63 - 1, k2To63, k2To63 + 1}) == cache::kArrayAscending);
    CHECK(flags({3, 2, 1}) == cache::kArrayDescending);
    CHECK(flags({1, 2, 2}) == 0);
    CHECK(flags({1, 3, 2}) == 0);
    CHECK(flags({7}) == kBoth);
    CHECK(flags({}) == kBoth);
  }
  CHECK(rig.all_zero());
}
