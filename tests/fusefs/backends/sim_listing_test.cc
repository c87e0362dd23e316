#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <set>

#include "fusefs/backends/sim/sim_cookies.h"
#include "tests/fusefs/backends/sim_harness.h"

namespace fusefs {
namespace {

using namespace sim_test;

const char* const kNativeStyles[] = {"ordered", "hashed", "descending", "huge"};

std::string with_cookies(const std::string& style, const std::string& rest = "") {
  return std::string("big=37,tree=3x5,mix,deep=2,cookies=").append(style).append(rest);
}

std::vector<std::string> from(const std::vector<std::string>& names, size_t first) {
  return {names.begin() + static_cast<std::ptrdiff_t>(first), names.end()};
}

TEST_CASE("every directory is listed completely, in one order, by answers of any size") {
  for (const char* style : kStyles) {
    for (const char* sentinel : {"", ",eofcookie=sentinel"}) {
      const bool opaque = std::string(style) == "index" || std::string(style) == "name";
      if (opaque && *sentinel != '\0') continue;
      const auto sim = make_sim(with_cookies(style, sentinel));
      for (const char* path :
           {"/", "big", "mix", "tree", "tree/dir-1", "deep", "deep/d/d", "mix/empty-directory"}) {
        CAPTURE(style, sentinel, path);
        const auto truth = names_of(sim->contents(sim->id_of(path)));
        for (const uint32_t batch : {1u, 2u, 3u, 7u, 37u, 38u, 10000u}) {
          const Listing listing = list_after(*sim, sim->id_of(path), batch);
          CHECK(listing.error == 0);
          CHECK(listing.names() == truth);
          CHECK(listing.requests == std::max<size_t>(1, (truth.size() + batch - 1) / batch));
        }
      }
    }
  }
}

TEST_CASE("a listing continues behind every entry it told") {
  for (const char* style : kStyles) {
    const auto sim = make_sim(with_cookies(style));
    for (const char* path : {"/", "big", "mix", "tree", "tree/dir-1"}) {
      const Listing whole = list_after(*sim, sim->id_of(path), 1000);
      for (size_t i = 0; i < whole.entries.size(); ++i) {
        CAPTURE(style, path, i);
        const Listing rest = list_after(*sim, sim->id_of(path), 5, whole.entries[i].behind);
        CHECK(rest.error == 0);
        CHECK(rest.names() == from(whole.names(), i + 1));
      }
    }
  }
}

TEST_CASE("the entry at the resume cookie is deleted") {
  for (const char* style : kStyles) {
    const bool index = std::string(style) == "index";
    for (size_t i = 0; i < 37; ++i) {
      CAPTURE(style, i);
      const auto sim = make_sim(with_cookies(style));
      const ObjectId big = sim->id_of("big");
      const Listing whole = list_after(*sim, big, 10);
      REQUIRE(sim->remove_entry(whole.entries[i].name).ok());
      const Listing rest = list_after(*sim, big, 5, whole.entries[i].behind);
      CHECK(rest.error == (index ? cache::kErrBadCookie : 0));
      if (!index) CHECK(rest.names() == from(whole.names(), i + 1));
    }
  }
}

TEST_CASE("entries are inserted just before and just after the resume cookie") {
  for (const char* style : kStyles) {
    const bool index = std::string(style) == "index";
    for (size_t i = 0; i < 37; ++i) {
      CAPTURE(style, i);
      const auto sim = make_sim(with_cookies(style));
      const ObjectId big = sim->id_of("big");
      const Listing whole = list_after(*sim, big, 10);
      const Listed& at = whole.entries[i];
      const auto after = sim->insert_beside(at.name, SimSide::kAfter);
      REQUIRE(after.ok());
      auto expected = from(whole.names(), i + 1);
      expected.insert(expected.begin(), after.value());
      CHECK(list_after(*sim, big, 5, at.behind).names() == expected);

      const auto before = sim->insert_beside(at.name, SimSide::kBefore);
      REQUIRE(before.ok());
      const Listing rest = list_after(*sim, big, 5, at.behind);
      CHECK(rest.error == (index ? cache::kErrBadCookie : 0));
      if (!index) CHECK(rest.names() == expected);
      auto all = whole.names();
      all.insert(all.begin() + static_cast<std::ptrdiff_t>(i) + 1, after.value());
      all.insert(all.begin() + static_cast<std::ptrdiff_t>(i), before.value());
      CHECK(list_after(*sim, big, 5).names() == all);
      CHECK(names_of(sim->contents(big)) == all);
    }
  }
}

TEST_CASE("an entry keeps its cookie while others come and go around it") {
  for (const char* style : kNativeStyles) {
    CAPTURE(style);
    const auto sim = make_sim(with_cookies(style));
    const ObjectId big = sim->id_of("big");
    const Listing before = list_after(*sim, big, 10);
    for (size_t i = 0; i < 37; i += 3) {
      REQUIRE(sim->insert_beside(before.entries[i].name, SimSide::kAfter).ok());
      REQUIRE(sim->remove_entry(before.entries[i + (i < 36 ? 1 : 0)].name).ok());
    }
    for (const Listed& entry : list_after(*sim, big, 10).entries) {
      for (const Listed& old : before.entries) {
        if (old.name == entry.name) CHECK(old.behind == entry.behind);
      }
    }
  }
}

TEST_CASE("each style gives the cookies it is named after") {
  const auto cookies = [](const std::string& url) {
    const auto sim = make_sim(url);
    std::vector<uint64_t> list;
    for (const Listed& entry : list_after(*sim, sim->id_of("big"), 1000).entries) {
      list.push_back(entry.behind.cookie);
    }
    const std::set<uint64_t> unique(list.begin(), list.end());
    CHECK(unique.size() == list.size());
    CHECK(*unique.begin() > 0);
    return list;
  };
  const auto ordered = cookies("big=1000,cookies=ordered");
  CHECK(std::is_sorted(ordered.begin(), ordered.end()));
  CHECK(ordered.back() < uint64_t{1} << 63);
  const auto descending = cookies("big=1000,cookies=descending");
  CHECK(std::is_sorted(descending.rbegin(), descending.rend()));
  CHECK(descending.front() < uint64_t{1} << 36);
  const auto hashed = cookies("big=1000,cookies=hashed");
  CHECK_FALSE(std::is_sorted(hashed.begin(), hashed.end()));
  CHECK_FALSE(std::is_sorted(hashed.rbegin(), hashed.rend()));
  CHECK(*std::max_element(hashed.begin(), hashed.end()) < uint64_t{1} << 62);
  CHECK(cookies("big=1000,cookies=hashed,seed=2") != hashed);
  CHECK(cookies("big=1000,cookies=hashed,seed=1") == hashed);
  const auto huge = cookies("big=1000,cookies=huge");
  CHECK(std::is_sorted(huge.begin(), huge.end()));
  const auto above = std::count_if(huge.begin(), huge.end(),
                                   [](uint64_t cookie) { return cookie >= uint64_t{1} << 63; });
  CHECK(above >= 400);
  CHECK(huge.back() > std::numeric_limits<uint64_t>::max() / 1000 * 998);
  const auto sim = make_sim("tree=5x5,cookies=huge");
  CHECK(list_after(*sim, sim->id_of("tree"), 10).entries.back().behind.cookie ==
        std::numeric_limits<uint64_t>::max());
}

TEST_CASE("opaque styles resume by bytes: an ordinal with a name, a name") {
  CHECK(make_sim("cookies=index")->cookie_kind() == cache::CookieKind::kOpaque);
  CHECK(make_sim("cookies=name")->cookie_kind() == cache::CookieKind::kOpaque);
  CHECK(make_sim("cookies=huge")->cookie_kind() == cache::CookieKind::kNative);
  const auto sim = make_sim("mix,cookies=name");
  const ObjectId mix = sim->id_of("mix");
  const auto names = list_after(*sim, mix, 1000).names();
  CHECK(std::is_sorted(names.begin(), names.end()));
  const Listing rest = list_after(*sim, mix, 10, {.cookie = 0, .bytes = "n"});
  CHECK(rest.names().front() == *std::upper_bound(names.begin(), names.end(), "n"));
  for (const Listed& entry : list_after(*sim, mix, 7).entries) {
    CHECK(entry.behind.bytes == entry.name);
  }
  const auto index = make_sim("mix,cookies=index");
  for (const Listed& entry : list_after(*index, index->id_of("mix"), 7).entries) {
    CHECK(entry.behind.bytes.size() == entry.name.size() + 8);
    CHECK(entry.behind.bytes.size() <= cache::kMaxTokenBytes);
  }
}

TEST_CASE("a place that no entry can have had is a bad cookie") {
  const auto error_at = [](const std::string& url, ResumeToken after) {
    const auto sim = make_sim(url);
    return list_after(*sim, sim->id_of("big"), 10, std::move(after)).error;
  };
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  CHECK(error_at("big=9,cookies=hashed", {.cookie = most, .bytes = {}}) == cache::kErrBadCookie);
  CHECK(error_at("big=9,cookies=hashed", {.cookie = 12345, .bytes = {}}) == cache::kErrBadCookie);
  CHECK(error_at("big=9,cookies=descending", {.cookie = most, .bytes = {}}) ==
        cache::kErrBadCookie);
  CHECK(error_at("big=9,cookies=ordered", {.cookie = most, .bytes = {}}) == 0);
  CHECK(error_at("big=9,cookies=huge", {.cookie = 1, .bytes = {}}) == 0);
  CHECK(error_at("big=9,cookies=index", {.cookie = 0, .bytes = "short"}) == cache::kErrBadCookie);
  CHECK(error_at("big=9,cookies=index", {.cookie = 0, .bytes = std::string(30, '\0')}) ==
        cache::kErrBadCookie);
  CHECK(error_at("big=9,cookies=index", {.cookie = 0, .bytes = std::string(30, '\x7f')}) ==
        cache::kErrBadCookie);
  CHECK(error_at("big=9,cookies=name", {.cookie = 0, .bytes = std::string(300, '\xff')}) == 0);
}

TEST_CASE("cookies are undone exactly, over the whole range of positions") {
  for (const SimCookies style :
       {SimCookies::kOrdered, SimCookies::kHashed, SimCookies::kDescending, SimCookies::kHuge}) {
    const SimCookieCodec codec(style, 7);
    for (const uint64_t count : {uint64_t{0}, uint64_t{1}, uint64_t{12345}, kSimMaxObjects}) {
      for (const SimPlaces& places :
           {sim_fixed_places(count, style), sim_changing_places(count, style)}) {
        for (const uint64_t position :
             {uint64_t{1}, places.first, places.last / 2, places.last - 1, places.last}) {
          if (position == 0 || position > places.last) continue;
          const uint64_t cookie = codec.encode(places, position);
          CHECK(cookie != 0);
          CHECK(codec.decode(places, cookie) == position);
        }
      }
    }
  }
}

TEST_CASE("eofcookie=sentinel: the last entry's cookie says the end") {
  for (const char* style : kNativeStyles) {
    CAPTURE(style);
    const auto sim = make_sim(with_cookies(style, ",eofcookie=sentinel"));
    const ObjectId big = sim->id_of("big");
    const uint64_t sentinel = std::string(style) == "huge" ? UINT64_MAX : INT64_MAX;
    const Listing whole = list_after(*sim, big, 10);
    CHECK(whole.entries.back().behind.cookie == sentinel);
    CHECK(whole.entries[35].behind.cookie != sentinel);
    REQUIRE(sim->add_entry("late").ok());
    const DirAnswer end = ask(*sim, big,
                              {.after = whole.entries.back().behind,
                               .verifier = 0,
                               .max_entries = 10,
                               .want_attrs = false});
    CHECK(end.eof);
    CHECK(end.entries.empty());
    CHECK(list_after(*sim, big, 10, whole.entries[35].behind).names() ==
          std::vector<std::string>{whole.entries[36].name, "late"});
  }
}

TEST_CASE("verifier=strict: a stale verifier is a bad cookie, at the beginning it is not") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    const auto sim = make_sim(with_cookies(style, ",verifier=strict"));
    const ObjectId big = sim->id_of("big");
    DirRequest request{.after = {}, .verifier = 0, .max_entries = 5, .want_attrs = false};
    const DirAnswer first = ask(*sim, big, request);
    CHECK(first.verifier != 0);
    request.after = place_behind(*sim, first, first.entries.back());
    request.verifier = first.verifier;
    CHECK(ask(*sim, big, request).error == 0);
    REQUIRE(sim->add_entry("zzz").ok());
    const DirAnswer stale = ask(*sim, big, request);
    CHECK(stale.error == cache::kErrBadCookie);
    CHECK(stale.entries.empty());
    CHECK(stale.verifier != first.verifier);
    request.verifier = 0;
    CHECK(ask(*sim, big, request).error == 0);
    request.verifier = stale.verifier;
    CHECK(ask(*sim, big, request).error == 0);
    request.after = {};
    request.verifier = first.verifier;
    CHECK(ask(*sim, big, request).error == 0);
  }
  const auto lax = make_sim("big=9");
  const uint64_t verifier = ask(*lax, lax->id_of("big"), {{}, 0, 1, false}).verifier;
  REQUIRE(lax->add_entry("x").ok());
  CHECK(ask(*lax, lax->id_of("big"), {{}, 0, 1, false}).verifier == verifier);
}

