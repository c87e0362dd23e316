// Programs that walk a tree, directory after directory: what is fetched ahead of them.

#include <dirent.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/mount.h"
#include "tests/support/random.h"
#include "tests/support/raw_listing.h"
#include "tests/support/ssh_server.h"

namespace fs = std::filesystem;

using test::list;
using test::Mount;
using test::RawEntry;
using test::SshServer;
using test::TempDir;

namespace {

enum class Sorted : uint8_t { kNo, kByName };

bool is_dot(const std::string& name) { return name == "." || name == ".."; }

// As find and ls -R do: lists, then goes into what it found. The number of entries.
size_t walk(const std::string& path, Sorted sorted) {
  std::vector<RawEntry> entries = list(path);
  if (sorted == Sorted::kByName) {
    std::sort(entries.begin(), entries.end(),
              [](const RawEntry& a, const RawEntry& b) { return a.name < b.name; });
  }
  size_t count = 0;
  for (const RawEntry& entry : entries) {
    if (is_dot(entry.name)) continue;
    ++count;
    if (entry.type == DT_DIR) count += walk(path + "/" + entry.name, sorted);
  }
  return count;
}

std::vector<std::string> directories_in(const std::string& path) {
  std::vector<std::string> names;
  for (const RawEntry& entry : list(path)) {
    if (entry.type == DT_DIR && !is_dot(entry.name)) names.push_back(entry.name);
  }
  return names;
}

}  // namespace

TEST_CASE("a walk has its directories fetched ahead, in the listing's order and by name") {
  for (const Sorted sorted : {Sorted::kNo, Sorted::kByName}) {
    for (const std::string style : {"hashed", "ordered", "descending", "name"}) {
      Mount mount("sim:tree=200x5,rtt=5ms,cookies=" + style, "ttl=1h");
      INFO("by name " << (sorted == Sorted::kByName) << ", " << style);
      CHECK(walk(mount.path(), sorted) == 1 + 200 + 200 * 5);
      const int64_t fetched = mount.figure("walk_ahead.fetched");
      CHECK(fetched >= 190);
      CHECK(mount.figure("walk_ahead.used") == fetched);
      CHECK(mount.figure("walk_ahead.wasted") == 0);
      CHECK(mount.figure("remote.inflight_peak") >= (test::kSanitized ? 12 : 32));
      // As many as without it.
      CHECK(mount.figure("fills.started") <= 200 + 4);
      CHECK(walk(mount.path(), sorted) == 1 + 200 + 200 * 5);
      CHECK(mount.figure("walk_ahead.fetched") == fetched);
      CHECK(mount.end() == "");
    }
  }
}

TEST_CASE("a walk through a deep tree goes ahead depth first") {
  const TempDir data;
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < 6; ++j) {
      for (int k = 0; k < 3; ++k) {
        const auto number = [](int n) { return std::to_string(n); };
        fs::create_directories(data / ("a" + number(i) + "/b" + number(j) + "/c" + number(k)));
      }
    }
  }
  const SshServer server;
  Mount mount(server.url(data.path()), "ttl=1h," + server.options());
  CHECK(walk(mount.path(), Sorted::kByName) == 6 + 36 + 108);
  const int64_t fetched = mount.figure("walk_ahead.fetched");
  CHECK(fetched >= 100);
  CHECK(mount.figure("walk_ahead.used") == fetched);
  CHECK(mount.end() == "");
}

