// Listings of the simulated remote while its directories change.

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "tests/fusefs/backends/sim_change_rig.h"
#include "tests/support/random.h"

namespace fusefs {
namespace {

using namespace sim_test;

TEST_CASE("entries that stay keep their cookies while others are made, moved and removed") {
  for (const char* style : kStyles) {
    for (const char* path : {"big", "tree", "tree/dir-1", "mix", "made"}) {
      CAPTURE(style, path);
      Sim sim(std::string("big=30,tree=20x20,mix,cookies=").append(style));
      REQUIRE(sim.mkdir("/", "made").ok());
      if (std::string(path) == "made") {
        for (int i = 0; i < 20; ++i) REQUIRE(sim.create(path, "f" + std::to_string(i)).ok());
      }
      const Listing before = list_after(*sim, sim.id(path), 7);
      std::set<std::string> stay;
      for (size_t i = 0; i < before.entries.size(); ++i) {
        const Listed& entry = before.entries[i];
        if (entry.type != DT_REG || i % 3 == 0) {
          stay.insert(entry.name);
        } else if (i % 3 == 1) {
          REQUIRE(sim.unlink(path, entry.name).ok());
        } else {
          REQUIRE(sim.rename(path, entry.name, path, "renamed-" + std::to_string(i)).ok());
        }
        REQUIRE(sim.create(path, "more-" + std::to_string(i)).ok());
      }
      const Listing after = list_after(*sim, sim.id(path), 7);
      CHECK(after.names() == sim.names(path));
      const bool index = std::string(style) == "index";
      for (const Listed& entry : after.entries) {
        for (const Listed& old : before.entries) {
          if (!index && old.name == entry.name) CHECK(old.behind == entry.behind);
        }
      }
      if (index) continue;  // there, a change is a bad cookie
      // Behind every entry, also behind one that is gone, follows what followed and stayed.
      for (size_t i = 0; i < before.entries.size(); ++i) {
        const auto rest = list_after(*sim, sim.id(path), 5, before.entries[i].behind).names();
        const std::set<std::string> listed(rest.begin(), rest.end());
        CHECK(listed.size() == rest.size());
        for (size_t j = 0; j < before.entries.size(); ++j) {
          const std::string& name = before.entries[j].name;
          if (stay.contains(name)) CHECK(listed.contains(name) == (j > i));
        }
      }
    }
  }
}

TEST_CASE("what is renamed over or exchanged keeps its place in the listing") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    Sim sim(std::string("big=9,tree=5x5,cookies=").append(style));
    const Listing before = list_after(*sim, sim.id("tree"), 7);
    REQUIRE(sim.rename("tree", "dir-1", "tree", "dir-3", RENAME_EXCHANGE).ok());
    REQUIRE(sim.rename("tree", "dir-4", "big", kFile3, RENAME_EXCHANGE).ok());
    REQUIRE(sim.rename("big", "file-0000000000000000001", "tree", "dir-4").ok());
    const Listing after = list_after(*sim, sim.id("tree"), 7);
    REQUIRE(after.names() == before.names());
    for (size_t i = 0; i < after.entries.size(); ++i) {
      CHECK(after.entries[i].behind == before.entries[i].behind);
    }
    CHECK(after.entries[1].ino == before.entries[3].ino);
    CHECK(after.entries[4].type == DT_REG);
  }
}

TEST_CASE("trap 9: unlinking all that each answer returned empties any directory") {
  for (const char* style : kStyles) {
    for (const char* sentinel : {"", ",eofcookie=sentinel"}) {
      const bool opaque = std::string(style) == "index" || std::string(style) == "name";
      if (std::string(style) == "index" || (opaque && *sentinel != '\0')) continue;
      Sim sim(std::string("tree=2x100,cookies=").append(style).append(sentinel));
      CAPTURE(style, sentinel);
      for (int i = 0; i < 50; ++i) REQUIRE(sim.create("tree/dir-0", "x" + std::to_string(i)).ok());
      DirRequest request{.after = {}, .verifier = 0, .max_entries = 7, .want_attrs = true};
      for (bool eof = false; !eof;) {
        const DirAnswer answer = ask(*sim, sim.id("tree/dir-0"), request);
        REQUIRE(answer.error == 0);
        for (const DirAnswer::Entry& entry : answer.entries) {
          REQUIRE(sim.unlink("tree/dir-0", std::string(answer.name(entry))).ok());
          request.after = place_behind(*sim, answer, entry);
        }
        eof = answer.eof;
      }
      CHECK(sim.rmdir("tree", "dir-0").ok());
    }
  }
}

