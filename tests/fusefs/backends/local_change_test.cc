// Changes through the local back end, on real directories: each is looked at with the kernel's own
// calls afterwards.

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "fusefs/backends/local/local_attr.h"
#include "fusefs/backends/local/local_backend.h"
#include "tests/support/random.h"
#include "tests/support/set_attr.h"
#include "tests/support/temp_dir.h"

namespace fusefs {
namespace {

using local::Resolver;
using test::put_file;
using test::set_mode;
using test::set_size;
using test::TempDir;
using test::text_of;

// A connected back end whose calls answer as functions do: all of these complete inside the call.
class Local {
 public:
  explicit Local(const std::string& path, Resolver resolver = Resolver::kAuto) {
    LocalBackend::Options options;
    options.resolver = resolver;
    backend_ = std::make_unique<LocalBackend>(path, options);
    std::string error_text;
    REQUIRE(backend_->connect(&error_text).ok());
  }
  LocalBackend& operator*() { return *backend_; }

  auto create(const ObjectId& parent, const std::string& name, uint32_t mode = 0644,
              int flags = O_RDWR | O_EXCL, const CallerPtr& caller = nullptr) {
    return ask<CreatedAnswer>(&Backend::create, caller, parent, name, mode, flags);
  }
  auto mkdir(const ObjectId& parent, const std::string& name, uint32_t mode = 0755,
             const CallerPtr& caller = nullptr) {
    return ask<MadeAnswer>(&Backend::mkdir, caller, parent, name, mode);
  }
  auto mknod(const ObjectId& parent, const std::string& name, uint32_t mode, uint64_t rdev = 0,
             const CallerPtr& caller = nullptr) {
    return ask<MadeAnswer>(&Backend::mknod, caller, parent, name, mode, rdev);
  }
  auto symlink(const ObjectId& parent, const std::string& name, const std::string& target,
               const CallerPtr& caller = nullptr) {
    return ask<MadeAnswer>(&Backend::symlink, caller, parent, name, target);
  }
  auto link(const ObjectId& id, const ObjectId& parent, const std::string& name) {
    return ask<MadeAnswer>(&Backend::link, nullptr, id, parent, name);
  }
  auto unlink(const ObjectId& parent, const std::string& name) {
    return ask<DirChange>(&Backend::unlink, nullptr, parent, name);
  }
  auto rmdir(const ObjectId& parent, const std::string& name) {
    return ask<DirChange>(&Backend::rmdir, nullptr, parent, name);
  }
  auto rename(const ObjectId& from, const std::string& name, const ObjectId& to,
              const std::string& new_name, uint32_t flags = 0) {
    return ask<RenamedAnswer>(&Backend::rename, nullptr, from, name, to, new_name, flags);
  }
  auto setattr(const ObjectId& id, const SetAttr& set, uint64_t file = 0) {
    return ask<Attr>(&Backend::setattr, nullptr, id, file, set);
  }
  auto setxattr(const ObjectId& id, const std::string& name, const std::string& value,
                int flags = 0) {
    return ask<Nothing>(&Backend::setxattr, nullptr, id, name, value, flags);
  }
  auto removexattr(const ObjectId& id, const std::string& name) {
    return ask<Nothing>(&Backend::removexattr, nullptr, id, name);
  }
  auto getxattr(const ObjectId& id, const std::string& name) {
    return ask<std::string>(&Backend::getxattr, nullptr, id, name);
  }
  auto getattr(const ObjectId& id) { return ask<Attr>(&Backend::getattr, nullptr, id); }
  auto open(const ObjectId& id, int flags) {
    return ask<uint64_t>(&Backend::open, nullptr, id, flags);
  }
  auto read(uint64_t file, uint64_t offset, uint32_t size) {
    return ask<std::string>(&Backend::read, nullptr, file, offset, size);
  }
  auto write(uint64_t file, uint64_t offset, const std::string& bytes) {
    return ask<WriteAnswer>(&Backend::write, nullptr, file, offset, bytes, StableHow::kUnstable);
  }
  auto fsync(uint64_t file) { return ask<uint64_t>(&Backend::fsync, nullptr, file); }
  auto getattr_open(uint64_t file) { return ask<Attr>(&Backend::getattr_open, nullptr, file); }
  auto fallocate(uint64_t file, int mode, uint64_t offset, uint64_t length) {
    return ask<Nothing>(&Backend::fallocate, nullptr, file, mode, offset, length);
  }
  auto copy(uint64_t from, uint64_t from_offset, uint64_t to, uint64_t to_offset, uint64_t length) {
    return ask<uint64_t>(&Backend::copy_range, nullptr, from, from_offset, to, to_offset, length);
  }
  void release(uint64_t file) { backend_->release(file); }

