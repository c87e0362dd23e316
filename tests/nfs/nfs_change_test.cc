// Changes through the NFS back end, against a real server: they are done, as whoever asks, and what
// is told of them is what the server's directory holds then.

#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <set>

#include "tests/nfs/nfs_change_rig.h"
#include "tests/support/eventually.h"

using test::caller;
using test::change_version;
using test::ChangeRig;
using test::DirChange;
using test::ObjectId;
using test::put_file;
using test::SetAttr;
using test::text_of;
using test::WritableDir;

namespace {

void check_entry(const fusefs::LookupAnswer& entry, const struct stat& status) {
  CHECK(entry.attr.ino == status.st_ino);
  CHECK(entry.attr.mode == status.st_mode);
  CHECK(entry.attr.uid == status.st_uid);
  CHECK(entry.attr.gid == status.st_gid);
  CHECK(entry.attr.nlink == status.st_nlink);
}

// Whether the server tells a directory's states before and after a change so that they prove
// something. nfs-ganesha's changes by version 4 are not atomic, it says.
bool tells_changes() { return change_version() == "3"; }

}  // namespace

TEST_CASE("new objects are what was asked for, and are found") {
  const WritableDir dir("plain", "made");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("made");
  const auto file = rig.create(parent, "file", 0640);
  REQUIRE(file.ok());
  check_entry(file.value().entry, dir.stat_of("file"));
  CHECK(dir.stat_of("file").st_mode == (S_IFREG | 0640));
  const auto sub = rig.mkdir(parent, "sub", 01775);
  REQUIRE(sub.ok());
  check_entry(sub.value().entry, dir.stat_of("sub"));
  CHECK(dir.stat_of("sub").st_mode == (S_IFDIR | 01775));
  const auto link = rig.symlink(parent, "link", "some/where else");
  REQUIRE(link.ok());
  CHECK(rig.readlink(link.value().entry.id).value() == "some/where else");
  const auto pipe = rig.mknod(parent, "pipe", S_IFIFO | 0600);
  REQUIRE(pipe.ok());
  CHECK(dir.stat_of("pipe").st_mode == (S_IFIFO | 0600));
  const auto socket = rig.mknod(parent, "socket", S_IFSOCK | 0600);
  REQUIRE(socket.ok());
  CHECK(S_ISSOCK(dir.stat_of("socket").st_mode));
  const auto device = rig.mknod(parent, "device", S_IFCHR | 0600, makedev(1, 3));
  REQUIRE(device.ok());
  CHECK(dir.stat_of("device").st_rdev == makedev(1, 3));
  CHECK(device.value().entry.attr.rdev == makedev(1, 3));
  const auto plain = rig.mknod(parent, "plain", S_IFREG | 0600);
  REQUIRE(plain.ok());
  CHECK(dir.stat_of("plain").st_size == 0);
  const auto hard = rig.link(file.value().entry.id, parent, "hard");
  REQUIRE(hard.ok());
  check_entry(hard.value().entry, dir.stat_of("file"));
  CHECK(dir.stat_of("file").st_nlink == 2);
  for (const char* name : {"file", "sub", "link", "pipe", "socket", "device", "plain", "hard"}) {
    const auto found = rig.lookup(parent, name);
    INFO(name);
    REQUIRE(found.ok());
    CHECK(rig.getattr(found.value().id).ok());
  }
  CHECK(rig.lookup(parent, "sub").value().id == sub.value().entry.id);
  rig.backend().release(file.value().file);
}

