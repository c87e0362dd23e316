// Lookup counts, forgets, node ids; the races between them under threads.
#include "fusefs/inode_table.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/random.h"

namespace {

using fusefs::InodeRef;
using fusefs::InodeTable;
using fusefs::kRootNodeId;
using fusefs::PrimedEntry;

fusefs::LookupAnswer root() {
  fusefs::LookupAnswer answer;
  answer.id = "root";
  answer.attr.ino = 2;
  answer.attr.mode = S_IFDIR | 0755;
  return answer;
}

constexpr fusefs::ObjectFacts kFile{.ino = 7, .parent_ino = 2, .mode = S_IFREG | 0644};
constexpr fusefs::ObjectFacts kDirectory{.ino = 8, .parent_ino = 2, .mode = S_IFDIR | 0755};

uint64_t lookup_id(InodeTable& table, const std::string& object) {
  return table.lookup(object, kFile)->nodeid();
}

}  // namespace

TEST_CASE("an object has one inode while it lives, and a new id when it comes back") {
  InodeTable table(root());
  const uint64_t first = lookup_id(table, "a");
  CHECK(first != kRootNodeId);
  CHECK(lookup_id(table, "a") == first);
  CHECK(table.lookups(first) == 2);
  CHECK(lookup_id(table, "b") != first);
  CHECK(table.size() == 3);

  table.forget(first, 1);
  CHECK(table.lookups(first) == 1);
  CHECK(table.find(first));
  table.forget(first, 1);
  CHECK_FALSE(table.find(first));
  CHECK(table.size() == 2);
  CHECK(lookup_id(table, "a") != first);
  table.check_invariants();
}

TEST_CASE("the root is there from the beginning to the end and is never forgotten") {
  InodeTable table(root());
  REQUIRE(table.find(kRootNodeId));
  CHECK(table.object(*table.find(kRootNodeId)) == "root");
  CHECK(table.find(kRootNodeId)->is_directory());
  CHECK(table.lookup("root", kDirectory)->nodeid() == kRootNodeId);
  table.forget(kRootNodeId, 1000);
  CHECK(table.find(kRootNodeId));
}

TEST_CASE("unknown ids and more forgets than lookups do no harm") {
  InodeTable table(root());
  CHECK_FALSE(table.find(0));
  CHECK_FALSE(table.find(12345));
  table.forget(12345, 1);
  const uint64_t id = lookup_id(table, "a");
  table.forget(id, 99);
  CHECK_FALSE(table.find(id));
  table.forget(id, 1);
  CHECK(table.size() == 1);
}

TEST_CASE("a pin keeps an inode that the kernel forgot") {
  InodeTable table(root());
  InodeRef ref = table.lookup("a", kFile);
  const uint64_t id = ref->nodeid();
  table.forget(id, 1);
  CHECK(table.object(*ref) == "a");
  CHECK(table.size() == 2);
  SECTION("until it goes") {
    ref.reset();
    CHECK(table.size() == 1);
    CHECK_FALSE(table.find(id));
  }
  SECTION("and a lookup takes its count from 0 to 1 again") {
    CHECK(lookup_id(table, "a") == id);
    ref.reset();
    CHECK(table.find(id));
    CHECK(table.lookups(id) == 1);
  }
}

TEST_CASE("an inode that is only pinned is nothing to the kernel, and goes with its last pin") {
  InodeTable table(root());
  uint64_t id = 0;
  {
    const InodeRef ahead = table.obtain("d", kDirectory);
    id = ahead->nodeid();
    CHECK(table.lookups(id) == 0);
    CHECK(table.find(id));
    CHECK(table.find(std::string("d"))->nodeid() == id);
    CHECK_FALSE(table.find(std::string("e")));
  }
  CHECK_FALSE(table.find(id));
  CHECK_FALSE(table.find(std::string("d")));
  {
    const InodeRef ahead = table.obtain("d", kDirectory);
    id = ahead->nodeid();
    CHECK(table.lookup("d", kDirectory)->nodeid() == id);  // the kernel comes for it
    table.forget(id, 1);
    CHECK(table.find(id));
  }
  CHECK(table.size() == 1);
  // What the kernel holds under that id is not replaced by a guess.
  const InodeRef file = table.lookup("f", kFile);
  CHECK_FALSE(table.obtain("f", kDirectory));
  CHECK(table.lookup("f", kFile)->nodeid() == file->nodeid());
  table.check_invariants();
}

