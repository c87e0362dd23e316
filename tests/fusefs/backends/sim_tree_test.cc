#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "tests/fusefs/backends/sim_harness.h"

namespace fusefs {
namespace {

using namespace sim_test;

Result<std::string> read(SimBackend& sim, uint64_t ino, uint64_t offset, uint32_t size) {
  Pending<Result<std::string>> pending;
  sim.read(nullptr, ino, offset, size, pending.completion());
  return pending.get();
}

Result<uint64_t> open(SimBackend& sim, const ObjectId& id, int flags) {
  Pending<Result<uint64_t>> pending;
  sim.open(nullptr, id, flags, pending.completion());
  return pending.get();
}

Result<std::string> readlink(SimBackend& sim, const ObjectId& id) {
  Pending<Result<std::string>> pending;
  sim.readlink(nullptr, id, pending.completion());
  return pending.get();
}

uint64_t ino_at(SimBackend& sim, const std::string& path) {
  return sim.present_attr(sim.id_of(path)).value().ino;
}

// Every object below `directory`: that a stat, a lookup and the listing agree on it, and that a
// directory counts its subdirectories. Inode numbers, with the names that lead to each.
void walk(SimBackend& sim, const ObjectId& directory, std::map<uint64_t, uint32_t>* links) {
  uint32_t subdirectories = 0;
  for (const SimListed& listed : sim.contents(directory)) {
    CAPTURE(listed.name);
    const ObjectId id = sim.child_id(directory, listed.name, listed.ino);
    const Result<LookupAnswer> found = lookup(sim, directory, listed.name);
    REQUIRE(found.ok());
    CHECK(found.value().id == id);
    CHECK(found.value().attr == getattr(sim, id).value());
    CHECK(found.value().attr.ino == listed.ino);
    CHECK(IFTODT(found.value().attr.mode) == listed.type);
    CHECK(found.value().attr.change != 0);
    ++(*links)[listed.ino];
    if (listed.type != DT_DIR) continue;
    ++subdirectories;
    CHECK((*links)[listed.ino] == 1);
    walk(sim, id, links);
  }
  CHECK(getattr(sim, directory).value().nlink == 2 + subdirectories);
}

TEST_CASE("a stat, a lookup and a listing agree on every object of the tree") {
  const auto sim = make_sim("big=20,tree=3x4,deep=5,mix");
  std::map<uint64_t, uint32_t> links;
  walk(*sim, sim->id_of("/"), &links);
  for (const auto& [ino, count] : links) {
    CAPTURE(ino);
    CHECK(ino > 1);
    const Attr attr = sim->present_attr(sim->child_id("", "", ino)).value();
    if (!S_ISDIR(attr.mode)) CHECK(attr.nlink == count);
  }
  CHECK(ino_at(*sim, "/") == 1);
}

TEST_CASE("the root holds what was configured, and nothing else") {
  CHECK(names_of(make_sim("big=1,tree=1x1,deep=1,mix")->contents(make_sim("mix")->id_of("/"))) ==
        std::vector<std::string>{"big", "deep", "mix", "tree"});
  const auto sim = make_sim("tree=2x3");
  CHECK(names_of(sim->contents(sim->id_of("/"))) == std::vector<std::string>{"tree"});
  CHECK(lookup(*sim, sim->id_of("/"), "big").error_number() == ENOENT);
  CHECK(names_of(sim->contents(sim->id_of("tree"))) == std::vector<std::string>{"dir-0", "dir-1"});
  CHECK(names_of(sim->contents(sim->id_of("tree/dir-1"))) ==
        std::vector<std::string>{"file-0", "file-1", "file-2"});
  CHECK(ino_at(*sim, "tree/dir-0/file-0") != ino_at(*sim, "tree/dir-1/file-0"));
}

TEST_CASE("the chain is as deep as was asked for, and ends in a file") {
  const auto sim = make_sim("deep=300");
  std::string path = "deep";
  for (int i = 0; i < 300; ++i) path += "/d";
  CHECK(names_of(sim->contents(sim->id_of(path))) == std::vector<std::string>{"bottom"});
  CHECK(sim->id_of(path + "/d").empty());
  CHECK(names_of(make_sim("deep=0")->contents(make_sim("deep=0")->id_of("deep"))) ==
        std::vector<std::string>{"bottom"});
}

TEST_CASE("names in big have the length that was asked for and are told apart") {
  for (const auto& [url, first, last] :
       {std::tuple{"big=1001", "file-0000000000000000000", "file-0000000000000001000"},
        std::tuple{"big=1001,name_len=9", "file-0000", "file-1000"},
        std::tuple{"big=1001,name_len=6", "fi0000", "fi1000"},
        std::tuple{"big=1001,name_len=4", "0000", "1000"}}) {
    CAPTURE(url);
    const auto sim = make_sim(url);
    const auto names = names_of(sim->contents(sim->id_of("big")));
    REQUIRE(names.size() == 1001);
    CHECK(names.front() == first);
    CHECK(names.back() == last);
    CHECK(std::is_sorted(names.begin(), names.end()));
    CHECK(std::set<std::string>(names.begin(), names.end()).size() == 1001);
  }
  const auto sim = make_sim("big=3,name_len=255");
  CHECK(sim->contents(sim->id_of("big")).back().name.size() == 255);
}

TEST_CASE("a directory of any size costs nothing until it is listed") {
  const auto sim = make_sim("big=1000G");
  const ObjectId big = sim->id_of("big");
  CHECK(lookup(*sim, big, "file-0000000999999999999").ok());
  CHECK(lookup(*sim, big, "file-0001000000000000000").error_number() == ENOENT);
  CHECK(lookup(*sim, big, "file-1").error_number() == ENOENT);
  const DirAnswer answer =
      ask(*sim, big, {.after = {}, .verifier = 0, .max_entries = 3, .want_attrs = true});
  CHECK(answer.entries.size() == 3);
}

TEST_CASE("mix holds every type, hard links, the longest and the oddest names") {
  const auto sim = make_sim("mix");
  std::set<uint8_t> types;
  std::set<std::string> names;
  size_t longest = 0;
  for (const SimListed& listed : sim->contents(sim->id_of("mix"))) {
    types.insert(listed.type);
    CHECK(names.insert(listed.name).second);
    CHECK(listed.name.find('/') == std::string::npos);
    CHECK(listed.name.find('\0') == std::string::npos);
    CHECK_FALSE(listed.name.empty());
    CHECK(listed.name.size() <= 255);
    longest += listed.name.size() == 255 ? 1 : 0;
  }
  CHECK(types == std::set<uint8_t>{DT_REG, DT_DIR, DT_LNK, DT_FIFO, DT_SOCK, DT_CHR, DT_BLK});
  CHECK(longest >= 3);
  for (const char* odd : {"new\nline", " leading space", "-rf", "\xff\xfe", ".hidden"}) {
    CHECK(names.contains(odd));
  }
  CHECK(ino_at(*sim, "mix/hard-link-1") == ino_at(*sim, "mix/subdir/hard-link-4"));
  CHECK(sim->present_attr(sim->id_of("mix/hard-link-2")).value().nlink == 4);
  CHECK(sim->present_attr(sim->id_of("mix/char-device")).value().rdev != 0);
}

TEST_CASE("symbolic links are read, other objects are not") {
  const auto sim = make_sim("mix,big=1");
  CHECK(readlink(*sim, sim->id_of("mix/symlink")).value() == "regular");
  const ObjectId longest = sim->id_of("mix/symlink-longest");
  CHECK(readlink(*sim, longest).value().size() == 4095);
  CHECK(sim->present_attr(longest).value().size == 4095);
  CHECK(readlink(*sim, sim->id_of("mix/regular")).error_number() == EINVAL);
  CHECK(readlink(*sim, sim->id_of("big")).error_number() == EINVAL);
}

TEST_CASE("files read the same in any pieces, up to their size") {
  const auto sim = make_sim("big=50,mix");
  const auto file = sim->id_of("mix/largest-file");
  const uint64_t handle = open(*sim, file, O_RDONLY).value();
  const std::string whole = read(*sim, handle, 0, 1 << 20).value();
  REQUIRE(whole.size() == 65536);
  CHECK(std::set<char>(whole.begin(), whole.end()).size() == 256);
  std::string pieces;
  while (pieces.size() < whole.size()) pieces += read(*sim, handle, pieces.size(), 4093).value();
  CHECK(pieces == whole);
  CHECK(read(*sim, handle, 65536, 10).value().empty());
  CHECK(read(*sim, handle, UINT64_MAX, 10).value().empty());
  sim->release(handle);
  CHECK(open(*sim, sim->id_of("mix"), O_RDONLY).error_number() == EISDIR);
  CHECK(open(*sim, sim->id_of("mix"), O_RDWR).error_number() == EISDIR);
  CHECK(read(*sim, open(*sim, file, O_WRONLY).value(), 0, 10).error_number() == EBADF);
  CHECK(read(*sim, open(*sim, file, O_RDWR).value(), 0, 10).value() == whole.substr(0, 10));
  std::set<uint64_t> sizes;
  for (const SimListed& listed : sim->contents(sim->id_of("big"))) {
    sizes.insert(sim->present_attr(sim->child_id("", "", listed.ino)).value().size);
  }
  CHECK(sizes.size() > 40);
  CHECK(*sizes.rbegin() <= 65536);
}

TEST_CASE("the seed decides sizes, times and contents, and nothing else does") {
  const auto one = make_sim("big=9,seed=1");
  const auto same = make_sim("big=9,seed=1");
  const auto other = make_sim("big=9,seed=2");
  const std::string path = "big/file-0000000000000000004";
  const ObjectId id = one->id_of(path);
  CHECK(one->present_attr(id).value() == same->present_attr(id).value());
  CHECK_FALSE(one->present_attr(id).value() == other->present_attr(id).value());
  const uint64_t ino = ino_at(*one, path);
  const auto size = static_cast<uint32_t>(one->present_attr(id).value().size);
  CHECK(read(*one, ino, 0, size).value() == read(*same, ino, 0, size).value());
  CHECK_FALSE(read(*one, ino, 0, size).value() == read(*other, ino, 0, size).value());
}

TEST_CASE("ids that lead nowhere are stale; what is removed becomes so") {
  const auto sim = make_sim("big=3,tree=2x2");
  CHECK(getattr(*sim, "").error_number() == ESTALE);
  CHECK(getattr(*sim, "garbage").error_number() == ESTALE);
  for (const uint64_t ino : {uint64_t{0}, uint64_t{4}, uint64_t{6}, uint64_t{5000}, UINT64_MAX}) {
    CHECK(getattr(*sim, sim->child_id("", "", ino)).error_number() == ESTALE);
  }
  const ObjectId file = sim->id_of("big/file-0000000000000000001");
  const uint64_t handle = open(*sim, file, O_RDONLY).value();
  const std::string content = read(*sim, handle, 0, 100).value();
  REQUIRE(sim->remove_entry("file-0000000000000000001").ok());
  CHECK(getattr(*sim, file).error_number() == ESTALE);
  CHECK(open(*sim, file, O_RDONLY).error_number() == ESTALE);
  CHECK(read(*sim, handle, 0, 100).value() == content);
  CHECK(lookup(*sim, sim->id_of("big"), "file-0000000000000000001").error_number() == ENOENT);
  CHECK(lookup(*sim, sim->id_of("big/file-0000000000000000000"), "x").error_number() == ENOTDIR);
  CHECK(lookup(*sim, sim->id_of("big"), std::string(256, 'x')).error_number() == ENAMETOOLONG);
}

TEST_CASE("statfs is plausible and extended attributes are not there") {
  const auto sim = make_sim("big=1000");
  Pending<Result<StatfsAnswer>> pending;
  sim->statfs(nullptr, sim->id_of("/"), pending.completion());
  const StatfsAnswer answer = pending.get().value();
  CHECK(answer.files > 1000);
  CHECK(answer.name_max == 255);
  CHECK(answer.blocks > 0);
  Pending<Result<std::string>> value;
  CHECK(sim->getxattr(nullptr, sim->id_of("/"), "user.x", value.completion()) == 0);
  CHECK(value.get().error_number() == ENOSYS);
  Pending<Result<std::string>> names;
  CHECK(sim->listxattr(nullptr, sim->id_of("/"), names.completion()) == 0);
  CHECK(names.get().error_number() == ENOSYS);
}

}  // namespace
}  // namespace fusefs
