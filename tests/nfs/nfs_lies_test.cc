// A server that lies: whatever it answers, the daemon lives, a listing ends, and what it gives is
// names that a directory can have.

#include <catch2/catch.hpp>
#include <cerrno>
#include <set>

#include "tests/nfs/lying_server.h"
#include "tests/support/mount.h"
#include "tests/support/random.h"
#include "tests/support/raw_listing.h"

using test::Lie;
using test::ListQuestion;
using test::LyingServer;
using test::Mount;
using test::RawDir;
using test::RawEntry;
using test::XdrWriter;

namespace {

using Server = LyingServer;

struct Outcome {
  int error = 0;
  std::vector<RawEntry> entries;
  std::string end;  // of the mount; empty: all is well
};

// Lists the root once; the mount must live on and end as it should.
Outcome list_lies(const Server& server, const std::string& options = "soft,timeo=10,retrans=1") {
  Outcome outcome;
  Mount mount(server.url(), options);
  RawDir dir(mount.path());
  outcome.error = -dir.read_all(32768, &outcome.entries);
  dir.close();
  CHECK(mount.figure("cache.limit_bytes") > 0);  // it still serves
  outcome.end = mount.end();
  return outcome;
}

std::set<std::string> names_of(const Outcome& outcome) {
  std::set<std::string> names;
  for (const RawEntry& entry : outcome.entries) names.insert(entry.name);
  return names;
}

Lie result(std::string bytes) { return {.kind = Lie::Kind::kResult, .bytes = std::move(bytes)}; }

// An honest answer: entries [cookie, cookie + 100) of 1000.
std::string honest(const ListQuestion& question) {
  std::string bytes = Server::list_header();
  uint64_t i = question.cookie;
  for (; i < question.cookie + 100 && i < 1000; ++i) {
    bytes += Server::entry("name" + std::to_string(i), 100 + i, i + 1, question.plus);
  }
  return bytes + Server::list_end(i >= 1000);
}

}  // namespace

TEST_CASE("lies: the honest listing, so that the others mean something") {
  const Server server([](const ListQuestion& question) { return result(honest(question)); });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.error == 0);
  CHECK(names_of(outcome).size() == 1002);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: bad names are refused, and the listing goes on") {
  const Server server([](const ListQuestion& question) {
    std::string bytes = Server::list_header();
    uint64_t cookie = 1;
    for (const std::string& name :
         {std::string("good"), std::string(), std::string("a/b"), std::string(".."),
          std::string("."), std::string(256, 'x'), std::string(5000, 'y'), std::string("last")}) {
      bytes += Server::entry(name, 100 + cookie, cookie, question.plus);
      ++cookie;
    }
    return result(bytes + Server::list_end(true));
  });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.error == 0);
  CHECK(names_of(outcome) == std::set<std::string>{".", "..", "good", "last"});
  CHECK(outcome.end == "");
}

TEST_CASE("lies: a NUL in a name") {
  const Server server([](const ListQuestion& question) {
    return result(Server::list_header() +
                  Server::entry(std::string("nul\0inside", 10), 5, 1, question.plus) +
                  Server::list_end(true));
  });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.end == "");
  for (const RawEntry& entry : outcome.entries) CHECK(entry.name.size() < 10);
}

