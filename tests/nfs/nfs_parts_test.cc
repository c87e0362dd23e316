// The parts of the NFS back end that need no server.
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "fusefs/backends/nfs/handle_cache.h"
#include "fusefs/backends/nfs/nfs4_wire.h"
#include "fusefs/backends/nfs/nfs_listing.h"
#include "fusefs/backends/nfs/nfs_url.h"

using fusefs::nfs::Attributes;
using fusefs::nfs::ChangeTokens;
using fusefs::nfs::HandleCache;
using fusefs::nfs::NfsUrl;
using fusefs::nfs::parse_nfs_url;
using fusefs::nfs::ReplySizer;
using std::chrono::microseconds;

// ---- URLs ---------------------------------------------------------------------------------------

namespace {

NfsUrl good(std::string_view rest) {
  std::string text;
  const auto url = parse_nfs_url(rest, &text);
  INFO(rest << ": " << text);
  REQUIRE(url);
  return *url;
}

std::string bad(std::string_view rest) {
  std::string text;
  INFO(rest);
  CHECK_FALSE(parse_nfs_url(rest, &text));
  CHECK_FALSE(text.empty());
  CHECK(text.find('\n') == std::string::npos);
  return text;
}

}  // namespace

TEST_CASE("URLs: host, path and options") {
  CHECK(good("//host/export").host == "host");
  CHECK(good("//host/export").path == "/export");
  CHECK(good("//host/").path == "/");
  CHECK(good("//host//a/./b/").path == "/a/b");
  CHECK(good("//host/a%20b%3F").path == "/a b?");
  CHECK(good("//[::1]/x").host == "::1");
  CHECK(url_text(good("//[::1]/x?version=4")) == "nfs://[::1]/x");
  CHECK(good("//host:2050/x").options == fusefs::BackendOptions{{"port", "2050"}});
  CHECK(good("//[fe80::1]:7/x").options == fusefs::BackendOptions{{"port", "7"}});
  CHECK(good("//h/x?version=4&nconnect=2&soft").options ==
        fusefs::BackendOptions{{"version", "4"}, {"nconnect", "2"}, {"soft", std::nullopt}});
}

TEST_CASE("URLs: what is wrong is named") {
  for (const char* rest : {"", "host/export", "//", "///export", "//host", "//:1/x", "//[::1/x",
                           "//[::1]x/y", "//host/a%", "//host/a%00", "//host/../x", "//host/x#y"}) {
    CHECK(bad(rest).find("nfs://HOST/EXPORT") != std::string::npos);
  }
  CHECK(bad("//host/x?version=5").find("version=3") != std::string::npos);
  CHECK(bad("//host/x?versoin=3").find("versoin: unknown option") != std::string::npos);
  CHECK(bad("//host:http/x").find("port=http: not a number") != std::string::npos);
}

// ---- Sizes --------------------------------------------------------------------------------------

TEST_CASE("sizes: small asks are small, large ones are bounded by the way") {
  const ReplySizer sizes;
  CHECK(sizes.bytes_for(1, Attributes::kNo, microseconds(50)) == ReplySizer::kLeastBytes);
  CHECK(sizes.bytes_for(168, Attributes::kYes, microseconds(50)) < 64 * 1024);
  CHECK(sizes.bytes_for(30000, Attributes::kYes, microseconds(50)) ==
        ReplySizer::most_bytes(microseconds(50)));
  CHECK(sizes.bytes_for(30000, Attributes::kYes, microseconds(10000)) == 1u << 20);
  CHECK(sizes.bytes_for(UINT32_MAX, Attributes::kYes, microseconds(10000)) == 1u << 20);
  for (uint32_t entries = 1; entries < 5000; entries += 7) {
    CHECK(sizes.bytes_for(entries, Attributes::kNo, microseconds(10000)) % 1024 == 0);
  }
  CHECK(ReplySizer::most_bytes(microseconds(100)) < ReplySizer::most_bytes(microseconds(20000)));
}

TEST_CASE("sizes: what entries weigh is learned, whatever a server claims") {
  ReplySizer sizes;
  const microseconds far(10000);
  const uint32_t before = sizes.bytes_for(1000, Attributes::kNo, far);
  for (int i = 0; i < 50; ++i) sizes.learn(1000, 280 * 1000, Attributes::kNo);
  const uint32_t after = sizes.bytes_for(1000, Attributes::kNo, far);
  CHECK(after > 2 * before);
  CHECK(after == Approx(280000).epsilon(0.02));
  for (int i = 0; i < 50; ++i) sizes.learn(1000, 0, Attributes::kNo);
  CHECK(sizes.bytes_for(1000, Attributes::kNo, far) >= 24000);
  for (int i = 0; i < 50; ++i) sizes.learn(16, UINT64_MAX, Attributes::kNo);
  CHECK(sizes.bytes_for(100, Attributes::kNo, far) <= 1u << 20);
}