TEST_CASE("an answer has no more entries than batch= or the request allow") {
  const auto sim = make_sim("big=100,batch=30");
  const ObjectId big = sim->id_of("big");
  CHECK(sim->max_batch() == 30);
  CHECK(ask(*sim, big, {{}, 0, 1000, false}).entries.size() == 30);
  CHECK(ask(*sim, big, {{}, 0, 7, false}).entries.size() == 7);
  CHECK(ask(*sim, big, {{}, 0, 0, false}).error == cache::kErrTooSmall);
  CHECK(list_after(*sim, big, 30).requests == 4);
}

TEST_CASE("attributes come with the entries when they are wanted, and only then") {
  const auto sim = make_sim(with_cookies("ordered"));
  for (const char* path : {"/", "big", "mix", "tree/dir-2"}) {
    const ObjectId id = sim->id_of(path);
    const DirAnswer plain = ask(*sim, id, {{}, 0, 1000, false});
    CHECK_FALSE(plain.has_attrs);
    CHECK(plain.attrs.empty());
    const DirAnswer full = ask(*sim, id, {{}, 0, 1000, true});
    REQUIRE(full.has_attrs);
    REQUIRE(full.well_formed());
    for (size_t i = 0; i < full.entries.size(); ++i) {
      const ObjectId child = sim->child_id(id, full.name(full.entries[i]), full.entries[i].ino);
      CHECK(full.attrs[i] == getattr(*sim, child).value());
    }
  }
}