TEST_CASE("another type under the same name is another inode; the old one stays with its holders") {
  InodeTable table(root());
  const uint64_t file = lookup_id(table, "a");
  const uint64_t directory = table.lookup("a", kDirectory)->nodeid();
  CHECK(directory != file);
  CHECK(table.find(file)->type() == S_IFREG);
  CHECK(table.lookup("a", kDirectory)->nodeid() == directory);
  table.check_invariants();
  table.forget(file, 1);
  CHECK_FALSE(table.find(file));
  CHECK(table.find(directory));
  table.check_invariants();
}

TEST_CASE("trap 17: a listing's entries count one lookup each, and those taken back count none") {
  InodeTable table(root());
  const uint64_t known = lookup_id(table, "3");
  std::vector<PrimedEntry> entries;
  entries.reserve(1002);
  for (int i = 0; i < 1000; ++i) entries.push_back({std::to_string(i), kFile, 0});
  entries.push_back({"", kFile, 0});
  entries.push_back({"root", kDirectory, 0});
  table.lookup_batch(entries);
  CHECK(entries[3].nodeid == known);
  CHECK(entries[1000].nodeid == 0);  // without an object's name
  CHECK(entries[1001].nodeid == 0);  // the root is nobody's child
  std::set<uint64_t> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(entries[static_cast<size_t>(i)].nodeid);
  CHECK(ids.size() == 1000);
  CHECK(table.lookups(known) == 2);
  CHECK(table.size() == 1001);
  table.check_invariants();
  for (const PrimedEntry& entry : entries) {
    if (entry.nodeid != 0) table.forget(entry.nodeid, 1);
  }
  CHECK(table.size() == 2);
  CHECK(table.lookups(known) == 1);
}

TEST_CASE("attributes keep the time they were asked for; an answer that was overtaken is dropped") {
  InodeTable table(root());
  const InodeRef ref = table.lookup("a", kFile);
  CHECK_FALSE(table.attr(*ref));
  const cache::TimePoint start{std::chrono::hours(1)};
  fusefs::Attr attr;
  attr.size = 5;
  table.set_attr(*ref, {attr, start + std::chrono::seconds(2)});
  attr.size = 4;
  table.set_attr(*ref, {attr, start + std::chrono::seconds(1)});
  REQUIRE(table.attr(*ref));
  CHECK(table.attr(*ref)->attr.size == 5);
  table.drop_attr(*ref);
  CHECK_FALSE(table.attr(*ref));
}

TEST_CASE("clear forgets everything, whatever was never forgotten") {
  InodeTable table(root());
  for (int i = 0; i < 10000; ++i) lookup_id(table, std::to_string(i));
  CHECK(table.size() == 10001);
  table.clear();
  CHECK(table.size() == 1);
  table.check_invariants();
}