// ---- Change tokens ------------------------------------------------------------------------------

namespace {

constexpr int64_t kSecond = 1'000'000'000;

cache::Attr changed_at(int64_t nanoseconds) {
  cache::Attr attr;
  attr.ino = 5;
  attr.ctime = {nanoseconds / kSecond, static_cast<uint32_t>(nanoseconds % kSecond)};
  attr.mtime = attr.ctime;
  return attr;
}

}  // namespace

TEST_CASE("tokens: an old stamp is believed, and equal only where all is equal") {
  ChangeTokens tokens;
  const auto now = std::chrono::steady_clock::now();
  const int64_t wall = fusefs::nfs::wall_now();
  const cache::Attr old = changed_at(wall - 3600 * kSecond);
  const uint64_t token = tokens.token(old, 0, now, wall);
  CHECK(token == tokens.token(old, 0, now, wall));
  CHECK(token != tokens.token(old, 1, now, wall));
  cache::Attr other = old;
  other.size = 1;
  CHECK(token != tokens.token(other, 0, now, wall));
  other = old;
  other.mtime.nanoseconds ^= 1;
  CHECK(token != tokens.token(other, 0, now, wall));
}

TEST_CASE("tokens: a young stamp never comes again, until the server's clock has moved on") {
  ChangeTokens tokens;
  const auto now = std::chrono::steady_clock::now();
  const int64_t wall = fusefs::nfs::wall_now();
  // The server's clock runs an hour ahead; nothing tells us.
  const cache::Attr young = changed_at(wall + 3600 * kSecond + 1);
  CHECK(tokens.token(young, 0, now, wall) != tokens.token(young, 0, now, wall));
  const auto later = now + std::chrono::seconds(2);
  CHECK(tokens.token(young, 0, later, wall + 2 * kSecond) ==
        tokens.token(young, 0, later, wall + 2 * kSecond));
  // Whole seconds are waited for longer.
  const cache::Attr coarse = changed_at((wall / kSecond + 3600) * kSecond);
  CHECK(tokens.settled(coarse.ctime, now + std::chrono::seconds(4), wall));
  CHECK_FALSE(tokens.settled(changed_at((wall / kSecond + 3602) * kSecond).ctime,
                             now + std::chrono::seconds(2), wall));
}

TEST_CASE("tokens: own changes are a chain until the state is told by its own name") {
  ChangeTokens tokens;
  const auto now = std::chrono::steady_clock::now();
  const int64_t wall = fusefs::nfs::wall_now();
  const auto state = [&](int64_t ago, uint64_t change) {
    ChangeTokens::State result{.attr = changed_at(wall - ago * kSecond), .change = change};
    result.attr.mode = S_IFDIR | 0755;
    return result;
  };
  for (const uint64_t change : {uint64_t{0}, uint64_t{7}}) {
    const auto next = [&](uint64_t step) { return change == 0 ? 0 : change + step; };
    const auto first = state(3600, next(0));
    const uint64_t listed = tokens.token(first.attr, first.change, now, wall);
    const auto second = state(3500, next(1));
    const auto made = tokens.changed(first, second);
    CHECK(made.before == listed);
    CHECK(made.after != listed);
    // The state after it continues, once.
    const auto third = state(3400, next(2));
    const auto again = tokens.changed(second, third);
    CHECK(again.before == made.after);
    CHECK(tokens.changed(second, third).before != made.after);
    // A listing that was fetched since has the state's own name.
    const uint64_t fetched = tokens.token(third.attr, third.change, now, wall);
    CHECK(fetched != again.after);
    CHECK(tokens.changed(third, state(3300, next(3))).before == fetched);
  }
  // A listing of the state that our change led to, while that is young, has the change's token; the
  // next change leads on from it. Any other young state, and whoever asks for attributes alone, is
  // told what never comes again.
  const auto last = tokens.changed(state(3300, 3), state(0, 4));
  const auto listed = [&](const ChangeTokens::State& told) {
    return tokens.listing_token(told.attr, told.change, now, wall);
  };
  CHECK(listed(state(0, 4)) == last.after);
  CHECK(listed(state(0, 4)) == last.after);
  CHECK(tokens.token(state(0, 4).attr, 4, now, wall) != last.after);
  CHECK(listed(state(0, 5)) != listed(state(0, 5)));
  CHECK(tokens.changed(state(0, 4), state(0, 6)).before == last.after);
  CHECK(listed(state(0, 4)) != last.after);
  // An old one has its own name.
  tokens.changed(state(3300, 3), state(3200, 4));
  CHECK(listed(state(3200, 4)) == tokens.token(state(3200, 4).attr, 4, now, wall));
  // One that we have made: too young to go by its state, and nobody else has seen it.
  auto young = state(0, 0);
  young.attr.change = tokens.token(young.attr, 0, now, wall);
  tokens.note_made(young);
  CHECK(tokens.changed(young, state(0, 1)).before == young.attr.change);
  // Many directories: the oldest chains are dropped.
  for (int64_t i = 0; i < 5000; ++i) tokens.changed(state(4000 + i, 0), state(10000 + i, 0));
  CHECK(tokens.changed(state(10000, 0), state(20000, 0)).before ==
        tokens.token(state(10000, 0).attr, 0, now, wall));
}