TEST_CASE("listing what is no directory fails") {
  const auto sim = make_sim("big=1,mix");
  CHECK(list_after(*sim, sim->id_of("mix/regular"), 5).error == ENOTDIR);
  CHECK(list_after(*sim, "nowhere", 5).error == ESTALE);
}

TEST_CASE("changes of big behave as a file system's") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    const auto sim = make_sim(with_cookies(style));
    const ObjectId big = sim->id_of("big");
    const auto change = [&] { return getattr(*sim, big).value().change; };
    const uint64_t start = change();
    const Attr other = getattr(*sim, sim->id_of("tree")).value();
    REQUIRE(sim->add_entry("new").ok());
    CHECK(change() != start);
    CHECK(sim->add_entry("new").error_number() == EEXIST);
    CHECK(sim->add_entry("file-0000000000000000003").error_number() == EEXIST);
    CHECK(sim->add_entry("a/b").error_number() == EINVAL);
    CHECK(sim->add_entry("").error_number() == EINVAL);
    CHECK(sim->add_entry(std::string(256, 'x')).error_number() == EINVAL);
    CHECK(sim->remove_entry("absent").error_number() == ENOENT);
    const uint64_t ino = lookup(*sim, big, "new").value().attr.ino;
    REQUIRE(sim->remove_entry("new").ok());
    CHECK(sim->remove_entry("new").error_number() == ENOENT);
    REQUIRE(sim->add_entry("new").ok());
    CHECK(lookup(*sim, big, "new").value().attr.ino != ino);
    REQUIRE(sim->remove_entry("file-0000000000000000003").ok());
    REQUIRE(sim->add_entry("file-0000000000000000003").ok());
    const auto names = list_after(*sim, big, 4).names();
    CHECK(names == names_of(sim->contents(big)));
    CHECK(names.size() == 38);
    CHECK(getattr(*sim, sim->id_of("tree")).value() == other);
  }
}