 private:
  template <typename T, typename Method, typename... Args>
  Result<T> ask(Method method, const CallerPtr& caller, const Args&... args) {
    std::optional<Result<T>> answer;
    const Backend::RequestId id =
        ((*backend_).*method)(caller, args..., [&](Result<T> got) { answer.emplace(got); });
    if (id != 0 || !answer) throw std::runtime_error("it did not answer from within the call");
    return std::move(*answer);
  }

  std::unique_ptr<LocalBackend> backend_;
};

struct stat lstat_of(const std::string& path) {
  struct stat st = {};
  REQUIRE(::lstat(path.c_str(), &st) == 0);
  return st;
}

bool exists(const std::string& path) {
  struct stat st;
  return ::lstat(path.c_str(), &st) == 0;
}

CallerPtr caller_of(uint32_t uid, uint32_t gid) {
  return std::make_shared<const Caller>(Caller{uid, gid, {}});
}

TEST_CASE("a file that is created is open, empty and has the mode that was asked for") {
  const TempDir dir;
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  REQUIRE(local.mkdir("", "d").ok());
  const CreatedAnswer made = local.create("d", "f", 04751).value();
  CHECK(made.entry.id == "d/f");
  CHECK(made.entry.attr.ino == lstat_of(dir / "d/f").st_ino);
  CHECK(made.entry.attr.mode == (S_IFREG | 04751u));
  CHECK(lstat_of(dir / "d/f").st_mode == (S_IFREG | 04751u));
  CHECK(made.entry.attr.size == 0);
  REQUIRE(local.write(made.file, 0, "hello").ok());
  CHECK(local.read(made.file, 0, 100).value() == "hello");
  CHECK(text_of(dir / "d/f") == "hello");
  local.release(made.file);
  CHECK(local.write(made.file, 0, "x").error_number() == EBADF);

  // The mode does not bind the one who creates.
  const CreatedAnswer locked = local.create("", "locked", 0).value();
  CHECK(local.write(locked.file, 0, "x").ok());
  CHECK(lstat_of(dir / "locked").st_mode == S_IFREG);
  local.release(locked.file);
}

TEST_CASE("this process's umask takes nothing off what was asked for") {
  const TempDir dir;
  Local local(dir.path());
  const mode_t before = ::umask(077);
  CHECK(local.create("", "file", 0664).ok());
  CHECK(local.mkdir("", "directory", 02775).ok());
  CHECK(local.mknod("", "pipe", S_IFIFO | 0666).ok());
  ::umask(before);
  CHECK(lstat_of(dir / "file").st_mode == (S_IFREG | 0664u));
  CHECK(lstat_of(dir / "directory").st_mode == (S_IFDIR | 02775u));
  CHECK(lstat_of(dir / "pipe").st_mode == (S_IFIFO | 0666u));
}

TEST_CASE("creating what is there: EEXIST with O_EXCL, else it is opened") {
  const TempDir dir;
  put_file(dir / "f", "content");
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  REQUIRE(::symlink("f", (dir / "link").c_str()) == 0);
  REQUIRE(::symlink("new", (dir / "dangling").c_str()) == 0);
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  for (const char* name : {"f", "pipe", "link", "dangling"}) {
    CHECK(local.create("", name).error_number() == EEXIST);
  }
  const CreatedAnswer opened = local.create("", "f", 0600, O_RDWR).value();
  CHECK(local.read(opened.file, 0, 100).value() == "content");
  CHECK(opened.entry.attr.mode == (S_IFREG | 0644u));
  CHECK(opened.parent.before == opened.parent.after);
  local.release(local.create("", "f", 0600, O_WRONLY | O_TRUNC).value().file);
  CHECK(text_of(dir / "f").empty());
  CHECK_FALSE(local.create("", "pipe", 0600, O_RDWR).ok());
  CHECK_FALSE(local.create("", "link", 0600, O_RDWR).ok());
  CHECK_FALSE(local.create("", "dangling", 0600, O_RDWR).ok());
  CHECK_FALSE(exists(dir / "new"));
  REQUIRE(local.mkdir("", "d").ok());
  CHECK(local.create("", "d", 0600, O_RDWR).error_number() == EISDIR);
  CHECK(local.mkdir("", "f").error_number() == EEXIST);
  CHECK(local.mknod("", "f", S_IFREG | 0600).error_number() == EEXIST);
  CHECK(local.symlink("", "f", "x").error_number() == EEXIST);
  CHECK(local.link("f", "", "d").error_number() == EEXIST);
}

TEST_CASE("every type of object is made") {
  const TempDir dir;
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  const MadeAnswer directory = local.mkdir("", "d", 01777).value();
  CHECK(directory.entry.attr.mode == (S_IFDIR | 01777u));
  CHECK(directory.entry.id == "d");
  CHECK(local.mknod("d", "regular", S_IFREG | 0604).value().entry.attr.mode == (S_IFREG | 0604u));
  CHECK(local.mknod("d", "pipe", S_IFIFO | 0620).value().entry.attr.mode == (S_IFIFO | 0620u));
  CHECK(local.mknod("d", "socket", S_IFSOCK | 0755).value().entry.attr.mode == (S_IFSOCK | 0755u));
  CHECK(local.mknod("d", "bad", S_IFDIR | 0755).error_number() == EPERM);
  const std::string target(4095, 't');
  CHECK(local.symlink("d", "link", target).value().entry.attr.size == 4095);
  CHECK(local.symlink("d", "longer", target + "t").error_number() == ENAMETOOLONG);
  CHECK(local.symlink("d", "empty", "").error_number() == ENOENT);
  CHECK(local.symlink("d", "nul", std::string("a\0b", 3)).error_number() == EINVAL);
  const Result<MadeAnswer> device = local.mknod("d", "null", S_IFCHR | 0666, makedev(1, 3));
  if (::geteuid() == 0 && device.ok()) {
    CHECK(device.value().entry.attr.rdev == makedev(1, 3));
    CHECK(lstat_of(dir / "d/null").st_rdev == makedev(1, 3));
  } else {
    CHECK(device.error_number() == EPERM);
  }
}

TEST_CASE("links lead to the same object; a symbolic link is linked itself") {
  const TempDir dir;
  put_file(dir / "f", "content");
  REQUIRE(::symlink("f", (dir / "s").c_str()) == 0);
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  REQUIRE(local.mkdir("", "d").ok());
  const MadeAnswer made = local.link("f", "d", "hard").value();
  CHECK(made.entry.id == "d/hard");
  CHECK(made.entry.attr.nlink == 2);
  CHECK(lstat_of(dir / "d/hard").st_ino == lstat_of(dir / "f").st_ino);
  CHECK(S_ISLNK(local.link("s", "d", "soft").value().entry.attr.mode));
  CHECK(lstat_of(dir / "d/soft").st_ino == lstat_of(dir / "s").st_ino);
  CHECK(local.link("d", "", "directory").error_number() == EPERM);
  CHECK(local.link("gone", "", "x").error_number() == ESTALE);
}

TEST_CASE("unlink and rmdir remove what they are for, and nothing else") {
  const TempDir dir;
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  REQUIRE(local.mkdir("", "d").ok());
  REQUIRE(local.mkdir("d", "e").ok());
  put_file(dir / "d/f");
  REQUIRE(::symlink("d", (dir / "link").c_str()) == 0);
  CHECK(local.rmdir("", "d").error_number() == ENOTEMPTY);
  CHECK(local.unlink("d", "e").error_number() == EISDIR);
  CHECK(local.rmdir("d", "f").error_number() == ENOTDIR);
  CHECK(local.rmdir("", "link").error_number() == ENOTDIR);
  CHECK(local.unlink("", "none").error_number() == ENOENT);
  CHECK(local.rmdir("", "none").error_number() == ENOENT);
  CHECK(local.unlink("none", "f").error_number() == ESTALE);
  CHECK(local.unlink("d/f", "x").error_number() == ENOTDIR);
  CHECK(local.unlink("", "link").ok());
  CHECK(local.unlink("d", "f").ok());
  CHECK(local.rmdir("d", "e").ok());
  CHECK(local.rmdir("", "d").ok());
  CHECK_FALSE(exists(dir / "d"));
  CHECK(local.getattr("d").error_number() == ESTALE);
}

TEST_CASE("names that no file can have are refused by every operation") {
  const TempDir dir;
  put_file(dir / "f");
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  REQUIRE(local.mkdir("", "d").ok());
  const std::pair<std::string, int> bad[] = {{"", EINVAL},
                                             {".", EINVAL},
                                             {"..", EINVAL},
                                             {"../x", EINVAL},
                                             {"a/b", EINVAL},
                                             {std::string("a\0b", 3), EINVAL},
                                             {std::string(256, 'n'), ENAMETOOLONG}};
  for (const auto& [name, error_number] : bad) {
    CAPTURE(name);
    CHECK(local.create("d", name).error_number() == error_number);
    CHECK(local.mkdir("d", name).error_number() == error_number);
    CHECK(local.mknod("d", name, S_IFREG).error_number() == error_number);
    CHECK(local.symlink("d", name, "t").error_number() == error_number);
    CHECK(local.link("f", "d", name).error_number() == error_number);
    CHECK(local.unlink("d", name).error_number() == error_number);
    CHECK(local.rmdir("d", name).error_number() == error_number);
    CHECK(local.rename("", "f", "d", name).error_number() == error_number);
    CHECK(local.rename("d", name, "", "g").error_number() == error_number);
  }
  CHECK(local.create("d", std::string(255, 'n')).ok());
  // An id that is too long for a path is none.
  std::string deep = "d";
  while (deep.size() + 201 < 4095) {
    REQUIRE(local.mkdir(deep, std::string(200, 'p')).ok());
    deep += "/" + std::string(200, 'p');
  }
  CHECK(local.mkdir(deep, std::string(255, 'p')).error_number() == ENAMETOOLONG);
  // Too deep for a walk by path: the test takes it away as it was made.
  while (deep != "d") {
    const size_t slash = deep.rfind('/');
    REQUIRE(local.rmdir(deep.substr(0, slash), deep.substr(slash + 1)).ok());
    deep.resize(slash);
  }
}

TEST_CASE("no change leads outside the root") {
  const TempDir dir;
  REQUIRE(::mkdir((dir / "root").c_str(), 0755) == 0);
  REQUIRE(::mkdir((dir / "root/in").c_str(), 0755) == 0);
  REQUIRE(::mkdir((dir / "outside").c_str(), 0755) == 0);
  put_file(dir / "outside/secret", "secret");
  put_file(dir / "root/f");
  REQUIRE(::symlink("../outside", (dir / "root/up").c_str()) == 0);
  REQUIRE(::symlink(dir.path().c_str(), (dir / "root/abs").c_str()) == 0);
  REQUIRE(::symlink("in", (dir / "root/inner").c_str()) == 0);
  REQUIRE(::symlink("../outside/secret", (dir / "root/secret").c_str()) == 0);
  Local local(dir / "root", GENERATE(Resolver::kAuto, Resolver::kWalk));
  for (const char* parent : {"up", "abs", "inner", "..", "../outside", "in/../..", "abs/outside"}) {
    CAPTURE(parent);
    CHECK_FALSE(local.create(parent, "new").ok());
    CHECK_FALSE(local.create(parent, "secret", 0600, O_RDWR | O_TRUNC).ok());
    CHECK_FALSE(local.mkdir(parent, "new").ok());
    CHECK_FALSE(local.mknod(parent, "new", S_IFREG).ok());
    CHECK_FALSE(local.symlink(parent, "new", "t").ok());
    CHECK_FALSE(local.link("f", parent, "new").ok());
    CHECK_FALSE(local.unlink(parent, "secret").ok());
    CHECK_FALSE(local.rmdir(parent, "outside").ok());
    CHECK_FALSE(local.rename("", "f", parent, "new").ok());
    CHECK_FALSE(local.rename(parent, "secret", "", "new").ok());
    CHECK_FALSE(local.rename(parent, "secret", "", "f", RENAME_EXCHANGE).ok());
  }
  for (const char* id : {"up/secret", "../outside/secret", "abs/outside/secret"}) {
    CAPTURE(id);
    CHECK_FALSE(local.open(id, O_RDWR | O_TRUNC).ok());
    CHECK_FALSE(local.link(id, "", "new").ok());
    CHECK_FALSE(local.setattr(id, set_mode(0)).ok());
    CHECK_FALSE(local.setattr(id, set_size(0)).ok());
    CHECK_FALSE(local.setxattr(id, "user.x", "v").ok());
    CHECK_FALSE(local.removexattr(id, "user.x").ok());
  }
  // The link itself is there, and what it leads to is not touched through it.
  CHECK_FALSE(local.open("secret", O_RDWR | O_TRUNC).ok());
  CHECK_FALSE(local.setattr("secret", set_size(0)).ok());
  CHECK_FALSE(local.setattr("secret", set_mode(0)).ok());
  CHECK(text_of(dir / "outside/secret") == "secret");
  CHECK(lstat_of(dir / "outside/secret").st_mode == (S_IFREG | 0644u));
  CHECK_FALSE(exists(dir / "outside/new"));
  CHECK_FALSE(exists(dir / "new"));
  CHECK_FALSE(exists(dir / "root/in/new"));
}

TEST_CASE("renames: over what is there, without replacing, and in exchange") {
  const TempDir dir;
  put_file(dir / "a", "A");
  put_file(dir / "b", "B");
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  REQUIRE(local.mkdir("", "d").ok());
  REQUIRE(local.mkdir("", "full").ok());
  put_file(dir / "full/x");
  CHECK(local.rename("", "a", "", "b", RENAME_NOREPLACE).error_number() == EEXIST);
  REQUIRE(local.rename("", "a", "", "b", RENAME_EXCHANGE).ok());
  CHECK(text_of(dir / "a") == "B");
  REQUIRE(local.rename("", "a", "", "d", RENAME_EXCHANGE).ok());
  CHECK(text_of(dir / "d") == "B");
  REQUIRE(local.rename("", "a", "", "d", RENAME_EXCHANGE).ok());
  CHECK(local.rename("", "a", "", "none", RENAME_EXCHANGE).error_number() == ENOENT);
  CHECK(local.rename("", "a", "d", "moved", RENAME_NOREPLACE).ok());
  CHECK(text_of(dir / "d/moved") == "B");
  CHECK(local.rename("d", "moved", "", "b").ok());
  CHECK(text_of(dir / "b") == "B");
  CHECK(local.rename("", "b", "", "d").error_number() == EISDIR);
  CHECK(local.rename("", "d", "", "b").error_number() == ENOTDIR);
  CHECK(local.rename("", "d", "", "full").error_number() == ENOTEMPTY);
  CHECK(local.rename("", "d", "d", "inside").error_number() == EINVAL);
  CHECK(local.rename("", "none", "", "x").error_number() == ENOENT);
  CHECK(local.rename("", "b", "none", "x").error_number() == ESTALE);
  CHECK(local.rename("", "b", "", "x", RENAME_WHITEOUT).error_number() == EINVAL);
  CHECK(local.rename("", "b", "", "x", ~0u).error_number() == EINVAL);
  CHECK(local.rename("", "full", "", "d").ok());
  CHECK(exists(dir / "d/x"));
}

TEST_CASE("an open file outlives its name: unlinked, renamed, renamed over") {
  const TempDir dir;
  Local local(dir.path());
  CHECK((*local).keeps_unlinked());
  const uint64_t unlinked = local.create("", "unlinked").value().file;
  const uint64_t renamed = local.create("", "renamed").value().file;
  const uint64_t covered = local.create("", "covered").value().file;
  REQUIRE(local.write(covered, 0, "old").ok());
  REQUIRE(local.unlink("", "unlinked").ok());
  REQUIRE(local.rename("", "renamed", "", "covered").ok());
  for (const uint64_t file : {unlinked, renamed, covered}) {
    REQUIRE(local.write(file, 3, "more").ok());
    CHECK(local.read(file, 3, 10).value() == "more");
    CHECK(local.getattr_open(file).value().size == 7);
    CHECK(local.setattr("gone", set_size(5), file).value().size == 5);
    CHECK(local.setattr("gone", set_mode(0600), file).value().mode == (S_IFREG | 0600u));
    CHECK(local.fsync(file).value() == 0);
  }
  CHECK(local.getattr_open(unlinked).value().nlink == 0);
  CHECK(local.getattr_open(covered).value().nlink == 0);
  CHECK(text_of(dir / "covered") == std::string("\0\0\0mo", 5));
  CHECK(local.getattr("renamed").error_number() == ESTALE);
  for (const uint64_t file : {unlinked, renamed, covered}) local.release(file);
  CHECK(local.getattr_open(unlinked).error_number() == EBADF);
  CHECK(local.fsync(unlinked).error_number() == EBADF);
  CHECK(local.setattr("covered", set_size(0), unlinked).error_number() == EBADF);
}

TEST_CASE("open honours the access mode and O_TRUNC, and never appends") {
  const TempDir dir;
  put_file(dir / "f", "content");
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  const uint64_t reader = local.open("f", O_RDONLY).value();
  CHECK(local.write(reader, 0, "x").error_number() == EBADF);
  const uint64_t writer = local.open("f", O_WRONLY | O_APPEND).value();
  CHECK(local.read(writer, 0, 1).error_number() == EBADF);
  CHECK(local.write(writer, 0, "C").ok());
  CHECK(text_of(dir / "f") == "Content");
  CHECK(local.write(writer, ~uint64_t{0}, "x").error_number() == EFBIG);
  CHECK(local.write(writer, uint64_t{1} << 63, "").error_number() == EFBIG);
  const std::string large(3 << 20, 'l');
  CHECK(local.write(writer, 1, large).value().stable);
  CHECK(local.read(reader, 0, 4 << 20).value() == "C" + large);
  CHECK(local.getattr_open(reader).value().size == large.size() + 1);
  const uint64_t truncated = local.open("f", O_RDWR | O_TRUNC).value();
  CHECK(local.getattr_open(truncated).value().size == 0);
  // A descriptor that can't truncate is no hindrance.
  CHECK(local.setattr("f", set_size(10), reader).value().size == 10);
  CHECK((*local).max_read() == 1u << 20);
  CHECK((*local).max_write() == 1u << 20);
}

TEST_CASE("setattr: owner, mode, size and times, each alone and all at once") {
  const TempDir dir;
  put_file(dir / "f", "content");
  REQUIRE(::symlink("f", (dir / "link").c_str()) == 0);
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  const bool by_handle = GENERATE(false, true);
  const uint64_t file = by_handle ? local.open("f", O_RDWR).value() : 0;
  CHECK(local.setattr("f", set_mode(S_IFREG | 06711), file).value().mode == (S_IFREG | 06711u));
  CHECK(local.setattr("f", set_size(3), file).value().size == 3);
  CHECK(local.setattr("f", set_size(1 << 20), file).value().size == 1 << 20);
  CHECK(local.setattr("f", set_size(uint64_t{1} << 63), file).error_number() == EFBIG);
  SetAttr times;
  times.valid = SetAttr::kAtime | SetAttr::kMtime;
  times.atime = {-1000, 7};
  times.mtime = {5'000'000'000, 999'999'999};
  Attr attr = local.setattr("f", times, file).value();
  CHECK(attr.atime == times.atime);
  CHECK(attr.mtime == times.mtime);
  times.valid = SetAttr::kAtime | SetAttr::kAtimeNow;
  attr = local.setattr("f", times, file).value();
  CHECK(attr.atime.seconds > 1'000'000'000);
  CHECK(attr.mtime == times.mtime);
  times.valid = SetAttr::kMtimeNow;
  CHECK(local.setattr("f", times, file).value().mtime.seconds < 5'000'000'000);
  SetAttr all;
  all.valid = SetAttr::kMode | SetAttr::kUid | SetAttr::kGid | SetAttr::kSize | SetAttr::kMtime;
  all.mode = 04755;
  all.uid = ::geteuid() == 0 ? 12 : ::geteuid();
  all.gid = ::geteuid() == 0 ? 34 : ::getegid();
  all.size = 5;
  all.mtime = {1'000'000, 5};
  attr = local.setattr("f", all, file).value();
  CHECK(attr.mode == (S_IFREG | 04755u));
  CHECK(attr.uid == all.uid);
  CHECK(attr.gid == all.gid);
  CHECK(attr.size == 5);
  CHECK(attr.mtime == all.mtime);
  CHECK(lstat_of(dir / "f").st_mode == (S_IFREG | 04755u));
  CHECK(local.setattr("f", SetAttr(), file).value().size == 5);
  CHECK(local.setattr("gone", set_mode(0)).error_number() == ESTALE);
}

TEST_CASE("setattr on a link concerns the link, on a directory what it may") {
  const TempDir dir;
  put_file(dir / "f", "content");
  REQUIRE(::symlink("f", (dir / "link").c_str()) == 0);
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  SetAttr set;
  set.valid = SetAttr::kMtime;
  set.mtime = {1'000'000, 5};
  CHECK(local.setattr("link", set).value().mtime == set.mtime);
  CHECK(lstat_of(dir / "f").st_mtime != 1'000'000);
  CHECK_FALSE(local.setattr("link", set_mode(0600)).ok());
  CHECK_FALSE(local.setattr("link", set_size(0)).ok());
  CHECK(lstat_of(dir / "f").st_size == 7);
  if (::geteuid() == 0) {
    set.valid = SetAttr::kUid;
    set.uid = 12;
    CHECK(local.setattr("link", set).value().uid == 12);
    CHECK(lstat_of(dir / "f").st_uid == 0);
  }
  REQUIRE(local.mkdir("", "d").ok());
  CHECK(local.setattr("d", set_mode(03711)).value().mode == (S_IFDIR | 03711u));
  CHECK(local.setattr("d", set_size(0)).error_number() == EISDIR);
  REQUIRE(local.mknod("", "pipe", S_IFIFO | 0600).ok());
  CHECK(local.setattr("pipe", set_size(0)).error_number() == EINVAL);
  CHECK(local.setattr("", set_mode(0755)).ok());
}

TEST_CASE("what is made belongs to the caller, where the daemon is root") {
  if (::geteuid() != 0) {
    WARN("not root: what is made belongs to the daemon");
    return;
  }
  const TempDir dir;
  Local local(dir.path());
  const CallerPtr caller = caller_of(1234, 5678);
  REQUIRE(::mkdir((dir / "closed").c_str(), 0700) == 0);  // the mount decides who may, not we
  const CreatedAnswer file = local.create("closed", "f", 06755, O_RDWR | O_EXCL, caller).value();
  CHECK(file.entry.attr.uid == 1234);
  CHECK(file.entry.attr.gid == 5678);
  CHECK(file.entry.attr.mode == (S_IFREG | 06755u));
  CHECK(local.mkdir("closed", "d", 0700, caller).value().entry.attr.uid == 1234);
  CHECK(local.mknod("closed", "p", S_IFIFO | 0600, 0, caller).value().entry.attr.gid == 5678);
  CHECK(local.symlink("closed", "s", "t", caller).value().entry.attr.uid == 1234);
  const MadeAnswer device =
      local.mknod("closed", "null", S_IFCHR | 0666, makedev(1, 3), caller).value();
  CHECK(device.entry.attr.uid == 1234);
  CHECK(lstat_of(dir / "closed/f").st_uid == 1234);
  // In between, the thread is root again.
  CHECK(local.create("closed", "root").value().entry.attr.uid == 0);
  CHECK(local.setattr("closed/f", set_mode(0)).ok());

  // What is there already keeps its owner.
  CHECK(local.create("closed", "root", 0644, O_RDWR, caller).value().entry.attr.uid == 0);
  CHECK(local.create("closed", "root", 0644, O_RDWR | O_EXCL, caller).error_number() == EEXIST);

  // A setgid directory hands on its group, and to directories its bit.
  REQUIRE(::chown((dir / "closed").c_str(), 0, 99) == 0);
  REQUIRE(::chmod((dir / "closed").c_str(), 02770) == 0);
  CHECK(local.create("closed", "g", 0644, O_RDWR, caller).value().entry.attr.gid == 99);
  const MadeAnswer inner = local.mkdir("closed", "gd", 0755, caller).value();
  CHECK(inner.entry.attr.uid == 1234);
  CHECK(inner.entry.attr.gid == 99);
  CHECK(inner.entry.attr.mode == (S_IFDIR | 02755u));
}

TEST_CASE("fallocate and copy_range do what the kernel's calls do") {
  const TempDir dir;
  Local local(dir.path());
  const uint64_t from = local.create("", "from").value().file;
  const uint64_t to = local.create("", "to").value().file;
  REQUIRE(local.write(from, 0, "0123456789").ok());
  CHECK(local.copy(from, 2, to, 5, 4).value() == 4);
  CHECK(local.read(to, 0, 100).value() == std::string("\0\0\0\0\0", 5) + "2345");
  CHECK(local.copy(from, 8, to, 0, 1000).value() == 2);
  CHECK(local.copy(from, 10, to, 0, 10).value() == 0);
  CHECK(local.copy(from, ~uint64_t{0}, to, 0, 10).value() == 0);
  CHECK(local.copy(from, 0, to, ~uint64_t{0}, 10).error_number() == EFBIG);
  CHECK(local.copy(from, 0, 12345, 0, 10).error_number() == EBADF);
  CHECK(local.copy(from, 0, from, 5, 10).error_number() == EINVAL);
  const uint64_t shm = local.open("from", O_RDONLY).value();
  CHECK(local.copy(from, 0, shm, 0, 1).error_number() == EBADF);

  const Result<Nothing> reserved = local.fallocate(to, 0, 0, 100'000);
  if (reserved.error_number() == EOPNOTSUPP) {
    WARN("no fallocate on this filesystem");
    return;
  }
  REQUIRE(reserved.ok());
  CHECK(local.getattr_open(to).value().size == 100'000);
  CHECK(local.fallocate(to, FALLOC_FL_KEEP_SIZE, 0, 200'000).ok());
  CHECK(local.getattr_open(to).value().size == 100'000);
  CHECK(local.fallocate(to, 0, 0, 0).error_number() == EINVAL);
  CHECK(local.fallocate(to, 0, ~uint64_t{0}, 1).error_number() == EFBIG);
  CHECK(local.fallocate(shm, 0, 0, 1).error_number() == EBADF);
  CHECK_FALSE(local.fallocate(to, ~0, 0, 1).ok());
}

TEST_CASE("extended attributes are set, replaced and removed") {
  const TempDir dir;
  put_file(dir / "f");
  Local local(dir.path(), GENERATE(Resolver::kAuto, Resolver::kWalk));
  if (::setxattr((dir / "f").c_str(), "user.probe", "v", 1, 0) != 0) {
    WARN("no user.* attributes on this filesystem: skipped");
    return;
  }
  const std::string value("a\0b", 3);
  CHECK(local.setxattr("f", "user.x", value, XATTR_REPLACE).error_number() == ENODATA);
  CHECK(local.setxattr("f", "user.x", value, XATTR_CREATE).ok());
  CHECK(local.getxattr("f", "user.x").value() == value);
  CHECK(local.setxattr("f", "user.x", "", XATTR_CREATE).error_number() == EEXIST);
  CHECK(local.setxattr("f", "user.x", "").ok());
  CHECK(local.getxattr("f", "user.x").value().empty());
  CHECK(local.removexattr("f", "user.x").ok());
  CHECK(local.removexattr("f", "user.x").error_number() == ENODATA);
  CHECK(local.setxattr("", "user.root", "v").ok());
  CHECK(local.setxattr("f", "nonsense", "v").error_number() == EOPNOTSUPP);
  CHECK(local.setxattr("f", std::string("user.\0x", 7), "v").error_number() == EINVAL);
  CHECK(local.setxattr("gone", "user.x", "v").error_number() == ESTALE);
  CHECK(local.removexattr("gone", "user.x").error_number() == ESTALE);
}

TEST_CASE("ids follow a rename of the object or of a directory above it") {
  const TempDir dir;
  Local local(dir.path());
  const LocalBackend& backend = *local;
  CHECK(backend.moved_id("a/b", "a/b", "x") == "x");
  CHECK(backend.moved_id("a/b/c/d", "a/b", "x/y") == "x/y/c/d");
  CHECK(backend.moved_id("a/bc", "a/b", "x").empty());
  CHECK(backend.moved_id("a", "a/b", "x").empty());
  CHECK(backend.moved_id("b/a/b", "a/b", "x").empty());
  CHECK(backend.moved_id("a", "", "x").empty());
  REQUIRE(local.mkdir("", "a").ok());
  REQUIRE(local.create("a", "f").ok());
  REQUIRE(local.rename("", "a", "", "x").ok());
  CHECK(local.getattr(backend.moved_id("a/f", "a", "x")).ok());
}

// Waits until tokens of the directory are told twice the same.
uint64_t settled_token(Local& local, const ObjectId& id) {
  for (;;) {
    const uint64_t token = local.getattr(id).value().change;
    if (local.getattr(id).value().change == token) return token;
  }
}

TEST_CASE("a change tells the token that the directory had, and one that never comes again") {
  const TempDir dir;
  Local local(dir.path());
  REQUIRE(local.mkdir("", "d").ok());
  REQUIRE(local.mkdir("", "e").ok());
  std::set<uint64_t> after;
  uint64_t before = settled_token(local, "d");
  const auto check = [&](const DirChange& change) {
    CHECK(change.before == before);
    CHECK(after.insert(change.after).second);
    CHECK(local.getattr("d").value().change != change.after);
    before = settled_token(local, "d");
    CHECK(before != change.before);
    CHECK_FALSE(after.contains(before));
  };
  check(local.create("d", "f").value().parent);
  check(local.mkdir("d", "sub").value().parent);
  check(local.mknod("d", "pipe", S_IFIFO | 0600).value().parent);
  check(local.symlink("d", "s", "t").value().parent);
  check(local.link("d/f", "d", "g").value().parent);
  check(local.rename("d", "g", "d", "h").value().from);
  check(local.rename("d", "h", "e", "h").value().from);
  check(local.rename("e", "h", "d", "h").value().to);
  check(local.unlink("d", "h").value());
  check(local.rmdir("d", "sub").value());
  const RenamedAnswer within = local.rename("d", "f", "d", "g").value();
  CHECK(within.from.before == within.to.before);
  CHECK(within.from.after == within.to.after);
}

TEST_CASE("many threads change one directory, and all of it happens") {
  const TempDir dir;
  Local local(dir.path());
  std::vector<std::future<int>> workers;
  for (int i = 0; i < 4; ++i) {
    workers.push_back(std::async(std::launch::async, [&local, i] {
      int failed = 0;
      for (int round = 0; round < 100; ++round) {
        const std::string name = std::to_string(i) + "-" + std::to_string(round);
        const CallerPtr caller = caller_of(static_cast<uint32_t>(1000 + i), 7);
        const auto made =
            local.create("", name, 0644, O_RDWR | O_EXCL, ::geteuid() == 0 ? caller : nullptr);
        if (!made.ok()) return -1;
        const bool owned = ::geteuid() != 0 || made.value().entry.attr.uid == caller->uid;
        failed += owned && local.write(made.value().file, 0, name).ok() ? 0 : 1;
        failed += local.rename("", name, "", name + "-moved").ok() ? 0 : 1;
        failed += local.read(made.value().file, 0, 100).value() == name ? 0 : 1;
        local.release(made.value().file);
        failed += round % 2 == 0 || local.unlink("", name + "-moved").ok() ? 0 : 1;
      }
      return failed;
    }));
  }
  for (auto& worker : workers) CHECK(worker.get() == 0);
  size_t left = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path())) ++left;
  CHECK(left == 200);
}

TEST_CASE("a file that is written at random reads as its model") {
  const TempDir dir;
  const uint64_t seed = test::seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  Local local(dir.path());
  const uint64_t file = local.create("", "f").value().file;
  std::string model;
  for (int step = 0; step < 300; ++step) {
    const uint64_t offset = random() % 50'000;
    if (random() % 8 == 0) {
      REQUIRE(local.setattr("f", set_size(offset), random() % 2 == 0 ? file : 0).ok());
      model.resize(offset);
      continue;
    }
    const std::string bytes(random() % 9000, static_cast<char>('a' + random() % 26));
    REQUIRE(local.write(file, offset, bytes).ok());
    if (bytes.empty()) continue;
    if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
    model.replace(offset, bytes.size(), bytes);
  }
  CHECK((local.read(file, 0, 1 << 20).value() == model));
  CHECK((text_of(dir / "f") == model));
}

}  // namespace
}  // namespace fusefs
