// Changes of the simulated remote: through requests, and by other clients.

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "tests/fusefs/backends/sim_change_rig.h"
#include "tests/support/random.h"

namespace fusefs {
namespace {

using namespace sim_test;

TEST_CASE("objects of every type are made in every directory") {
  for (const char* parent : {"/", "big", "tree", "tree/dir-1", "deep/d", "mix/subdir"}) {
    CAPTURE(parent);
    Sim sim("big=5,tree=2x2,deep=2,mix");
    const std::string base = std::string(parent) + "/";
    const auto before = sim.names(parent);
    const uint32_t nlink = sim.attr(parent).nlink;
    const CreatedAnswer file = sim.create(parent, "new-f", O_RDWR | O_EXCL, 04640).value();
    CHECK(file.entry.id == sim.id(base + "new-f"));
    CHECK(file.entry.attr == sim.attr(base + "new-f"));
    CHECK(file.entry.attr.mode == (S_IFREG | 04640u));
    CHECK(file.entry.attr.size == 0);
    CHECK(S_ISDIR(sim.mkdir(parent, "new-d", 01777).value().entry.attr.mode));
    CHECK(sim.mknod(parent, "new-p", S_IFIFO | 0600).value().entry.attr.mode == (S_IFIFO | 0600u));
    CHECK(sim.mknod(parent, "new-c", S_IFCHR | 0600, makedev(1, 3)).value().entry.attr.rdev ==
          makedev(1, 3));
    CHECK(sim.symlink(parent, "new-s", "to/where").value().entry.attr.size == 8);
    CHECK(sim.link(base + "new-f", parent, "new-h").value().entry.attr.nlink == 2);
    CHECK(sim.attr(parent).nlink == nlink + 1);
    CHECK(sim.as<std::string>(nullptr, &Backend::readlink, sim.id(base + "new-s")).value() ==
          "to/where");
    CHECK(sim.create(base + "new-d", "inner").ok());
    CHECK(sim.mkdir(base + "new-d", "deeper").ok());
    CHECK(sim.names(base + "new-d") == std::vector<std::string>{"inner", "deeper"});

    std::map<std::string, uint8_t> types;
    for (const Listed& entry : list_after(*sim, sim.id(parent), 3).entries) {
      types[entry.name] = entry.type;
    }
    CHECK(types.size() == before.size() + 6);
    CHECK(types["new-f"] == DT_REG);
    CHECK(types["new-d"] == DT_DIR);
    CHECK(types["new-p"] == DT_FIFO);
    CHECK(types["new-c"] == DT_CHR);
    CHECK(types["new-s"] == DT_LNK);
    for (const auto& name : before) CHECK(types.contains(name));
  }
}

TEST_CASE("what is made belongs to its caller; a setgid directory hands its group on") {
  Sim sim("tree=1x1");
  const auto caller = std::make_shared<const Caller>(Caller{12, 34, {}});
  CHECK(sim.mkdir("tree", "d", 0755, caller).value().entry.attr.uid == 12);
  CHECK(sim.attr("tree/d").gid == 34);
  CHECK(sim.setattr(sim.id("tree/d"), set_mode(02755)).ok());
  const auto other = std::make_shared<const Caller>(Caller{56, 78, {}});
  CHECK(sim.create("tree/d", "f", O_RDWR, 0644, other).value().entry.attr.gid == 34);
  const Attr inner = sim.mkdir("tree/d", "e", 0755, other).value().entry.attr;
  CHECK(inner.uid == 56);
  CHECK(inner.gid == 34);
  CHECK(inner.mode == (S_IFDIR | 02755u));
}

TEST_CASE("errors of changes are a file system's, and nothing has changed then") {
  Sim sim("big=5,tree=2x2,mix");
  const uint64_t big = sim.token("big");
  const uint64_t tree = sim.token("tree");
  CHECK(sim.create("big", kFile3).error_number() == EEXIST);
  CHECK(sim.mkdir("big", kFile3).error_number() == EEXIST);
  CHECK(sim.symlink("big", kFile3, "x").error_number() == EEXIST);
  CHECK(sim.link("mix/regular", "big", kFile3).error_number() == EEXIST);
  CHECK(sim.link("tree", "big", "x").error_number() == EPERM);
  CHECK(sim.mknod("big", "x", S_IFDIR).error_number() == EPERM);
  CHECK(sim.symlink("big", "x", "").error_number() == ENOENT);
  CHECK(sim.symlink("big", "x", std::string(4096, 't')).error_number() == ENAMETOOLONG);
  CHECK(sim.create(std::string("big/") + kFile3, "x").error_number() == ENOTDIR);
  CHECK(sim.create("nowhere", "x").error_number() == ESTALE);
  CHECK(sim.unlink("big", "none").error_number() == ENOENT);
  CHECK(sim.unlink("tree", "dir-0").error_number() == EISDIR);
  CHECK(sim.rmdir("big", kFile3).error_number() == ENOTDIR);
  CHECK(sim.rmdir("tree", "dir-0").error_number() == ENOTEMPTY);
  CHECK(sim.rename("big", "none", "big", "x").error_number() == ENOENT);
  CHECK(sim.rename("big", kFile3, "tree", "dir-0").error_number() == EISDIR);
  CHECK(sim.rename("tree", "dir-0", "big", kFile3).error_number() == ENOTDIR);
  CHECK(sim.rename("tree", "dir-0", "tree", "dir-1").error_number() == ENOTEMPTY);
  CHECK(sim.rename("/", "tree", "tree/dir-0", "x").error_number() == EINVAL);
  CHECK(sim.rename("/", "tree", "tree", "x").error_number() == EINVAL);
  CHECK(sim.rename("tree/dir-0", "file-0", "/", "tree", RENAME_EXCHANGE).error_number() == EINVAL);
  CHECK(sim.rename("big", kFile3, "tree", "dir-0", RENAME_NOREPLACE).error_number() == EEXIST);
  CHECK(sim.rename("big", kFile3, "tree", "x", RENAME_EXCHANGE).error_number() == ENOENT);
  CHECK(sim.rename("big", kFile3, "tree", "x", RENAME_WHITEOUT).error_number() == EINVAL);
  CHECK(sim.setattr(sim.id("tree"), set_size(0)).error_number() == EISDIR);
  CHECK(sim.setattr(sim.id("mix/fifo"), set_size(0)).error_number() == EINVAL);
  CHECK(sim.setattr("nowhere", set_size(0)).error_number() == ESTALE);
  const std::pair<std::string, int> bad[] = {{"", EINVAL},
                                             {".", EINVAL},
                                             {"..", EINVAL},
                                             {"a/b", EINVAL},
                                             {std::string("a\0b", 3), EINVAL},
                                             {std::string(256, 'n'), ENAMETOOLONG}};
  for (const auto& [name, error_number] : bad) {
    CAPTURE(name);
    CHECK(sim.create("big", name).error_number() == error_number);
    CHECK(sim.mkdir("big", name).error_number() == error_number);
    CHECK(sim.unlink("big", name).error_number() == error_number);
    CHECK(sim.rename("big", kFile3, "tree", name).error_number() == error_number);
    CHECK(sim.rename("big", name, "tree", "x").error_number() == error_number);
  }
  CHECK(sim.token("big") == big);
  CHECK(sim.token("tree") == tree);
}

TEST_CASE("creating what is there opens it, without O_EXCL") {
  Sim sim("big=5,mix");
  const std::string path = std::string("big/") + kFile3;
  const Attr attr = sim.attr(path);
  const CreatedAnswer opened = sim.create("big", kFile3, O_RDWR, 0600).value();
  CHECK(opened.entry.attr == attr);
  CHECK(opened.parent.before == opened.parent.after);
  CHECK(sim.read(opened.file, 0, 1 << 20).value().size() == attr.size);
  CHECK(sim.create("big", kFile3, O_RDWR | O_TRUNC).ok());
  CHECK(sim.attr(path).size == 0);
  CHECK(sim.create("/", "mix", O_RDWR).error_number() == EISDIR);
}

TEST_CASE("removing: names, links, directories; what is gone is stale") {
  Sim sim("big=5,tree=2x2,mix");
  const ObjectId linked = sim.id("mix/hard-link-1");
  REQUIRE(sim.unlink("mix", "hard-link-1").ok());
  CHECK(getattr(*sim, linked).value().nlink == 3);
  CHECK(sim.unlink("mix", "hard-link-2").ok());
  CHECK(sim.unlink("mix", "hard-link-3").ok());
  CHECK(sim.unlink("mix/subdir", "hard-link-4").ok());
  CHECK(getattr(*sim, linked).error_number() == ESTALE);

  const ObjectId directory = sim.id("tree/dir-0");
  for (const std::string& name : sim.names("tree/dir-0"))
    CHECK(sim.unlink("tree/dir-0", name).ok());
  const uint32_t nlink = sim.attr("tree").nlink;
  CHECK(sim.rmdir("tree", "dir-0").ok());
  CHECK(sim.attr("tree").nlink == nlink - 1);
  CHECK(getattr(*sim, directory).error_number() == ESTALE);
  CHECK(list_after(*sim, directory, 10).error == ESTALE);
  CHECK(sim.as<MadeAnswer>(nullptr, &Backend::mkdir, directory, "x", 0755u).error_number() ==
        ESTALE);
  // The name is free again, for another object.
  CHECK(sim.mkdir("tree", "dir-0").value().entry.id != directory);
  CHECK(sim.names("tree/dir-0").empty());
}

TEST_CASE("renames: into other directories, over what is there, in exchange") {
  Sim sim("big=5,tree=3x2,mix");
  const ObjectId file = sim.id(std::string("big/") + kFile3);
  REQUIRE(sim.rename("big", kFile3, "tree/dir-0", "moved").ok());
  CHECK(sim.id("tree/dir-0/moved") == file);
  CHECK_FALSE(sim.exists(std::string("big/") + kFile3));
  const ObjectId covered = sim.id("tree/dir-0/file-1");
  REQUIRE(sim.rename("tree/dir-0", "moved", "tree/dir-0", "file-1").ok());
  CHECK(sim.id("tree/dir-0/file-1") == file);
  CHECK(getattr(*sim, covered).error_number() == ESTALE);

  // A directory takes along what is in it, and may not come to lie in itself.
  const ObjectId directory = sim.id("tree/dir-1");
  const uint32_t root_links = sim.attr("/").nlink;
  REQUIRE(sim.rename("tree", "dir-1", "/", "up").ok());
  CHECK(sim.id("up") == directory);
  CHECK(sim.attr("/").nlink == root_links + 1);
  CHECK(sim.names("up") == std::vector<std::string>{"file-0", "file-1"});
  REQUIRE(sim.rename("/", "tree", "up", "tree").ok());
  CHECK(sim.rename("/", "up", "up/tree/dir-0", "x").error_number() == EINVAL);
  CHECK(sim.exists("up/tree/dir-2/file-0"));
  REQUIRE(sim.rename("up", "tree", "/", "tree").ok());

  const ObjectId one = sim.id("tree/dir-0");
  const ObjectId other = sim.id("mix/regular");
  const uint32_t mix_links = sim.attr("mix").nlink;
  REQUIRE(sim.rename("tree", "dir-0", "mix", "regular", RENAME_EXCHANGE).ok());
  CHECK(sim.id("mix/regular") == one);
  CHECK(sim.id("tree/dir-0") == other);
  CHECK(sim.attr("mix").nlink == mix_links + 1);
  CHECK(sim.id("mix/regular/file-1") == file);

  // Two names of one object: both stay.
  const uint64_t token = sim.token("mix");
  CHECK(sim.rename("mix", "hard-link-1", "mix", "hard-link-2").ok());
  CHECK(sim.exists("mix/hard-link-1"));
  CHECK(sim.token("mix") == token);
  CHECK(sim.rename("tree", "dir-0", "tree", "free", RENAME_NOREPLACE).ok());
}

TEST_CASE("a change tells the directory's tokens exactly, with wcc=no nothing") {
  for (const bool wcc : {true, false}) {
    Sim sim(wcc ? "big=9,tree=2x2,mix" : "big=9,tree=2x2,mix,wcc=no");
    std::set<uint64_t> tokens;
    uint64_t before = sim.token("big");
    const auto check = [&](const DirChange& change) {
      const uint64_t after = sim.token("big");
      CHECK(tokens.insert(before).second);
      CHECK(change.before == (wcc ? before : 0));
      CHECK(change.after == (wcc ? after : 0));
      before = after;
    };
    check(sim.create("big", "f").value().parent);
    check(sim.mkdir("big", "d").value().parent);
    check(sim.mknod("big", "p", S_IFIFO).value().parent);
    check(sim.symlink("big", "s", "t").value().parent);
    check(sim.link("big/f", "big", "h").value().parent);
    check(sim.rename("big", "h", "big", "g").value().from);
    check(sim.rename("big", "g", "tree", "g").value().from);
    check(sim.rename("tree", "g", "big", "g").value().to);
    check(sim.rename("big", "g", "mix", "regular", RENAME_EXCHANGE).value().from);
    check(sim.unlink("big", "s").value());
    check(sim.rmdir("big", "d").value());
    // Somebody else's change is not in between two of ours unseen.
    REQUIRE(sim->add_entry("theirs").ok());
    CHECK(sim.token("big") != before);
    before = sim.token("big");
    check(sim.unlink("big", "theirs").value());
    CHECK(sim.setattr(sim.id("big"), set_mode(0700)).ok());
    CHECK(sim.token("big") != before);
  }
}

TEST_CASE("times and tokens move with each change of a file and of its directory") {
  Sim sim("big=9,tree=2x2");
  const std::string path = std::string("big/") + kFile3;
  const auto later = [](const cache::Timespec& one, const cache::Timespec& other) {
    return std::pair(one.seconds, one.nanoseconds) > std::pair(other.seconds, other.nanoseconds);
  };
  const uint64_t file = sim.open(path, O_RDWR).value();
  Attr last = sim.attr(path);
  const auto changed = [&](bool content) {
    const Attr now = sim.attr(path);
    CHECK(now.change != last.change);
    CHECK(now.change != 0);
    CHECK(later(now.ctime, last.ctime));
    CHECK(later(now.mtime, last.mtime) == content);
    last = now;
  };
  REQUIRE(sim.write(file, 0, "x").ok());
  changed(true);
  REQUIRE(sim.write(file, 0, "x").ok());
  changed(true);
  REQUIRE(sim.setattr(sim.id(path), set_mode(0600)).ok());
  changed(false);
  REQUIRE(sim.setattr(sim.id(path), set_size(last.size)).ok());
  changed(true);
  REQUIRE(sim.link(path, "tree", "h").ok());
  changed(false);
  CHECK(sim.write(file, 0, "").ok());
  CHECK(sim.fsync(file).ok());
  CHECK(sim.attr(path) == last);
  const Attr directory = sim.attr("big");
  REQUIRE(sim.create("big", "f").ok());
  CHECK(later(sim.attr("big").mtime, directory.mtime));
  const Attr created = sim.attr("big");
  REQUIRE(sim->add_entry("theirs").ok());
  CHECK(later(sim.attr("big").mtime, created.mtime));
}

TEST_CASE("setattr sets what it is asked to, by id and by open file") {
  Sim sim("big=9,mix");
  const std::string path = std::string("big/") + kFile3;
  const ObjectId id = sim.id(path);
  const uint64_t file = sim.open(path, O_RDWR).value();
  SetAttr set;
  set.valid = SetAttr::kMode | SetAttr::kUid | SetAttr::kGid | SetAttr::kSize | SetAttr::kAtime |
              SetAttr::kMtime;
  set.mode = S_IFREG | 06711;
  set.uid = 12;
  set.gid = 34;
  set.size = 100'000;
  set.atime = {-5, 6};
  set.mtime = {7, 8};
  const Attr attr = sim.setattr(id, set).value();
  CHECK(attr == sim.attr(path));
  CHECK(attr.mode == (S_IFREG | 06711u));
  CHECK(attr.uid == 12);
  CHECK(attr.gid == 34);
  CHECK(attr.size == 100'000);
  CHECK(attr.atime == set.atime);
  CHECK(attr.mtime == set.mtime);
  SetAttr times;
  times.valid = SetAttr::kAtimeNow | SetAttr::kMtimeNow;
  CHECK(sim.setattr(id, times).value().mtime.seconds > 1'000'000'000);
  REQUIRE(sim.unlink("big", kFile3).ok());
  CHECK(sim.setattr(id, set_size(5)).error_number() == ESTALE);
  CHECK(sim.setattr(id, set_size(5), file).value().size == 5);
  CHECK(sim.setattr(sim.id("mix/symlink"), set_mode(0600)).error_number() == EOPNOTSUPP);
  CHECK(sim.setattr(sim.id("mix"), set_mode(0700)).value().mode == (S_IFDIR | 0700u));
}

TEST_CASE("a file that is written at random reads as its model") {
  const uint64_t seed = test::seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const char* name : {"largest-file", "empty-file"}) {
    Sim sim("mix");
    const std::string path = std::string("mix/") + name;
    const uint64_t file = sim.open(path, O_RDWR).value();
    std::string model = sim.read(file, 0, 1 << 20).value();
    for (int step = 0; step < 400; ++step) {
      const uint64_t offset = random() % 90'000;
      const uint64_t length = random() % 9000;
      const uint64_t what = random() % 8;
      if (what == 0) {
        REQUIRE(sim.setattr(sim.id(path), set_size(offset)).ok());
        model.resize(offset);
      } else if (what == 1 && length > 0) {
        constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        REQUIRE(sim.fallocate(file, kPunch, offset, length).ok());
        for (size_t i = offset; i < std::min(offset + length, model.size()); ++i) model[i] = '\0';
      } else if (length > 0) {
        const std::string bytes(length, static_cast<char>('a' + random() % 26));
        REQUIRE(sim.write(file, offset, bytes).ok());
        if (model.size() < offset + length) model.resize(offset + length);
        model.replace(offset, length, bytes);
      }
      const uint64_t from = random() % 100'000;
      const auto piece = from < model.size() ? model.substr(from, 5000) : std::string();
      REQUIRE((sim.read(file, from, 5000).value() == piece));
      REQUIRE(sim.attr(path).size == model.size());
    }
    CHECK((sim->present_content(path) == model));
  }
}

TEST_CASE("a huge sparse file costs what is written in it") {
  Sim sim("mix,space=64K");
  const uint64_t file = sim.create("mix", "sparse").value().file;
  const uint64_t far = uint64_t{1} << 50;
  REQUIRE(sim.write(file, far, "end").ok());
  CHECK(sim.getattr_open(file).value().size == far + 3);
  CHECK(sim.read(file, far - 5, 100).value() == std::string("\0\0\0\0\0", 5) + "end");
  CHECK(sim.fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, far + 1).ok());
  CHECK(sim.read(file, far, 100).value() == std::string("\0nd", 3));
  CHECK(sim.setattr("", set_size(1), file).ok());
  CHECK(sim.setattr("", set_size(INT64_MAX), file).ok());
  CHECK(sim.setattr("", set_size(uint64_t{1} << 63), file).error_number() == EFBIG);
  CHECK(sim.write(file, INT64_MAX, "x").error_number() == EFBIG);
  CHECK(sim.write(file, UINT64_MAX, "x").error_number() == EFBIG);
  CHECK(sim.read(file, far, 5).value() == std::string(5, '\0'));
}

TEST_CASE("handles are good for what they were opened for") {
  Sim sim("big=5");
  const std::string path = std::string("big/") + kFile3;
  const uint64_t reader = sim.open(path, O_RDONLY).value();
  const uint64_t writer = sim.open(path, O_WRONLY).value();
  CHECK(sim.write(reader, 0, "x").error_number() == EBADF);
  CHECK(sim.read(writer, 0, 1).error_number() == EBADF);
  CHECK(sim.fallocate(reader, 0, 0, 1).error_number() == EBADF);
  CHECK(sim.copy(writer, 0, writer, 0, 1).error_number() == EBADF);
  CHECK(sim.copy(reader, 0, reader, 0, 1).error_number() == EBADF);
  REQUIRE(sim.open(path, O_WRONLY | O_TRUNC).ok());
  CHECK(sim.getattr_open(reader).value().size == 0);
  CHECK(sim.write(12345678, 0, "x").error_number() == EBADF);
  CHECK(sim.fsync(12345678).error_number() == ESTALE);
}

TEST_CASE("a file that was removed lives until it is closed for the last time") {
  Sim sim("big=5,space=1M");
  for (const bool computed : {true, false}) {
    const std::string name = computed ? kFile3 : "made";
    if (!computed) sim->release(sim.create("big", name).value().file);
    const ObjectId id = sim.id("big/" + name);
    const uint64_t one = sim.open("big/" + name, O_RDWR).value();
    const uint64_t other = sim.open("big/" + name, O_RDONLY).value();
    const std::string content = sim.read(one, 0, 1 << 20).value();
    REQUIRE(sim.unlink("big", name).ok());
    CHECK(getattr(*sim, id).error_number() == ESTALE);
    CHECK(sim.read(other, 0, 1 << 20).value() == content);
    REQUIRE(sim.write(one, content.size(), "more").ok());
    CHECK(sim.read(other, 0, 1 << 20).value() == content + "more");
    CHECK(sim.getattr_open(other).value().nlink == 0);
    sim->release(one);
    CHECK(sim.read(other, 0, 1 << 20).value() == content + "more");
    sim->release(other);
    CHECK(sim.read(other, 0, 10).error_number() == ESTALE);
    CHECK(sim.getattr_open(other).error_number() == ESTALE);
    sim->release(other);
  }
  // All of it is given back.
  const uint64_t file = sim.create("big", "large").value().file;
  CHECK(sim.write(file, 0, std::string(1 << 20, 'x')).ok());
}

TEST_CASE("fallocate and copy_range") {
  Sim sim("mix");
  const uint64_t from = sim.open("mix/largest-file", O_RDONLY).value();
  const uint64_t to = sim.create("mix", "copy").value().file;
  const std::string whole = sim.read(from, 0, 1 << 20).value();
  CHECK(sim.copy(from, 0, to, 10, 1 << 20).value() == 65536);
  CHECK(sim.read(to, 10, 1 << 20).value() == whole);
  CHECK(sim.copy(from, 65536, to, 0, 10).value() == 0);
  CHECK(sim.copy(to, 0, to, 5, 10).error_number() == EINVAL);
  CHECK(sim.copy(to, 0, to, 100'000, 10).value() == 10);
  CHECK(sim.copy(from, 0, to, UINT64_MAX, 10).error_number() == EFBIG);
  CHECK(sim.fallocate(to, 0, 0, 200'000).ok());
  CHECK(sim.attr("mix/copy").size == 200'000);
  CHECK(sim.fallocate(to, FALLOC_FL_KEEP_SIZE, 0, 300'000).ok());
  CHECK(sim.attr("mix/copy").size == 200'000);
  CHECK(sim.fallocate(to, FALLOC_FL_ZERO_RANGE, 10, 100).ok());
  CHECK(sim.read(to, 10, 200).value() == std::string(100, '\0') + whole.substr(100, 100));
  CHECK(sim.fallocate(to, 0, 0, 0).error_number() == EINVAL);
  CHECK(sim.fallocate(to, FALLOC_FL_COLLAPSE_RANGE, 0, 4096).error_number() == EOPNOTSUPP);
  CHECK(sim.fallocate(to, FALLOC_FL_PUNCH_HOLE, 0, 4096).error_number() == EOPNOTSUPP);
}

TEST_CASE("space= is the end of it: ENOSPC, until something is given back") {
  Sim sim("big=5,space=100K");
  const auto free_bytes = [&] {
    const auto answer = sim.as<StatfsAnswer>(nullptr, &Backend::statfs, sim.id("/")).value();
    return answer.blocks_available * answer.block_size;
  };
  CHECK(free_bytes() == 100 << 10);
  const uint64_t file = sim.create("big", "f").value().file;
  REQUIRE(sim.write(file, 0, std::string(64 << 10, 'x')).ok());
  CHECK(free_bytes() == 36 << 10);
  CHECK(sim.write(file, 64 << 10, std::string(40 << 10, 'x')).error_number() == ENOSPC);
  CHECK(sim.attr("big/f").size == 64 << 10);
  CHECK(sim.fallocate(file, 0, 0, 128 << 10).error_number() == ENOSPC);
  CHECK(sim.write(file, 0, std::string(64 << 10, 'y')).ok());
  CHECK(sim.write(file, 64 << 10, std::string(36 << 10, 'x')).ok());
  CHECK(sim.write(file, 100 << 10, "x").error_number() == ENOSPC);
  CHECK(sim.setattr(sim.id("big/f"), set_size(10)).ok());
  CHECK(sim.write(file, 100 << 10, "x").ok());
  sim->release(file);
  REQUIRE(sim.unlink("big", "f").ok());
  CHECK(free_bytes() == 100 << 10);
}

TEST_CASE("unstable=yes: a reboot loses what was not committed, and says so") {
  Sim sim("mix,unstable=yes");
  const uint64_t file = sim.open("mix/largest-file", O_RDWR).value();
  const uint64_t fresh = sim.create("mix", "new").value().file;
  const std::string whole = sim.read(file, 0, 1 << 20).value();
  const WriteAnswer first = sim.write(file, 5, "first").value();
  CHECK_FALSE(first.stable);
  CHECK(sim.fsync(file).value() == first.verifier);
  std::string committed = whole;
  committed.replace(5, 5, "first");
  REQUIRE(sim.write(file, 8, "second").ok());
  REQUIRE(sim.write(file, 80'000, "end").ok());
  REQUIRE(sim.write(fresh, 0, "lost").ok());
  CHECK(sim.read(file, 5, 9).value() == "firsecond");
  const uint64_t change = sim.attr("mix/largest-file").change;
  sim->lose_unstable();
  CHECK((sim.read(file, 0, 1 << 20).value() == committed));
  CHECK(sim.attr("mix/largest-file").change != change);
  CHECK(sim.attr("mix/new").size == 0);
  CHECK(sim.fsync(file).value() != first.verifier);
  CHECK(sim.write(file, 0, "x").value().verifier == sim.fsync(file).value());
  // A truncation is done when it is answered.
  REQUIRE(sim.write(fresh, 0, "0123456789").ok());
  REQUIRE(sim.setattr(sim.id("mix/new"), set_size(4)).ok());
  sim->lose_unstable();
  CHECK(sim.read(fresh, 0, 100).value() == "0123");

  Sim stable("mix");
  const uint64_t safe = stable.create("mix", "new").value().file;
  const WriteAnswer answer = stable.write(safe, 0, "kept").value();
  CHECK(answer.stable);
  stable->lose_unstable();
  CHECK(stable.read(safe, 0, 100).value() == "kept");
}

TEST_CASE("extended attributes, where xattr=yes") {
  Sim sim("big=5,xattr=yes");
  const ObjectId id = sim.id(std::string("big/") + kFile3);
  const auto set = [&](const std::string& name, const std::string& value, int flags) {
    return sim.as<Nothing>(nullptr, &Backend::setxattr, id, name, value, flags).error_number();
  };
  const auto get = [&](const std::string& name) {
    return sim.as<std::string>(nullptr, &Backend::getxattr, id, name);
  };
  CHECK(get("user.x").error_number() == ENODATA);
  CHECK(set("user.x", "v", XATTR_REPLACE) == ENODATA);
  CHECK(set("user.x", std::string("a\0b", 3), XATTR_CREATE) == 0);
  CHECK(set("user.x", "v", XATTR_CREATE) == EEXIST);
  CHECK(get("user.x").value() == std::string("a\0b", 3));
  CHECK(set("user.y", "", 0) == 0);
  CHECK(set("", "v", 0) == EINVAL);
  CHECK(set(std::string(256, 'n'), "v", 0) == ERANGE);
  CHECK(set("user.big", std::string(65537, 'v'), 0) == E2BIG);
  CHECK(sim.as<std::string>(nullptr, &Backend::listxattr, id).value() ==
        std::string("user.x\0user.y\0", 14));
  const auto remove = [&](const std::string& name) {
    return sim.as<Nothing>(nullptr, &Backend::removexattr, id, name).error_number();
  };
  CHECK(remove("user.x") == 0);
  CHECK(remove("user.x") == ENODATA);
  Sim none("big=5");
  CHECK(none.as<Nothing>(nullptr, &Backend::setxattr, id, std::string("user.x"), std::string(), 0)
            .error_number() == ENOSYS);
}

TEST_CASE("changes elsewhere take effect at once and are no requests") {
  Sim sim("big=9,tree=2x2,rtt=10ms");
  const std::string path = std::string("big/") + kFile3;
  const uint64_t token = sim.token("tree/dir-0");
  const uint64_t change = sim.attr(path).change;
  REQUIRE(sim->write_elsewhere(path, "theirs", 3).ok());
  CHECK(sim->present_content(path).substr(3, 6) == "theirs");
  CHECK(sim.attr(path).change != change);
  REQUIRE(sim->truncate_elsewhere(path, 5).ok());
  CHECK(sim.attr(path).size == 5);
  REQUIRE(sim->create_elsewhere("tree/dir-0/new", "content").ok());
  CHECK(sim->present_content("/tree/dir-0/new") == "content");
  CHECK(sim.token("tree/dir-0") != token);
  REQUIRE(sim->mkdir_elsewhere("tree/dir-0/sub").ok());
  REQUIRE(sim->rename_elsewhere("tree/dir-0/new", "tree/dir-0/sub/moved").ok());
  CHECK(sim->remove_elsewhere("tree/dir-0/sub").error_number() == ENOTEMPTY);
  REQUIRE(sim->remove_elsewhere("tree/dir-0/sub/moved").ok());
  REQUIRE(sim->remove_elsewhere("tree/dir-0/sub").ok());
  CHECK(sim->write_elsewhere("nowhere", "x").error_number() == ENOENT);
  CHECK(sim->create_elsewhere(path).error_number() == EEXIST);
  CHECK(sim->mkdir_elsewhere("no/where").error_number() == ENOENT);
  CHECK(sim->remove_elsewhere("tree/none").error_number() == ENOENT);
  CHECK(sim->rename_elsewhere("tree/none", "x").error_number() == ENOENT);
  CHECK(sim->truncate_elsewhere("tree", 0).error_number() == EISDIR);
  CHECK(sim->counters().requests == 0);
}

TEST_CASE("requests are counted by kind and take their time and bandwidth") {
  using namespace std::chrono_literals;
  Sim sim("big=9,rtt=10ms,bandwidth=1M");
  const uint64_t file = sim.create("big", "f").value().file;
  REQUIRE(sim.write(file, 0, std::string(1 << 20, 'x')).ok());
  CHECK(sim->scheduler().elapsed() > 1s);
  REQUIRE(sim.fsync(file).ok());
  REQUIRE(sim.unlink("big", "f").ok());
  CHECK(sim->requests(SimRequestKind::kChange) == 2);
  CHECK(sim->requests(SimRequestKind::kWrite) == 1);
  CHECK(sim->requests(SimRequestKind::kCommit) == 1);
}

TEST_CASE("lostreply: the change is made, and its asker told ENOTCONN") {
  Sim sim("big=9,faults=lostreply:1,rtt=10ms");
  CHECK(sim.create("big", "f").error_number() == ENOTCONN);
  CHECK(sim->scheduler().elapsed() == std::chrono::milliseconds(10));
  CHECK(sim.exists("big/f"));
  const uint64_t file = sim.open("big/f", O_RDWR).value();
  CHECK(sim.write(file, 0, "there").error_number() == ENOTCONN);
  CHECK(sim.read(file, 0, 10).value() == "there");
  CHECK(sim.fsync(file).error_number() == ENOTCONN);
  CHECK(sim.unlink("big", "f").error_number() == ENOTCONN);
  CHECK_FALSE(sim.exists("big/f"));
  CHECK(list_after(*sim, sim.id("big"), 100).error == 0);
  CHECK(sim->counters().errors == 4);
}

TEST_CASE("a file that was opened for nobody is not kept open") {
  Sim sim("big=9,space=4K,faults=lostreply:1");
  const std::string block(4096, 'x');
  CHECK(sim.create("big", "f").error_number() == ENOTCONN);
  REQUIRE(sim->write_elsewhere("big/f", block).ok());
  {
    const SimScheduler::Hold hold(sim->scheduler());
    const auto id = sim->open(nullptr, sim.id("big/f"), O_RDONLY, [](Result<uint64_t>) {});
    sim->cancel(id);
  }
  CHECK(sim->create_elsewhere("big/none", block).error_number() == ENOSPC);
  REQUIRE(sim->remove_elsewhere("big/f").ok());
  CHECK(sim->write_elsewhere("big/none", block).ok());
}

TEST_CASE("reboot: before a change, what was not committed is lost") {
  Sim sim("big=9,unstable=yes,faults=reboot:1");
  const uint64_t file = sim.create("big", "f").value().file;
  const uint64_t verifier = sim.write(file, 0, "first").value().verifier;
  CHECK(sim.read(file, 0, 10).value() == "first");
  CHECK(sim.fsync(file).value() != verifier);
  CHECK(sim.read(file, 0, 10).value().empty());
}

TEST_CASE("the faults that were there before hit the same requests as before") {
  const auto faults = [](const SimFaultRates& rates, SimFaultScope scope) {
    std::vector<SimFault> list;
    for (uint64_t serial = 0; serial < 2000; ++serial) {
      list.push_back(draw_sim_fault(rates, 7, serial, scope).fault);
    }
    return list;
  };
  SimFaultRates old;
  old.error = old.timeout = old.disconnect = old.repeat = old.empty = old.badname = 0.05;
  SimFaultRates more = old;
  more.lostreply = more.reboot = 0.5;
  CHECK(faults(old, SimFaultScope::kListing) == faults(more, SimFaultScope::kListing));
  CHECK(faults(old, SimFaultScope::kOther) == faults(more, SimFaultScope::kOther));
  const auto before = faults(old, SimFaultScope::kChange);
  const auto now = faults(more, SimFaultScope::kChange);
  for (size_t i = 0; i < now.size(); ++i) {
    if (before[i] != SimFault::kNone) REQUIRE(now[i] == before[i]);
  }
  CHECK(std::count(now.begin(), now.end(), SimFault::kLostReply) > 300);
  CHECK(std::count(now.begin(), now.end(), SimFault::kReboot) > 100);
}

}  // namespace
}  // namespace fusefs