TEST_CASE("unlinking everything that each answer returned empties the directory") {
  for (const char* style : kStyles) {
    if (std::string(style) == "index") continue;  // such a remote can only start over
    CAPTURE(style);
    const auto sim = make_sim(std::string("big=500,cookies=").append(style));
    const ObjectId big = sim->id_of("big");
    DirRequest request{.after = {}, .verifier = 0, .max_entries = 7, .want_attrs = false};
    bool eof = false;
    while (!eof) {
      const DirAnswer answer = ask(*sim, big, request);
      REQUIRE(answer.error == 0);
      for (const DirAnswer::Entry& entry : answer.entries) {
        REQUIRE(sim->remove_entry(answer.name(entry)).ok());
        request.after = place_behind(*sim, answer, entry);
      }
      eof = answer.eof;
    }
    CHECK(sim->contents(big).empty());
    CHECK(list_after(*sim, big, 7).entries.empty());
  }
}

TEST_CASE("many entries may be added at the end and in one gap") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    const auto sim = make_sim(std::string("big=2,cookies=").append(style));
    for (int i = 0; i < 1000; ++i)
      REQUIRE(sim->add_entry(std::string("z").append(std::to_string(1000 + i))).ok());
    for (int i = 0; i < 12; ++i) {
      REQUIRE(sim->insert_beside("file-0000000000000000000", SimSide::kAfter).ok());
    }
    const auto names = list_after(*sim, sim->id_of("big"), 11).names();
    CHECK(names.size() == 1014);
    CHECK(names == names_of(sim->contents(sim->id_of("big"))));
    CHECK(names.back() == "z1999");
  }
}

}  // namespace
}  // namespace fusefs