TEST_CASE("what can't be made, linked or removed says why") {
  const WritableDir dir("plain", "refused");
  put_file(dir / "file");
  std::filesystem::create_directories(dir / "full/sub");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("refused");
  const ObjectId file = rig.find("refused/file");
  CHECK(rig.create(parent, "file").error_number() == EEXIST);
  CHECK(rig.mkdir(parent, "file").error_number() == EEXIST);
  CHECK(rig.symlink(parent, "file", "x").error_number() == EEXIST);
  CHECK(rig.mknod(parent, "full", S_IFIFO | 0600).error_number() == EEXIST);
  CHECK(rig.link(file, parent, "full").error_number() == EEXIST);
  CHECK(rig.create(file, "x").error_number() == ENOTDIR);
  CHECK(rig.mkdir(parent, "a/b").error_number() == EINVAL);
  CHECK(rig.mkdir(parent, "..").error_number() == EINVAL);
  CHECK(rig.mkdir(parent, "").error_number() == EINVAL);
  CHECK(rig.mkdir(parent, std::string(256, 'x')).error_number() == ENAMETOOLONG);
  CHECK(rig.unlink(parent, "none").error_number() == ENOENT);
  CHECK(rig.rmdir(parent, "none").error_number() == ENOENT);
  CHECK(rig.rmdir(parent, "full").error_number() == ENOTEMPTY);
  CHECK(rig.rmdir(parent, "file").error_number() == ENOTDIR);
  const int error = rig.unlink(parent, "full").error_number();
  CHECK((error == EISDIR || error == EPERM));
  CHECK(dir.has("full/sub"));
  CHECK(rig.rename(parent, "none", parent, "other").error_number() == ENOENT);
  CHECK(rig.rename(parent, "file", parent, "full").error_number() != 0);
  CHECK(rig.rename(parent, "full", rig.find("refused/full/sub"), "in itself").error_number() ==
        EINVAL);
  for (const uint32_t flags : {1u, 2u}) {  // NOREPLACE, EXCHANGE
    CHECK(rig.rename(parent, "file", parent, "new", flags).error_number() == EINVAL);
  }
  CHECK(dir.has("file"));
}

TEST_CASE("what the protocol has not is refused as such") {
  const WritableDir dir("plain", "lacking");
  put_file(dir / "file");
  ChangeRig rig("plain");
  const ObjectId file = rig.find("lacking/file");
  CHECK(rig.wait<fusefs::Nothing>(
               [&](auto done) { rig.backend().setxattr(nullptr, file, "user.x", "y", 0, done); })
            .error_number() == EOPNOTSUPP);
  CHECK(rig.wait<fusefs::Nothing>(
               [&](auto done) { rig.backend().removexattr(nullptr, file, "user.x", done); })
            .error_number() == EOPNOTSUPP);
  const auto open = rig.open(file, nullptr, O_RDWR);
  REQUIRE(open.ok());
  CHECK(rig.wait<fusefs::Nothing>(
               [&](auto done) { rig.backend().fallocate(nullptr, open.value(), 0, 0, 10, done); })
            .error_number() == EOPNOTSUPP);
  rig.backend().release(open.value());
  CHECK(rig.write(open.value(), 0, "x").error_number() == EBADF);
}

TEST_CASE("removed and renamed objects are gone from their names") {
  const WritableDir dir("plain", "moved");
  put_file(dir / "file", "content");
  put_file(dir / "target", "old");
  std::filesystem::create_directories(dir / "a/b");
  std::filesystem::create_directory(dir / "empty");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("moved");
  const ObjectId sub = rig.find("moved/a");
  REQUIRE(rig.rename(parent, "file", parent, "target").ok());
  CHECK(text_of(dir / "target") == "content");
  CHECK_FALSE(dir.has("file"));
  CHECK(rig.lookup(parent, "file").error_number() == ENOENT);
  REQUIRE(rig.rename(parent, "target", sub, "there").ok());
  CHECK(text_of(dir / "a/there") == "content");
  REQUIRE(rig.unlink(sub, "there").ok());
  CHECK_FALSE(dir.has("a/there"));
  REQUIRE(rig.rmdir(parent, "empty").ok());
  CHECK_FALSE(dir.has("empty"));
  // A name again, for another object.
  const auto again = rig.mkdir(parent, "empty");
  REQUIRE(again.ok());
  CHECK(rig.getattr(again.value().entry.id).value().ino == dir.stat_of("empty").st_ino);
}

TEST_CASE("ids after a directory was renamed lead to what was in it") {
  const WritableDir dir("plain", "ids_moved");
  std::filesystem::create_directories(dir / "old/deep");
  put_file(dir / "old/deep/file", "found");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("ids_moved");
  const ObjectId old = rig.find("ids_moved/old");
  const ObjectId file = rig.find("ids_moved/old/deep/file");
  REQUIRE(rig.rename(parent, "old", parent, "new").ok());
  // Another one takes the name.
  REQUIRE(rig.mkdir(parent, "old").ok());
  const ObjectId moved = rig.find("ids_moved/new");
  CHECK(rig.backend().moved_id(old, old, moved) == moved);
  const ObjectId file_now = rig.backend().moved_id(file, old, moved);
  CHECK(file_now == rig.find("ids_moved/new/deep/file"));
  CHECK(rig.getattr(file_now).value().ino == dir.stat_of("new/deep/file").st_ino);
  CHECK(rig.getattr(file).error_number() == ESTALE);
  CHECK(rig.backend().moved_id(parent, old, moved).empty());
  CHECK(rig.backend().moved_id(rig.find("ids_moved/old"), old, moved).empty());  // the other one
  ChangeRig fresh("plain");                                                      // knows no handles
  CHECK(fresh.getattr(file_now).ok());
}