// ---- Handles ------------------------------------------------------------------------------------

TEST_CASE("handles: the longest unused goes first, and a way is forgotten as a whole") {
  HandleCache handles(3);
  handles.put("a", 1, "ha");
  handles.put("a/b", 2, "hb");
  handles.put("a/b/c", 3, "hc");
  CHECK(handles.find("a")->handle == "ha");
  handles.put("x", 4, "hx");
  CHECK_FALSE(handles.find("a/b"));
  CHECK(handles.find("a"));
  CHECK(handles.size() == 3);
  handles.put("a", 9, "new");
  CHECK(handles.find("a")->ino == 9);
  handles.forget_way("a/b/c");
  CHECK_FALSE(handles.find("a"));
  CHECK_FALSE(handles.find("a/b/c"));
  CHECK(handles.find("x"));
}

TEST_CASE("handles: trees are forgotten and moved") {
  HandleCache handles(100);
  for (const char* path : {"a", "a/b", "a/b/c", "a.b", "ab", "x", "x/y"})
    handles.put(path, 1, path);
  handles.move_tree("a", "x");
  CHECK_FALSE(handles.find("a"));
  CHECK_FALSE(handles.find("a/b/c"));
  CHECK_FALSE(handles.find("x/y"));  // what the target was is gone
  CHECK(handles.find("x")->handle == "a");
  CHECK(handles.find("x/b/c")->handle == "a/b/c");
  CHECK(handles.find("a.b")->handle == "a.b");
  CHECK(handles.find("ab")->handle == "ab");
  handles.forget_tree("x/b");
  CHECK(handles.find("x"));
  CHECK_FALSE(handles.find("x/b"));
  CHECK_FALSE(handles.find("x/b/c"));
  CHECK(handles.size() == 3);
}

// ---- Compounds ----------------------------------------------------------------------------------

TEST_CASE("compounds: results are read in order, and none where they are cut") {
  using fusefs::nfs::Handle;
  using fusefs::nfs::Op4;
  using fusefs::nfs::Results4;
  using fusefs::nfs::XdrReader;
  using fusefs::nfs::XdrWriter;
  const auto read = [](const std::string& bytes, Handle* handle, uint32_t* status) {
    XdrReader in(bytes);
    Results4 results(in);
    results.next(Op4::kPutfh);
    const bool made = results.next(Op4::kCreate);
    if (made) {
      fusefs::nfs::read_change_info(in);
      fusefs::nfs::skip_bitmap(in);
    }
    results.next_handle(handle);
    *status = results.status();
    return in.ok();
  };
  XdrWriter whole;
  whole.u32(0).opaque("").u32(3).u32(22).u32(0);
  whole.u32(6).u32(0).u32(1).u64(5).u64(6).u32(1).u32(0).u32(10).u32(0).opaque("the handle");
  Handle handle;
  uint32_t status = 0;
  CHECK(read(whole.bytes(), &handle, &status));
  CHECK(handle == "the handle");
  CHECK(status == 0);
  for (size_t length = 0; length < whole.bytes().size(); length += 4) {
    CHECK_FALSE(read(whole.bytes().substr(0, length), &handle, &status));
  }
  const std::string refused =
      XdrWriter().u32(17).opaque("").u32(2).u32(22).u32(0).u32(6).u32(17).bytes();
  CHECK(read(refused, &handle, &status));
  CHECK(status == 17);
  // Fewer results than were asked for, and none of them failed.
  CHECK_FALSE(read(XdrWriter().u32(0).opaque("").u32(1).u32(22).u32(0).bytes(), &handle, &status));
  // Another operation's result.
  CHECK_FALSE(read(XdrWriter().u32(0).opaque("").u32(1).u32(28).u32(0).bytes(), &handle, &status));
}