TEST_CASE("directories opened here and there have nothing fetched ahead") {
  Mount mount("sim:tree=200x5,rtt=1ms", "ttl=1h");
  const auto names = directories_in(mount / "tree");
  REQUIRE(names.size() == 200);
  for (size_t i = 0; i < names.size(); ++i) {
    CHECK(list(mount / ("tree/" + names[i * 83 % names.size()])).size() == 5 + 2);
  }
  CHECK(mount.figure("walk_ahead.fetched") == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("walk_ahead=0, and a back end that needs no looking ahead, fetch nothing ahead") {
  const TempDir data;
  for (int i = 0; i < 30; ++i) fs::create_directory(data / ("d" + std::to_string(i)));
  for (const auto& [source, options] :
       {std::pair<std::string, std::string>{"sim:tree=30x5,rtt=1ms", "walk_ahead=0"},
        {"sim:tree=30x5,rtt=1ms", "ttl=0"},
        {data.path(), "ttl=1h"}}) {
    Mount mount(source, options);
    CHECK(walk(mount.path(), Sorted::kNo) >= 30);
    CHECK(mount.figure("walk_ahead.fetched") == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("a walk is right in a cache that is far too small, and ends anywhere") {
  for (const size_t end : {5u, 20u, 60u, 150u}) {
    Mount mount("sim:tree=150x40,rtt=2ms,cookies=hashed", "cache_size=1M,ttl=1h");
    const auto names = directories_in(mount / "tree");
    REQUIRE(names.size() == 150);
    for (size_t i = 0; i < end; ++i) CHECK(list(mount / ("tree/" + names[i])).size() == 40 + 2);
    CHECK(mount.figure("walk_ahead.window") <= 8);
    CHECK(mount.end() == "");
  }
  // In the middle of what is under way.
  for (const Mount::How how : {Mount::How::kUmount, Mount::How::kLazy, Mount::How::kSignal}) {
    Mount mount("sim:tree=300x5,rtt=50ms", "ttl=1h");
    const auto names = directories_in(mount / "tree");
    for (size_t i = 0; i < 9; ++i) CHECK(list(mount / ("tree/" + names[i])).size() == 5 + 2);
    CHECK(mount.figure("walk_ahead.fetched") > 9);
    CHECK(mount.end(how) == "");
  }
}

TEST_CASE("a remote that fails and is slow under a walk: errors where they are met, and no leak") {
  Mount mount("sim:tree=150x5,rtt=1ms,faults=error:0.1+empty:0.05+timeout:0.02", "timeout=500ms");
  for (int round = 0; round < 3; ++round) {
    std::vector<RawEntry> entries;
    test::RawDir root;
    while (root.open(mount / "tree") != 0 || root.read_all(65536, &entries) != 0) entries.clear();
    for (const RawEntry& entry : entries) {
      if (entry.type != DT_DIR || is_dot(entry.name)) continue;
      std::vector<RawEntry> children;
      test::RawDir dir;
      if (dir.open(mount / ("tree/" + entry.name)) == 0 && dir.read_all(65536, &children) == 0) {
        CHECK(children.size() == 5 + 2);
      }
    }
  }
  CHECK(mount.end() == "");
}

TEST_CASE("several walkers that share a tree are one walk") {
  Mount mount("sim:tree=240x5,rtt=5ms", "ttl=1h");
  const auto names = directories_in(mount / "tree");
  REQUIRE(names.size() == 240);
  std::atomic<size_t> next{0};
  std::atomic<size_t> wrong{0};
  std::vector<std::thread> walkers;
  for (int i = 0; i < 6; ++i) {
    walkers.emplace_back([&] {
      for (size_t at = next++; at < names.size(); at = next++) {
        if (list(mount / ("tree/" + names[at])).size() != 5 + 2) ++wrong;
      }
    });
  }
  for (std::thread& walker : walkers) walker.join();
  CHECK(wrong == 0);
  CHECK(mount.figure("walk_ahead.fetched") >= 180);
  CHECK(mount.figure("walk_ahead.wasted") == 0);
  CHECK(mount.end() == "");
}

TEST_CASE("what was fetched ahead shows changes after ttl, like everything else") {
  const TempDir data;
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) {
    names.push_back("d" + std::to_string(100 + i));
    fs::create_directory(data / names.back());
    std::ofstream(data / (names.back() + "/old"));
  }
  const SshServer server;
  Mount mount(server.url(data.path()), "ttl=1s," + server.options());
  REQUIRE(directories_in(mount.path()).size() == 40);
  for (int i = 0; i < 8; ++i) CHECK(list(mount / names[i]).size() == 1 + 2);
  CHECK(mount.figure("walk_ahead.fetched") > 8);
  for (int i = 8; i < 40; ++i) {
    std::ofstream(data / (names[i] + "/new"));
    fs::remove(data / (names[i] + "/old"));
  }
  fs::remove_all(data / names[39]);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  for (int i = 8; i < 39; ++i) {
    const auto entries = list(mount / names[i]);
    REQUIRE(entries.size() == 1 + 2);
    const bool shows_new = std::any_of(entries.begin(), entries.end(),
                                       [](const RawEntry& entry) { return entry.name == "new"; });
    CHECK(shows_new);
  }
  CHECK_FALSE(fs::exists(mount / names[39]));
  CHECK(mount.end() == "");
}