TEST_CASE("files are written, truncated and read back") {
  const WritableDir dir("disk", "written");
  for (const char* wsize : {"1M", "64K"}) {
    ChangeRig rig("disk", 0, {{"wsize", wsize}, {"rsize", "64K"}});
    const ObjectId parent = rig.find("written");
    const auto file = rig.create(parent, std::string("big") + wsize);
    REQUIRE(file.ok());
    const auto open = file.value().file;
    std::string content;
    for (int i = 0; content.size() < 1'000'003; ++i) content += std::to_string(i) + "\n";
    REQUIRE(rig.write(open, 0, content).ok());
    REQUIRE(rig.write(open, 500'000, "in the middle").ok());
    content.replace(500'000, 13, "in the middle");
    const auto committed = rig.fsync(open);
    REQUIRE(committed.ok());
    const bool same = text_of(dir / ("big" + std::string(wsize))) == content;
    CHECK(same);
    CHECK(rig.read(open, 499'990, 100).value() == content.substr(499'990, 100));
    SetAttr shorter;
    shorter.valid = SetAttr::kSize;
    shorter.size = 10;
    CHECK(rig.setattr(file.value().entry.id, shorter, open).value().size == 10);
    CHECK(rig.read(open, 0, 100).value() == content.substr(0, 10));
    rig.backend().release(open);
    const auto emptied = rig.open(file.value().entry.id, nullptr, O_WRONLY | O_TRUNC);
    REQUIRE(emptied.ok());
    CHECK(rig.getattr_open(emptied.value()).value().size == 0);
    rig.backend().release(emptied.value());
  }
}

TEST_CASE("what is asked to be durable is, in one request") {
  const WritableDir dir("disk", "durable");
  ChangeRig rig("disk", 0, {{"wsize", "64K"}});
  const auto made = rig.create(rig.find("durable"), "file");
  REQUIRE(made.ok());
  const uint64_t before = rig.backend().counters().requests;
  const auto write = [&](const std::string& bytes) {
    return rig.write(made.value().file, 0, bytes, nullptr, cache::StableHow::kFileSync);
  };
  const auto written = write("content");
  REQUIRE(written.ok());
  CHECK(written.value().stable);
  CHECK(written.value().durable);
  CHECK(rig.backend().counters().requests == before + 1);
  // In several requests, which are for a commit where the server makes a difference.
  const auto large = write(std::string(200 << 10, 'x'));
  REQUIRE(large.ok());
  CHECK((large.value().stable || !large.value().durable));
  rig.backend().release(made.value().file);
}

TEST_CASE("what is written is stable, or is with the commit's verifier") {
  const WritableDir dir("disk", "verified");
  ChangeRig rig("disk");
  const auto file = rig.create(rig.find("verified"), "file");
  REQUIRE(file.ok());
  const auto written = rig.write(file.value().file, 0, "content");
  REQUIRE(written.ok());
  const auto committed = rig.fsync(file.value().file);
  REQUIRE(committed.ok());
  CHECK((written.value().stable || written.value().verifier == committed.value()));
  CHECK(rig.backend().max_write() <= 1u << 20);
  CHECK(rig.backend().max_write() >= 4096);
  rig.backend().release(file.value().file);
}

TEST_CASE("attributes are set, and told as they are then") {
  const WritableDir dir("plain", "attributes");
  put_file(dir / "file", "content");
  ChangeRig rig("plain");
  const ObjectId file = rig.find("attributes/file");
  SetAttr set;
  set.valid = SetAttr::kMode | SetAttr::kUid | SetAttr::kGid | SetAttr::kAtime | SetAttr::kMtime;
  set.mode = 0604;
  set.uid = 1234;
  set.gid = 4321;
  set.atime = {1'000'000'000, 5'000};
  set.mtime = {2'000'000'000, 7'000};
  const auto attr = rig.setattr(file, set);
  REQUIRE(attr.ok());
  CHECK(attr.value().mode == (S_IFREG | 0604));
  CHECK(attr.value().uid == 1234);
  CHECK(attr.value().gid == 4321);
  CHECK(attr.value().mtime == set.mtime);
  const struct stat status = dir.stat_of("file");
  CHECK(status.st_mode == (S_IFREG | 0604));
  CHECK(status.st_uid == 1234);
  CHECK(status.st_mtim.tv_sec == 2'000'000'000);
  CHECK(status.st_atim.tv_sec == 1'000'000'000);
  CHECK(status.st_atim.tv_nsec == 5'000);
  SetAttr now;
  now.valid = SetAttr::kMtimeNow | SetAttr::kAtimeNow;
  CHECK(rig.setattr(file, now).value().mtime.seconds < 2'000'000'000);
  SetAttr longer;
  longer.valid = SetAttr::kSize;
  longer.size = 100;
  CHECK(rig.setattr(file, longer).value().size == 100);
  CHECK(text_of(dir / "file") == "content" + std::string(93, '\0'));
}

TEST_CASE("changes are made as whoever asks for them") {
  const WritableDir dir("plain", "whose");
  put_file(dir / "roots", "secret");
  std::filesystem::create_directory(dir / "closed");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("whose");
  const auto user = caller(1000, 1001);
  const auto other = caller(1002, 1002);
  const auto made = rig.create(parent, "own", 0400, O_RDWR | O_EXCL, user);
  REQUIRE(made.ok());
  CHECK(dir.stat_of("own").st_uid == 1000);
  CHECK(dir.stat_of("own").st_gid == 1001);
  // Whoever made a file writes it, whatever its mode says.
  CHECK(rig.write(made.value().file, 0, "mine", user).ok());
  CHECK(rig.fsync(made.value().file).ok());
  rig.backend().release(made.value().file);
  CHECK(text_of(dir / "own") == "mine");
  REQUIRE(rig.mkdir(parent, "sub", 0755, user).ok());
  CHECK(dir.stat_of("sub").st_uid == 1000);
  REQUIRE(rig.symlink(parent, "link", "x", user).ok());
  CHECK(dir.stat_of("link").st_uid == 1000);
  CHECK(rig.open(rig.find("whose/roots"), user, O_RDWR).error_number() == EACCES);
  CHECK(rig.open(rig.find("whose/roots"), user, O_WRONLY | O_TRUNC).error_number() == EACCES);
  CHECK(text_of(dir / "roots") == "secret");
  CHECK(rig.create(rig.find("whose/closed"), "x", 0644, O_RDWR, user).error_number() == EACCES);
  CHECK(rig.mkdir(rig.find("whose/sub"), "x", 0755, other).error_number() == EACCES);
  SetAttr mode;
  mode.valid = SetAttr::kMode;
  mode.mode = 0777;
  const int error = rig.setattr(rig.find("whose/own"), mode, 0, other).error_number();
  CHECK((error == EPERM || error == EACCES));
}

TEST_CASE("without O_EXCL a file that is there is opened") {
  const WritableDir dir("plain", "there");
  put_file(dir / "file", "content");
  std::filesystem::create_directory(dir / "sub");
  REQUIRE(chmod((dir / "file").c_str(), 0606) == 0);
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("there");
  const auto opened = rig.create(parent, "file", 0777, O_RDWR);
  REQUIRE(opened.ok());
  CHECK(dir.stat_of("file").st_mode == (S_IFREG | 0606));
  CHECK(rig.read(opened.value().file, 0, 100).value() == "content");
  rig.backend().release(opened.value().file);
  const auto emptied = rig.create(parent, "file", 0777, O_WRONLY | O_TRUNC);
  REQUIRE(emptied.ok());
  CHECK(dir.stat_of("file").st_size == 0);
  rig.backend().release(emptied.value().file);
  CHECK(rig.create(parent, "sub", 0777, O_RDWR).error_number() == EISDIR);
}

TEST_CASE("an open file is written and read when it has another name") {
  const WritableDir dir("plain", "renamed_open");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("renamed_open");
  const auto file = rig.create(parent, "old");
  REQUIRE(file.ok());
  REQUIRE(rig.write(file.value().file, 0, "before ").ok());
  REQUIRE(rig.rename(parent, "old", parent, "new").ok());
  put_file(dir / "old", "another file");
  REQUIRE(rig.write(file.value().file, 7, "after").ok());
  REQUIRE(rig.fsync(file.value().file).ok());
  CHECK(text_of(dir / "new") == "before after");
  CHECK(text_of(dir / "old") == "another file");
  CHECK(rig.getattr_open(file.value().file).value().ino == dir.stat_of("new").st_ino);
  CHECK(rig.read(file.value().file, 0, 100).value() == "before after");
  rig.backend().release(file.value().file);
}

TEST_CASE("a file that was unlinked is kept while it is open, or is said not to be") {
  const WritableDir dir("plain", "unlinked_open");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("unlinked_open");
  const auto file = rig.create(parent, "file");
  REQUIRE(file.ok());
  REQUIRE(rig.write(file.value().file, 0, "content").ok());
  REQUIRE(rig.unlink(parent, "file").ok());
  const auto bytes = rig.read(file.value().file, 0, 100);
  if (rig.backend().keeps_unlinked()) {
    CHECK(bytes.value() == "content");
  } else {
    CHECK((bytes.ok() || bytes.error_number() == ESTALE));
  }
  rig.backend().release(file.value().file);
}

TEST_CASE("change tokens: own changes are a chain, and others' break it") {
  const WritableDir dir("plain", "chain");
  put_file(dir / "first");
  std::filesystem::create_directory(dir / "sub");
  ChangeRig rig("plain");
  const ObjectId id = rig.find("chain");
  const auto token = [&] { return rig.getattr(id).value().change; };
  REQUIRE(test::eventually([&] {
    const uint64_t before = token();
    return before == token();
  }));
  const uint64_t listed = rig.list(id, 100, true).change;
  const DirChange made = rig.mknod(id, "pipe", S_IFIFO | 0600).value().parent;
  if (!tells_changes()) {
    CHECK(made.before == 0);
    CHECK(made.after == 0);
    return;
  }
  CHECK(made.before == listed);
  const auto file = rig.create(id, "file");
  CHECK(file.value().parent.before == made.after);
  rig.backend().release(file.value().file);
  const DirChange linked = rig.link(file.value().entry.id, id, "hard").value().parent;
  CHECK(linked.before == file.value().parent.after);
  const DirChange pointed = rig.symlink(id, "soft", "x").value().parent;
  CHECK(pointed.before == linked.after);
  const auto renamed = rig.rename(id, "file", id, "renamed").value();
  CHECK(renamed.from.before == pointed.after);
  CHECK(renamed.to.after == renamed.from.after);
  const DirChange removed = rig.unlink(id, "hard").value();
  CHECK(removed.before == renamed.from.after);
  // Another client: the chain breaks.
  const uint64_t seen = token();
  CHECK(seen != listed);
  std::filesystem::remove(dir / "first");
  put_file(dir / "foreign");
  put_file(dir / "foreign too");
  const DirChange after = rig.rmdir(id, "sub").value();
  CHECK(after.before != removed.after);
  CHECK(after.after != removed.after);
  // What the last change left is looked at again.
  CHECK(token() != after.after);
}

TEST_CASE("change tokens: both directories of a rename") {
  const WritableDir dir("plain", "two");
  std::filesystem::create_directory(dir / "a");
  std::filesystem::create_directory(dir / "b");
  ChangeRig rig("plain");
  const ObjectId a = rig.find("two/a");
  const ObjectId b = rig.find("two/b");
  const DirChange in_a = rig.mknod(a, "file", S_IFREG | 0600).value().parent;
  const DirChange in_b = rig.mknod(b, "other", S_IFREG | 0600).value().parent;
  const auto moved = rig.rename(a, "file", b, "file").value();
  if (!tells_changes()) return;
  CHECK(moved.from.before == in_a.after);
  CHECK(moved.to.before == in_b.after);
  CHECK(moved.from.after != moved.to.after);
  CHECK(rig.unlink(b, "file").value().before == moved.to.after);
  CHECK(rig.symlink(a, "soft", "x").value().parent.before == moved.from.after);
  // nfs-ganesha does not tell the state before a MKDIR: nothing is claimed then.
  const DirChange made = rig.mkdir(a, "sub").value().parent;
  CHECK((made.after == 0) == (made.before == 0));
  const DirChange removed = rig.rmdir(a, "sub").value();
  CHECK(removed.before != moved.from.after);
  CHECK(removed.after != 0);
}
