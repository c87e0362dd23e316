// The NFS back end against a real server: what is told is what the server's directory holds.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <thread>

#include "tests/nfs/nfs_rig.h"
#include "tests/nfs/nfs_writer.h"
#include "tests/support/ganesha.h"

using test::caller;
using test::connect_error;
using test::Ganesha;
using test::NfsRig;
using test::put_file;

namespace {

// One server for all tests that don't restart it.
Ganesha& server() {
  static Ganesha instance;
  return instance;
}

const std::string& version() {
  static const std::string chosen = [] {
    const char* const given = std::getenv("COOKIEFS_NFS_VERSION");
    return std::string(given != nullptr ? given : "3");
  }();
  return chosen;
}

std::string url(const std::string& path) { return server().url(path, 0, version()); }

// A directory below an export, that goes away with the test.
class ServedDir {
 public:
  explicit ServedDir(const std::string& exported, const std::string& name)
      : name_(name), path_(server().directory(exported) + "/" + name) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~ServedDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ServedDir(const ServedDir&) = delete;
  ServedDir& operator=(const ServedDir&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::set<std::string> fill(int count) const {
    std::set<std::string> names;
    for (int i = 0; i < count; ++i) {
      const std::string name = "file_" + std::to_string(1000000 + i);
      put_file(path_ + "/" + name);
      names.insert(name);
    }
    return names;
  }

 private:
  const std::string name_;
  const std::string path_;
};

std::set<std::string> names_of(const NfsRig::Whole& whole) {
  std::set<std::string> names;
  for (const auto& [name, entry] : whole.entries) names.insert(name);
  return names;
}

void check_same(const fusefs::Attr& attr, const std::string& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  INFO(path);
  CHECK(attr.ino == status.st_ino);
  CHECK(attr.mode == status.st_mode);
  CHECK(attr.nlink == status.st_nlink);
  CHECK(attr.uid == status.st_uid);
  CHECK(attr.gid == status.st_gid);
  CHECK(attr.size == static_cast<uint64_t>(status.st_size));
  CHECK(attr.mtime.seconds == status.st_mtim.tv_sec);
  CHECK(attr.mtime.nanoseconds == static_cast<uint32_t>(status.st_mtim.tv_nsec));
  CHECK(attr.ctime.seconds == status.st_ctim.tv_sec);
  CHECK(attr.change != 0);
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("objects are what the server has") {
  const ServedDir dir("plain", "objects");
  put_file(dir / "file", "content\n");
  REQUIRE(chmod((dir / "file").c_str(), 04751) == 0);
  REQUIRE(chown((dir / "file").c_str(), 1234, 4321) == 0);
  REQUIRE(chmod((dir / "file").c_str(), 04751) == 0);
  REQUIRE(symlink("some/where else", (dir / "link").c_str()) == 0);
  REQUIRE(mkdir((dir / "sub").c_str(), 0755) == 0);
  REQUIRE(mkfifo((dir / "pipe").c_str(), 0600) == 0);
  NfsRig rig(url("/plain"));
  check_same(rig.root().attr, server().directory("plain"));
  const auto parent = rig.find(dir.name());
  for (const char* name : {"file", "link", "sub", "pipe"}) {
    const auto found = rig.lookup(parent, name);
    REQUIRE(found.ok());
    check_same(found.value().attr, dir / name);
    const auto attr = rig.getattr(found.value().id);
    REQUIRE(attr.ok());
    check_same(attr.value(), dir / name);
    CHECK(rig.backend().child_id(parent, name, found.value().attr.ino) == found.value().id);
  }
  CHECK(rig.readlink(rig.find(dir.name() + "/link")).value() == "some/where else");
  CHECK(rig.lookup(parent, "none").error_number() == ENOENT);
  CHECK(rig.lookup(parent, "a/b").error_number() == EINVAL);
  CHECK(rig.lookup(parent, std::string(256, 'x')).error_number() == ENAMETOOLONG);
  CHECK(rig.lookup(rig.find(dir.name() + "/file"), "x").error_number() == ENOTDIR);
  const auto up = rig.lookup(rig.find(dir.name() + "/sub"), "..");
  REQUIRE(up.ok());
  CHECK(up.value().id == parent);
  const auto figures = rig.wait<fusefs::StatfsAnswer>(
      [&](auto done) { rig.backend().statfs(nullptr, rig.root().id, done); });
  REQUIRE(figures.ok());
  CHECK(figures.value().blocks > figures.value().blocks_available / 2);
  CHECK(figures.value().blocks > 0);
}

TEST_CASE("contents are read in parts, to their end and not beyond") {
  const ServedDir dir("plain", "contents");
  std::string content;
  for (int i = 0; content.size() < 3'000'001; ++i) content += std::to_string(i) + "\n";
  put_file(dir / "big", content);
  put_file(dir / "empty");
  for (const char* rsize : {"1M", "64K", "4K"}) {
    NfsRig rig(url("/plain"), {{"rsize", rsize}});
    const auto file = rig.open(rig.find("contents/big"));
    REQUIRE(file.ok());
    for (const auto& [offset, size] :
         std::vector<std::pair<uint64_t, uint32_t>>{{0, 1 << 20},
                                                    {1, 4096},
                                                    {12345, 70000},
                                                    {content.size() - 10, 1000},
                                                    {content.size() - 300000, 1 << 20},
                                                    {content.size(), 10},
                                                    {content.size() + 99, 10}}) {
      INFO(rsize << ": " << size << " at " << offset);
      const auto bytes = rig.read(file.value(), offset, size);
      REQUIRE(bytes.ok());
      const bool same =
          bytes.value() == (offset < content.size() ? content.substr(offset, size) : std::string());
      CHECK(same);
    }
    rig.backend().release(file.value());
    const auto empty = rig.open(rig.find("contents/empty"));
    REQUIRE(empty.ok());
    CHECK(rig.read(empty.value(), 0, 4096).value().empty());
    const auto both = rig.open(rig.find("contents/big"), nullptr, O_RDWR);
    REQUIRE(both.ok());
    rig.backend().release(both.value());
  }
}

TEST_CASE("listings are complete on every kind of export, with attributes and without") {
  const std::string exported = GENERATE("plain", "disk", "strict", "names");
  const ServedDir dir(exported, "listing");
  std::set<std::string> expected = dir.fill(2000);
  REQUIRE(mkdir((dir / "sub").c_str(), 0755) == 0);
  REQUIRE(symlink("x", (dir / "link").c_str()) == 0);
  put_file(dir / std::string(255, 'n'));
  put_file(dir / "new\nline \xff\x01");
  for (const std::string& name : {std::string("sub"), std::string("link"), std::string(255, 'n'),
                                  std::string("new\nline \xff\x01")}) {
    expected.insert(name);
  }
  NfsRig rig(url("/" + exported));
  const auto id = rig.find(dir.name());
  for (const bool attrs : {false, true}) {
    for (const uint32_t step : {7u, 100u, 2000u, 32768u}) {
      INFO(exported << ", attributes " << attrs << ", step " << step);
      const auto whole = rig.list(id, step, attrs);
      CHECK(whole.error == 0);
      CHECK(whole.repeated == 0);
      CHECK(whole.change != 0);
      CHECK(names_of(whole) == expected);
      if (!attrs || whole.without_attrs > 0) continue;
      check_same(whole.entries.at("file_1000003").attr, dir / "file_1000003");
      check_same(whole.entries.at("sub").attr, dir / "sub");
      CHECK(whole.entries.at("sub").type == DT_DIR);
      CHECK(whole.entries.at("link").type == DT_LNK);
    }
  }
  const bool attributes_come = exported != "names" || version() == "4";
  CHECK((rig.list(id, 32768, true).without_attrs == 0) == attributes_come);
}

TEST_CASE("a place that the server does not know any more is a bad cookie") {
  const ServedDir dir("strict", "verifiers");
  dir.fill(500);
  NfsRig rig(url("/strict"));
  const auto id = rig.find(dir.name());
  const auto first =
      rig.list_once(id, {.after = {}, .verifier = 0, .max_entries = 100, .want_attrs = false});
  REQUIRE(first.error == 0);
  REQUIRE(first.verifier != 0);
  cache::DirRequest next{.after = {.cookie = first.entries.back().cookie, .bytes = {}},
                         .verifier = first.verifier,
                         .max_entries = 100,
                         .want_attrs = false};
  CHECK(rig.list_once(id, next).error == 0);
  next.verifier ^= 0x5555;
  CHECK(rig.list_once(id, next).error == cache::kErrBadCookie);
}

TEST_CASE("cookies above 2^63 come through as they are") {
  test::NfsWriter writer(server().url("/mem"));
  const std::string name = "high" + version();
  writer.mkdir("/" + name);
  std::set<std::string> names;
  for (int i = 0; i < 1000; ++i) {
    names.insert("file-" + std::to_string(i));
    writer.create("/" + name + "/file-" + std::to_string(i));
  }
  NfsRig rig(url("/mem"));
  const auto whole = rig.list(rig.find(name), 100, true);
  CHECK(whole.error == 0);
  CHECK(names_of(whole) == names);
  // By the hash of their names: about half of them.
  const auto high = std::count_if(whole.cookies.begin(), whole.cookies.end(),
                                  [](uint64_t cookie) { return cookie >> 63 != 0; });
  CHECK(high > 300);
}

TEST_CASE("each request has its caller's identity") {
  const ServedDir dir("plain", "identity");
  put_file(dir / "own", "secret");
  put_file(dir / "shared", "for the group");
  REQUIRE(mkdir((dir / "private").c_str(), 0700) == 0);
  REQUIRE(chown((dir / "own").c_str(), 1000, 1000) == 0);
  REQUIRE(chmod((dir / "own").c_str(), 0600) == 0);
  REQUIRE(chown((dir / "shared").c_str(), 0, 777) == 0);
  REQUIRE(chmod((dir / "shared").c_str(), 0640) == 0);
  REQUIRE(chown((dir / "private").c_str(), 1000, 1000) == 0);
  NfsRig rig(url("/plain"));
  CHECK(rig.backend().wants_callers());
  const auto own = rig.find("identity/own");
  const auto shared = rig.find("identity/shared");
  const auto closed = rig.find("identity/private");
  // In turns: one connection carries them all.
  for (int round = 0; round < 3; ++round) {
    CHECK(rig.open(own, caller(1000, 1000)).ok());
    CHECK(rig.open(own, caller(1001, 1000)).error_number() == EACCES);
    CHECK(rig.open(shared, caller(1001, 1001)).error_number() == EACCES);
    CHECK(rig.open(shared, caller(1001, 777)).ok());
    CHECK(rig.open(shared, caller(1001, 1001, {1, 2, 777})).ok());
    CHECK(rig.list(closed, 100, true, caller(1000, 1)).error == 0);
    CHECK(rig.list(closed, 100, true, caller(1002, 1)).error == EACCES);
    CHECK(rig.lookup(closed, "x", caller(1002, 1)).error_number() == EACCES);
    CHECK(rig.lookup(closed, "x", caller(1000, 1)).error_number() == ENOENT);
  }
  // An opener's identity reads; another's does not.
  const auto file = rig.open(own, caller(1000, 1000));
  REQUIRE(file.ok());
  CHECK(rig.read(file.value(), 0, 100, caller(1000, 1000)).value() == "secret");

  NfsRig fixed(url("/plain"), {{"uid", "1000"}, {"gid", "5"}});
  CHECK_FALSE(fixed.backend().wants_callers());
  CHECK(fixed.open(fixed.find("identity/own"), caller(1001, 1001)).ok());
  CHECK(fixed.open(fixed.find("identity/shared"), caller(0, 0)).error_number() == EACCES);
}

TEST_CASE("what fails at connecting is said in one line that names it") {
  const std::string ports = "?version=" + version() +
                            "&nfsport=" + std::to_string(server().nfs_port()) +
                            "&mountport=" + std::to_string(server().mount_port());
  CHECK(says(connect_error("nfs://no-such-host.invalid/plain" + ports), "no-such-host.invalid"));
  const std::string closed = std::to_string(test::free_port());
  const std::string nobody = connect_error("nfs://127.0.0.1/plain?version=" + version() +
                                           "&mountport=" + closed + "&nfsport=" + closed);
  CHECK(says(nobody, closed));
  CHECK(says(nobody, "refuses connections"));
  CHECK(says(connect_error("nfs://127.0.0.1/nowhere/at/all" + ports), "nowhere"));
  CHECK(says(connect_error("nfs://127.0.0.1/plain/none" + ports), "'none'"));
  put_file(server().directory("plain") + "/a_file");
  CHECK(says(connect_error("nfs://127.0.0.1/plain/a_file" + ports), "not a directory"));
  if (version() == "3") {
    const std::string nowhere = connect_error("nfs://127.0.0.1/nowhere" + ports);
    INFO(nowhere);
    CHECK(says(nowhere, "/plain"));  // what there is
    CHECK(says(connect_error("nfs://127.0.0.1/closed" + ports), "refuses"));
    const auto unprivileged = connect_error("nfs://127.0.0.1/secure" + ports, {{"noresvport", {}}});
    CHECK(says(unprivileged, "secure"));
  }
}

// Connections that ended keep the few ports of this kind for a minute (TIME_WAIT).
TEST_CASE("ports below 1024 are used where we may") {
  const std::string target = url("/secure").substr(4);
  std::string text;
  bool connected = false;
  for (int tries = 0; tries < 90 && !connected; ++tries) {
    if (tries > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    const auto backend = fusefs::make_nfs_backend(target, {}, &text);
    REQUIRE(backend != nullptr);
    connected = backend->connect(&text).ok();
  }
  INFO(text);
  CHECK(connected);
}

TEST_CASE("root may be nobody on the server") {
  const ServedDir dir("squashed", "private");
  REQUIRE(chmod(dir.path().c_str(), 0700) == 0);
  NfsRig rig(url("/squashed"));
  CHECK(rig.list(rig.find("private"), 10, true).error == EACCES);
}

TEST_CASE("a directory below an export is mounted as the root") {
  const ServedDir dir("plain", "deep");
  std::filesystem::create_directories(dir / "er/still");
  put_file(dir / "er/still/here");
  NfsRig rig(url("/plain/deep/er"));
  check_same(rig.root().attr, dir / "er");
  CHECK(names_of(rig.list(rig.find("still"), 10, true)) == std::set<std::string>{"here"});
}

TEST_CASE("ids that a listing told lead to the objects, without handles, too") {
  const ServedDir dir("plain", "ids");
  std::filesystem::create_directories(dir / "a/b/c");
  put_file(dir / "a/b/c/file", "found");
  fusefs::ObjectId id;
  {
    NfsRig first(url("/plain"));
    id = first.find("ids/a/b/c/file");
  }
  NfsRig second(url("/plain"));  // knows no handles yet
  const auto file = second.open(id);
  REQUIRE(file.ok());
  CHECK(second.read(file.value(), 0, 10).value() == "found");
  // Another object under the name is not the same object.
  test::NfsWriter writer(server().url("/plain"));
  writer.create("/ids/a/b/c/other");
  writer.rename("/ids/a/b/c/other", "/ids/a/b/c/file");
  NfsRig third(url("/plain"));
  CHECK(third.getattr(id).error_number() == ESTALE);
  REQUIRE(writer.unlink("/ids/a/b/c/file"));
  CHECK(third.getattr(id).error_number() == ESTALE);
}

TEST_CASE("a removed directory is stale") {
  const ServedDir dir("plain", "removed");
  std::filesystem::create_directory(dir / "gone");
  NfsRig rig(url("/plain"));
  const auto id = rig.find("removed/gone");
  CHECK(rig.list(id, 10, true).error == 0);
  std::filesystem::remove(dir / "gone");
  CHECK(rig.list(id, 10, true).error == ESTALE);
  // A new one under the same name is another one.
  std::filesystem::create_directory(dir / "gone");
  CHECK(rig.list(id, 10, true).error == ESTALE);
}

TEST_CASE("change tokens: a change is told, and no change is, after a while") {
  const ServedDir dir("plain", "tokens");
  dir.fill(10);
  NfsRig rig(url("/plain"));
  const auto id = rig.find("tokens");
  const auto token = [&] { return rig.getattr(id).value().change; };
  const auto settled = [&] {
    const uint64_t before = token();
    return before == token();
  };
  REQUIRE(test::wait_until(settled));
  const uint64_t quiet = token();
  CHECK(rig.list(id, 100, true).change == quiet);
  CHECK(rig.list(id, 100, false).change == quiet);
  put_file(dir / "one more");
  const uint64_t changed = token();
  CHECK(changed != quiet);
  std::filesystem::remove(dir / "one more");
  CHECK(token() != changed);
  REQUIRE(test::wait_until(settled));
  CHECK(token() != quiet);
}

TEST_CASE("answers of every size are filled to their end") {
  const ServedDir dir("plain", "sizes");
  const auto expected = dir.fill(3000);
  NfsRig rig(url("/plain"));
  const auto id = rig.find("sizes");
  for (uint32_t step = 61; step < 3000; step += 67) {
    const auto whole = rig.list(id, step, step % 2 == 0);
    INFO(step);
    CHECK(whole.error == 0);
    CHECK(names_of(whole) == expected);
  }
}
