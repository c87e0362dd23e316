// Attributes set over SFTP, against OpenSSH's sftp-server.

#include <signal.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "fusefs/backends/sftp/sftp_attr.h"
#include "tests/fusefs/backends/sftp_harness.h"
#include "tests/support/eventually.h"
#include "tests/support/ssh_server.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

namespace fusefs::sftp_test {
namespace {

using sftp::FileAttrs;
using test::TempDir;

SetAttr mode(uint32_t bits) {
  SetAttr set;
  set.valid = SetAttr::kMode;
  set.mode = bits;
  return set;
}
SetAttr size(uint64_t bytes) {
  SetAttr set;
  set.valid = SetAttr::kSize;
  set.size = bytes;
  return set;
}
SetAttr owner(uint32_t valid, uint32_t uid, uint32_t gid) {
  SetAttr set;
  set.valid = valid;
  set.uid = uid;
  set.gid = gid;
  return set;
}
SetAttr times(uint32_t valid, int64_t atime = 0, int64_t mtime = 0) {
  SetAttr set;
  set.valid = valid;
  set.atime.seconds = atime;
  set.mtime.seconds = mtime;
  return set;
}

TEST_CASE("what is sent to set attributes, and in which order") {
  FileAttrs before;
  before.uid = 1;
  before.gid = 2;
  before.atime = 3;
  before.mtime = 4;
  SetAttr set = owner(SetAttr::kGid, 0, 7);
  set.valid |= SetAttr::kMode | SetAttr::kSize | SetAttr::kMtime;
  set.mode = S_IFREG | 04755;
  set.size = 9;
  set.mtime.seconds = -5;
  const auto steps = sftp::setattr_steps(set, before, 100);
  REQUIRE(steps.size() == 4);
  CHECK(steps[0].flags == FileAttrs::kUidGid);
  CHECK(steps[0].uid == 1);
  CHECK(steps[0].gid == 7);
  CHECK(steps[1].permissions == 04755);
  CHECK(steps[2].size == 9);
  CHECK(steps[3].atime == 3);
  CHECK(steps[3].mtime == 0);
  const auto now = sftp::setattr_steps(times(SetAttr::kAtimeNow | SetAttr::kMtimeNow), before, 100);
  REQUIRE(now.size() == 1);
  CHECK(now[0].atime == 100);
  CHECK(now[0].mtime == 100);
  const auto late = sftp::setattr_steps(times(SetAttr::kAtime, int64_t{1} << 40), before, 100);
  CHECK(late[0].atime == 0xffffffff);
  CHECK(late[0].mtime == 4);
}

TEST_CASE("attributes are set, by path and by handle, and told afterwards") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  for (const char* arguments : {"", "-P lsetstat"}) {
    const auto backend = mounted(dir, test::plain_sftp_server(arguments));
    const auto open = open_file(*backend, "file", O_RDWR).value();
    for (const auto file : {Backend::FileHandle{0}, open}) {
      INFO(arguments << " handle " << file);
      CHECK(setattr(*backend, "file", mode(0600), file).value().mode == (S_IFREG | 0600));
      CHECK(setattr(*backend, "file", mode(04755), file).value().mode == (S_IFREG | 04755));
      CHECK(status_of(dir / "file").st_mode == (S_IFREG | 04755));
      CHECK(setattr(*backend, "file", size(100'000), file).value().size == 100'000);
      CHECK(setattr(*backend, "file", size(3), file).value().size == 3);
      CHECK(test::text_of(dir / "file") == "con");
      const auto both = setattr(
          *backend, "file", times(SetAttr::kAtime | SetAttr::kMtime, 1'000'000, 2'000'000), file);
      CHECK(both.value().mtime.seconds == 2'000'000);
      CHECK(setattr(*backend, "file", times(SetAttr::kMtime, 0, 3'000'000), file)
                .value()
                .atime.seconds == 1'000'000);
      CHECK(status_of(dir / "file").st_mtim.tv_sec == 3'000'000);
      const int64_t before = sftp::wall_seconds_now();
      const auto now =
          setattr(*backend, "file", times(SetAttr::kAtimeNow | SetAttr::kMtimeNow), file);
      CHECK(now.value().mtime.seconds >= before);
      CHECK(now.value().atime.seconds >= before);
      CHECK(setattr(*backend, "file", SetAttr{}, file).value().size == 3);
    }
  }
}

TEST_CASE("owner and group are set one by one") {
  if (geteuid() != 0) return;  // may not give files away
  const TempDir dir;
  test::put_file(dir / "file");
  const auto backend = mounted(dir);
  CHECK(setattr(*backend, "file", owner(SetAttr::kUid, 1, 99)).value().uid == 1);
  CHECK(setattr(*backend, "file", owner(SetAttr::kGid, 99, 2)).value().gid == 2);
  CHECK(status_of(dir / "file").st_uid == 1);
  const auto open = open_file(*backend, "file").value();
  SetAttr all = owner(SetAttr::kUid | SetAttr::kGid | SetAttr::kMode, 3, 4);
  all.mode = 06755;
  CHECK(setattr(*backend, "file", all, open).value().mode == (S_IFREG | 06755));
  CHECK(status_of(dir / "file").st_gid == 4);
}

TEST_CASE("a link's own owner and times are set, where the server can") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  make_old(dir / "file");
  const auto before = status_of(dir / "file");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  const SetAttr both = times(SetAttr::kAtime | SetAttr::kMtime, 1'000'000, 2'000'000);
  const SetAttr one = times(SetAttr::kMtime, 0, 3'000'000);
  {
    const auto backend = mounted(dir);
    CHECK(setattr(*backend, "link", both).value().mtime.seconds == 2'000'000);
    CHECK(setattr(*backend, "link", one).value().mtime.seconds == 3'000'000);
    CHECK(setattr(*backend, "link", mode(0600)).error_number() == EOPNOTSUPP);
  }
  const auto without = mounted(dir, test::plain_sftp_server("-P lsetstat"));
  CHECK(setattr(*without, "link", both).error_number() == EOPNOTSUPP);
  CHECK(setattr(*without, "link", mode(0600)).error_number() == EOPNOTSUPP);
  CHECK(status_of(dir / "file").st_mtim.tv_sec == before.st_mtim.tv_sec);
  CHECK(status_of(dir / "file").st_mode == before.st_mode);
}

TEST_CASE("attributes that can't be set say why") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  fs::create_directory(dir / "d");
  const auto backend = mounted(dir);
  CHECK(setattr(*backend, "none", mode(0600)).error_number() == ESTALE);
  CHECK(setattr(*backend, "none", times(SetAttr::kMtime, 0, 1)).error_number() == ESTALE);
  CHECK(setattr(*backend, "d", size(3)).error_number() == EISDIR);
  CHECK(setattr(*backend, "", mode(0755)).value().mode == (S_IFDIR | 0755));
  // By a handle that may not write: by its name, as long as it has one.
  const auto reading = open_file(*backend, "file").value();
  CHECK(setattr(*backend, "file", size(3), reading).value().size == 3);
  REQUIRE(unlink(*backend, "", "file").ok());
  CHECK(setattr(*backend, "file", size(1), reading).error_number() == EINVAL);
  CHECK(setattr(*backend, "file", mode(0600), reading).value().mode == (S_IFREG | 0600));
}

TEST_CASE("who may not set attributes is told so") {
  if (geteuid() != 0) return;  // nobody to be refused
  const TempDir dir;
  test::put_file(dir / "file", "content");
  const auto backend = mounted(dir, test::unprivileged_sftp_server());
  CHECK(setattr(*backend, "file", mode(0600)).error_number() == EPERM);
  CHECK(setattr(*backend, "file", owner(SetAttr::kUid, 1, 0)).error_number() == EPERM);
  CHECK(setattr(*backend, "file", times(SetAttr::kMtime, 0, 1)).error_number() == EPERM);
  CHECK(setattr(*backend, "file", times(SetAttr::kAtimeNow | SetAttr::kMtimeNow)).error_number() ==
        EACCES);
  CHECK(setattr(*backend, "file", size(1)).error_number() == EACCES);
}

TEST_CASE("what can be set at once takes one round trip") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  const auto backend = mounted(dir);
  const auto open = open_file(*backend, "file", O_RDWR).value();
  const auto one_round_trip = [&](Backend::FileHandle file, const SetAttr& set, uint64_t requests) {
    REQUIRE(test::eventually([&] { return backend->counters().inflight == 0; }));
    const uint64_t before = backend->counters().requests;
    const pid_t server = process_of("sftp-server");
    kill(server, SIGSTOP);
    Pending<Result<Attr>> pending;
    backend->setattr(nullptr, "file", file, set, pending.completion());
    CHECK(test::eventually([&] { return backend->counters().inflight == requests; }));
    kill(server, SIGCONT);
    const auto attr = pending.get();
    CHECK(attr.ok());
    CHECK(backend->counters().requests - before == requests);
    return attr.value();
  };
  for (const auto file : {Backend::FileHandle{0}, open}) {
    SetAttr set = times(SetAttr::kAtime | SetAttr::kMtime, 1, 2);
    set.valid |= SetAttr::kMode | SetAttr::kSize;
    set.mode = 0600;
    one_round_trip(file, set, 4);
  }
  // The time of access is told as it was seen last.
  const Attr attr = one_round_trip(open, times(SetAttr::kMtime, 0, 3), 2);
  CHECK(attr.atime.seconds == 1);
  CHECK(attr.mtime.seconds == 3);
}

}  // namespace
}  // namespace fusefs::sftp_test