TEST_CASE("a directory takes many new entries under every style of cookies") {
  for (const char* style : kStyles) {
    for (const char* path : {"tree/dir-0", "made", "big"}) {
      CAPTURE(style, path);
      Sim sim(std::string("big=3,tree=1x3,cookies=").append(style));
      REQUIRE(sim->mkdir_elsewhere("made").ok());
      const size_t count = sim.names(path).size();
      const int more = std::string(style) == "descending" ? 70'000 : 3000;
      for (int i = 0; i < more; ++i) {
        REQUIRE(sim->create_elsewhere(std::string(path) + "/n" + std::to_string(i)).ok());
      }
      const Listing listing = list_after(*sim, sim.id(path), 999);
      CHECK(listing.error == 0);
      const auto names = listing.names();
      CHECK(names.size() == count + static_cast<size_t>(more));
      CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
    }
  }
}

TEST_CASE("churn lives beside changes, and ends with its directory") {
  using namespace std::chrono_literals;
  Sim sim("big=5,churn=100");
  REQUIRE(sim->scheduler().wait_until(1s));
  const auto some = sim.names("big");
  const auto churned = std::find_if(some.begin(), some.end(), [](const std::string& name) {
    return name.rfind("churn-", 0) == 0;
  });
  REQUIRE(churned != some.end());
  const std::string name = *churned;
  const uint64_t file = sim.open("big/" + name, O_RDWR).value();
  REQUIRE(sim.write(file, 0, "mine").ok());
  REQUIRE(sim.rename("big", name, "/", "kept").ok());
  REQUIRE(sim->mkdir_elsewhere("big/churn-000000000200").ok());
  REQUIRE(sim->scheduler().wait_until(10s));
  CHECK(sim.names("big").size() == 5 + 50 + 1);
  CHECK(sim->present_content("kept").substr(0, 4) == "mine");
  CHECK(sim.exists("big/churn-000000000200"));
  // Nothing is served in between here, and no clock is asked.
  for (const std::string& left : sim.names("big")) {
    REQUIRE(sim->remove_elsewhere("big/" + left).ok());
  }
  REQUIRE(sim->remove_elsewhere("big").ok());
  REQUIRE(sim->scheduler().wait_until(20s));
  CHECK(sim.names("/") == std::vector<std::string>{"kept"});
  CHECK(sim->add_entry("x").error_number() == ENOENT);
}

// What a random test keeps of a tree: paths, and for files their content.
struct Model {
  std::map<std::string, std::string> files;
  std::set<std::string> directories{""};
};

TEST_CASE("a tree that is changed at random is what its model is") {
  const uint64_t seed = test::seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const char* style : kStyles) {
    Sim sim(std::string("tree=2x3,cookies=").append(style));
    Model model;
    model.directories = {"tree", "tree/dir-0", "tree/dir-1"};
    for (const char* directory : {"tree/dir-0", "tree/dir-1"}) {
      for (const std::string& name : sim.names(directory)) {
        const std::string path = std::string(directory) + "/" + name;
        model.files[path] = sim->present_content(path);
      }
    }
    const auto pick = [&] {
      auto at = model.directories.begin();
      std::advance(at, random() % model.directories.size());
      return *at;
    };
    for (int step = 0; step < 500; ++step) {
      const std::string parent = pick();
      const std::string name = "n" + std::to_string(random() % 6);
      const std::string path = parent + "/" + name;
      const bool is_file = model.files.contains(path);
      const bool is_directory = model.directories.contains(path);
      switch (random() % 5) {
        case 0:
          REQUIRE(sim.create(parent, name).ok() == (!is_file && !is_directory));
          if (!is_directory) model.files.emplace(path, "");
          break;
        case 1:
          REQUIRE(sim.mkdir(parent, name).ok() == (!is_file && !is_directory));
          if (!is_file) model.directories.insert(path);
          break;
        case 2:
          REQUIRE(sim.unlink(parent, name).ok() == is_file);
          model.files.erase(path);
          break;
        case 3:
          if (sim.rmdir(parent, name).ok()) REQUIRE(model.directories.erase(path) == 1);
          break;
        default: {
          const std::string to = pick() + "/" + name;
          if (!is_file || model.directories.contains(to)) break;
          const size_t slash = to.rfind('/');
          REQUIRE(sim.rename(parent, name, to.substr(0, slash), name).ok());
          const std::string content = model.files[path];
          model.files.erase(path);
          model.files[to] = content;
        }
      }
    }
    std::map<std::string, std::set<std::string>> expected;
    for (const std::string& path : model.directories) expected[path];
    const auto note = [&](const std::string& path) {
      if (path != "tree")
        expected[path.substr(0, path.rfind('/'))].insert(path.substr(path.rfind('/') + 1));
    };
    for (const std::string& path : model.directories) note(path);
    for (const auto& [path, content] : model.files) note(path);
    for (const auto& [directory, names] : expected) {
      CAPTURE(style, directory);
      const auto listed = list_after(*sim, sim.id(directory), 3).names();
      CHECK(std::set<std::string>(listed.begin(), listed.end()) == names);
      CHECK(listed.size() == names.size());
    }
    for (const auto& [path, content] : model.files) CHECK(sim->present_content(path) == content);
  }
}

}  // namespace
}  // namespace fusefs
