// The parts of the NFS back end that need no server.
#include <catch2/catch.hpp>

#include "fusefs/backends/nfs/handle_cache.h"
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