TEST_CASE("lies: cookies that lead back end in an error") {
  const Server server([](const ListQuestion& question) {
    std::string bytes = Server::list_header();
    // Always the same hundred, always promising more.
    for (uint64_t i = 0; i < 100; ++i) {
      bytes += Server::entry("name" + std::to_string(i), 100 + i, i + 1, question.plus);
    }
    return result(bytes + Server::list_end(false));
  });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.error == EIO);
  CHECK(server.requests() < 1000);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: neither entries nor the end") {
  const Server server(
      [](const ListQuestion&) { return result(Server::list_header() + Server::list_end(false)); });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.error == EIO);
  CHECK(server.requests() < 1000);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: TOOSMALL, whatever the size") {
  const Server server(
      [](const ListQuestion&) { return result(XdrWriter().u32(10005).u32(0).bytes()); });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.error == EIO);
  CHECK(server.requests() < 1000);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: no READDIRPLUS in mid-listing: the position is kept") {
  const Server server([](const ListQuestion& question) {
    if (question.plus && question.cookie >= 300)
      return result(XdrWriter().u32(10004).u32(0).bytes());
    return result(honest(question));
  });
  const Outcome outcome = list_lies(server, "readdirplus=yes");
  CHECK(outcome.error == 0);
  CHECK(outcome.entries.size() == 1002);
  CHECK(names_of(outcome).size() == 1002);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: JUKEBOX and transient NOENT are waited out at the same place") {
  const uint32_t status = GENERATE(10008u, 2u);
  const Server server([status](const ListQuestion& question) {
    // Every other request, whatever it asks.
    if (question.number % 2 == 0) return result(XdrWriter().u32(status).u32(0).bytes());
    return result(honest(question));
  });
  const Outcome outcome = list_lies(server, "timeout=2m");
  CHECK(outcome.error == 0);
  CHECK(outcome.entries.size() == 1002);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: a listing that was gone for good is stale") {
  const Server server(
      [](const ListQuestion&) { return result(XdrWriter().u32(2).u32(0).bytes()); });
  const Outcome outcome = list_lies(server);
  CHECK(outcome.error == ESTALE);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: more bytes than were asked for, and the deepest list that fits a record") {
  // The smallest entries: the decoder recurses over each.
  const Server server([](const ListQuestion& question) {
    if (question.cookie != 0) return result(Server::list_header() + Server::list_end(true));
    std::string bytes = Server::list_header();
    const std::string one = question.plus
                                ? XdrWriter().u32(1).u64(5).opaque("").u64(9).u32(0).u32(0).bytes()
                                : XdrWriter().u32(1).u64(5).opaque("").u64(9).bytes();
    while (bytes.size() + one.size() + 100 < (1u << 20)) bytes += one;
    return result(bytes + Server::list_end(true));
  });
  for (const char* plus : {"readdirplus=yes", "readdirplus=no"}) {
    const Outcome outcome = list_lies(server, std::string("soft,timeo=20,") + plus);
    CHECK(outcome.entries.size() <= 2);
    CHECK(outcome.end == "");
  }
}

TEST_CASE("lies: records of impossible lengths, other transactions, and hanging up") {
  const auto lie = GENERATE(as<int>(), 0, 1, 2, 3, 4, 5);
  const Server server([lie](const ListQuestion& question) -> Lie {
    switch (lie) {
      case 0:  // a record of 2 GiB
        return {.kind = Lie::Kind::kRaw,
                .bytes = XdrWriter().u32(0xffffffffu).u32(question.xid).bytes()};
      case 1:  // an empty one
        return {.kind = Lie::Kind::kRaw, .bytes = XdrWriter().u32(0x80000000u).bytes()};
      case 2:  // an answer to nobody's question
        return {.kind = Lie::Kind::kRecord,
                .bytes = Server::accepted(question.xid ^ 0x5a5a, honest(question))};
      case 3:  // half an answer, and no more
        return {.kind = Lie::Kind::kRaw,
                .bytes = XdrWriter().u32(0x80001000u).u32(question.xid).u32(1).bytes()};
      case 4:
        return {.kind = Lie::Kind::kHangUp, .bytes = {}};
      default:
        return {.kind = Lie::Kind::kSilence, .bytes = {}};
    }
  });
  INFO("lie " << lie);
  const Outcome outcome = list_lies(server);
  CHECK((outcome.error == ETIMEDOUT || outcome.error == EIO));
  CHECK(server.requests() < 1000);
  CHECK(outcome.end == "");
}

TEST_CASE("lies: names and lists of impossible lengths, and answers cut anywhere") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  test::Random random(seed);
  const Server server([&random](const ListQuestion& question) {
    std::string bytes = honest(question);
    switch (random.below(4)) {
      case 0:
        bytes.resize(random.below(bytes.size()));
        break;
      case 1:
        for (int i = 0; i < 8; ++i)
          bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
        break;
      case 2: {
        const size_t at = random.below(bytes.size() / 4) * 4;
        const std::string huge =
            XdrWriter()
                .u32(static_cast<uint32_t>(random.below(2) == 0 ? 0xffffffffu : 0x7ffffff0u))
                .bytes();
        bytes.replace(at, 4, huge);
        break;
      }
      default:
        for (char& byte : bytes) byte = static_cast<char>(random.below(256));
    }
    return result(bytes);
  });
  for (int round = 0; round < 15; ++round) {
    const Outcome outcome = list_lies(server);
    CHECK(outcome.end == "");
    for (const RawEntry& entry : outcome.entries) {
      CHECK(entry.name.find('/') == std::string::npos);
      CHECK_FALSE(entry.name.empty());
    }
  }
}