TEST_CASE("trap 17: forgets race lookups, and every count comes out even") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  InodeTable table(root());
  constexpr int kThreads = 4;
  constexpr uint64_t kObjects = 40;  // few, so that they meet
  std::atomic<bool> wrong{false};
  std::vector<std::set<std::pair<uint64_t, uint64_t>>> named(kThreads);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      test::Random random(seed + static_cast<uint64_t>(t));
      std::vector<uint64_t> held;  // one element a lookup
      for (uint64_t step = 0; step < test::scaled(40000); ++step) {
        const uint64_t object = random.below(kObjects);
        if (random.one_in(8)) {
          std::vector<PrimedEntry> batch;
          for (uint64_t i = 0; i < 5; ++i) {
            batch.push_back({std::to_string((object + i) % kObjects), kFile, 0});
          }
          table.lookup_batch(batch);
          for (const PrimedEntry& entry : batch) held.push_back(entry.nodeid);
        } else if (held.size() > 20 || (random.one_in(2) && !held.empty())) {
          const uint64_t id = held[random.below(held.size())];
          const auto all = static_cast<uint64_t>(std::count(held.begin(), held.end(), id));
          // Still counted by this thread, so it must be there, under the same object.
          const InodeRef ref = table.find(id);
          if (!ref || ref->nodeid() != id) wrong = true;
          table.forget(id, all);
          std::erase(held, id);
        } else {
          const InodeRef ref = table.lookup(std::to_string(object), kFile);
          if (table.object(*ref) != std::to_string(object)) wrong = true;
          held.push_back(ref->nodeid());
          named[static_cast<size_t>(t)].insert({ref->nodeid(), object});
        }
      }
      for (const uint64_t id : held) table.forget(id, 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(wrong);
  CHECK(table.size() == 1);
  table.check_invariants();
  // Never reused: an id named one object, on whichever thread.
  std::map<uint64_t, uint64_t> object_of;
  for (const auto& pairs : named) {
    for (const auto& [id, object] : pairs) {
      REQUIRE(object_of.emplace(id, object).first->second == object);
    }
  }
}

TEST_CASE("a renamed object keeps its inode and is found by its new id alone") {
  InodeTable table(root());
  const InodeRef parent = table.lookup("dir", kDirectory);
  const InodeRef file = table.lookup("dir/a", kFile);
  const uint64_t nodeid = file->nodeid();
  table.move("dir/a", "dir/b", *parent);
  table.check_invariants();
  CHECK(table.object(*file) == "dir/b");
  CHECK(file->parent() == parent->nodeid());
  CHECK_FALSE(table.find(std::string("dir/a")));
  CHECK(table.find(std::string("dir/b"))->nodeid() == nodeid);
  CHECK(lookup_id(table, "dir/b") == nodeid);
  // Another object may have the old name, and this one may go back and forth.
  CHECK(lookup_id(table, "dir/a") != nodeid);
  table.move("dir/b", "dir/c", *parent);
  CHECK_FALSE(table.find(std::string("dir/b")));
  std::vector<PrimedEntry> batch{{"dir/c", kFile}, {"dir/b", kFile}};
  table.lookup_batch(batch);
  CHECK(batch[0].nodeid == nodeid);
  CHECK(batch[1].nodeid != nodeid);
  CHECK(table.obtain("dir/c", kFile)->nodeid() == nodeid);
  CHECK_FALSE(table.obtain("dir/c", kDirectory));
  table.check_invariants();
}

TEST_CASE("a moved object leaves nothing behind when the kernel forgets it") {
  InodeTable table(root());
  {
    const InodeRef parent = table.lookup("dir", kDirectory);
    lookup_id(table, "a");
    table.move("a", "b", *parent);
  }
  const uint64_t nodeid = table.find(std::string("b"))->nodeid();
  table.forget(nodeid, 1);
  CHECK_FALSE(table.find(std::string("b")));
  CHECK(lookup_id(table, "b") != nodeid);
  table.check_invariants();
}

TEST_CASE("a detached object stays with those who hold it, and its id is free") {
  InodeTable table(root());
  const InodeRef gone = table.lookup("a", kFile);
  table.detach("a");
  CHECK(table.detached(*gone));
  CHECK_FALSE(table.find(std::string("a")));
  CHECK(table.find(gone->nodeid()));
  CHECK(lookup_id(table, "a") != gone->nodeid());
  // One that was renamed before.
  const InodeRef parent = table.lookup("dir", kDirectory);
  const InodeRef moved = table.lookup("x", kFile);
  table.move("x", "y", *parent);
  table.detach("y");
  CHECK(table.detached(*moved));
  CHECK_FALSE(table.find(std::string("y")));
  table.check_invariants();
}

TEST_CASE("an object of several ids keeps the others, and is counted by them") {
  InodeTable table(root());
  const InodeRef parent = table.lookup("dir", kDirectory);
  const InodeRef file = table.lookup("a", kFile);
  CHECK(table.id_count(*file) == 1);
  table.add_id(*file, "b");
  table.add_id(*file, "b");
  CHECK(table.id_count(*file) == 2);
  std::vector<PrimedEntry> batch{{"a", kFile}, {"b", kFile}};
  table.lookup_batch(batch);
  CHECK(batch[0].nodeid == file->nodeid());
  CHECK(batch[1].nodeid == file->nodeid());
  CHECK(batch[1].ids == 2);
  SECTION("when one goes") { table.detach("a"); }
  SECTION("when one is an object's of another type") { table.lookup("a", kDirectory); }
  SECTION("when another object is renamed to one") {
    lookup_id(table, "c");
    table.detach("a");
    table.move("c", "a", *parent);
  }
  CHECK_FALSE(table.detached(*file));
  CHECK(table.object(*file) == "b");
  CHECK(table.id_count(*file) == 1);
  CHECK(table.find(std::string("b"))->nodeid() == file->nodeid());
  table.move("b", "d", *parent);
  CHECK(table.object(*file) == "d");
  table.detach("d");
  CHECK(table.detached(*file));
  CHECK(table.id_count(*file) == 0);
  table.check_invariants();
}

TEST_CASE("with a directory all that is below it gets new ids") {
  InodeTable table(root());
  const InodeRef below = table.lookup("a/x/y", kFile);
  const InodeRef inner = table.lookup("a/x", kDirectory);
  const InodeRef beside = table.lookup("ab", kFile);
  const auto moved = table.move_all([](const fusefs::ObjectId& id) -> fusefs::ObjectId {
    return id == "a" || id.starts_with("a/") ? "b" + id.substr(1) : "";
  });
  CHECK(moved.size() == 2);
  CHECK(table.object(*below) == "b/x/y");
  CHECK(table.object(*inner) == "b/x");
  CHECK(table.object(*beside) == "ab");
  CHECK(table.find(std::string("b/x/y"))->nodeid() == below->nodeid());
  table.check_invariants();
}

cache::Attr of_size(uint64_t size) {
  cache::Attr attr;
  attr.size = size;
  return attr;
}

TEST_CASE("what was asked for before a change of ours is outdated") {
  InodeTable table(root());
  const InodeRef file = table.lookup("a", kFile);
  const cache::TimePoint start{std::chrono::hours(1)};
  const auto at = [&](int seconds) { return start + std::chrono::seconds(seconds); };
  CHECK(table.set_attr(*file, {of_size(1), at(0)}));
  table.note_changed(*file, at(1));
  CHECK_FALSE(table.attr(*file));
  CHECK(table.outdated(*file, at(0)));
  CHECK_FALSE(table.set_attr(*file, {of_size(2), at(0)}));
  CHECK_FALSE(table.outdated(*file, at(1)));
  CHECK(table.set_attr(*file, {of_size(3), at(1)}));
  CHECK(table.attr(*file)->attr.size == 3);
  std::vector<PrimedEntry> batch{{"a", kFile, 0, at(0)}, {"a", kFile, 0, at(1)}};
  table.lookup_batch(batch);
  CHECK(batch[0].outdated);
  CHECK_FALSE(batch[1].outdated);
}

TEST_CASE("renames race lookups and forgets, and every count comes out even") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  InodeTable table(root());
  const InodeRef parent = table.lookup("dir", kDirectory);
  constexpr uint64_t kObjects = 12;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      test::Random random(seed + t);
      for (uint64_t step = 0; step < test::scaled(20000); ++step) {
        const std::string from = std::to_string(random.below(kObjects));
        const std::string to = std::to_string(random.below(kObjects));
        switch (random.below(4)) {
          case 0:
            if (from == to) break;
            table.detach(to);
            table.move(from, to, *parent);
            break;
          case 1:
            table.detach(from);
            break;
          default:
            table.forget(lookup_id(table, from), 1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(table.size() == 2);
  table.check_invariants();
}
