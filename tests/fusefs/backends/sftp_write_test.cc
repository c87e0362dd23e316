// Files written over SFTP, against OpenSSH's sftp-server, and one that lies.

#include <signal.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/fusefs/backends/sftp_harness.h"
#include "tests/support/eventually.h"
#include "tests/support/ssh_server.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

namespace fusefs::sftp_test {
namespace {

using test::TempDir;

std::string pattern(size_t size, size_t seed = 0) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i + seed) * 7 + i / 251);
  return bytes;
}

Result<uint64_t> copy(Backend& backend, Backend::FileHandle from, uint64_t from_offset,
                      Backend::FileHandle to, uint64_t to_offset, uint64_t length) {
  return answer_of<uint64_t>([&](auto done) {
    backend.copy_range(nullptr, from, from_offset, to, to_offset, length, done);
  });
}

TEST_CASE("files are written at any place, in any size") {
  const TempDir dir;
  const auto backend = mounted(dir);
  const auto file = create(*backend, "", "file").value().file;
  std::string expected;
  for (const uint64_t offset : {0u, 1u, 32768u, 100'000u, 5'000'000u}) {
    for (const uint32_t size : {0u, 1u, 32768u, 261'120u, 261'121u, 1'048'576u, 3'000'000u}) {
      INFO(size << " bytes at " << offset);
      const std::string bytes = pattern(size, offset + size);
      const auto written = write_file(*backend, file, offset, bytes);
      REQUIRE(written.ok());
      CHECK(written.value().stable);
      if (size == 0) continue;
      expected.resize(std::max<size_t>(expected.size(), offset + size));
      expected.replace(offset, size, bytes);
    }
  }
  const bool right = test::text_of(dir / "file") == expected;
  CHECK(right);
  CHECK(getattr_open(*backend, file).value().size == expected.size());
}

TEST_CASE("a large write is one round trip, in requests of the server's size") {
  const TempDir dir;
  for (const std::string arguments : {"", "-P limits"}) {
    const uint64_t requests = arguments.empty() ? 5 : 32;
    INFO(arguments);
    const auto backend = mounted(dir, test::plain_sftp_server(arguments));
    const auto file = create(*backend, "", "file", O_RDWR).value().file;
    REQUIRE(test::eventually([&] { return backend->counters().inflight == 0; }));
    const uint64_t before = backend->counters().requests;
    const pid_t server = process_of("sftp-server");
    kill(server, SIGSTOP);
    Pending<Result<WriteAnswer>> pending;
    backend->write(nullptr, file, 7, pattern(1 << 20), StableHow::kUnstable, pending.completion());
    // And one that tells what has become of the file.
    CHECK(test::eventually([&] { return backend->counters().inflight == requests + 1; }));
    kill(server, SIGCONT);
    CHECK(pending.get().ok());
    CHECK(backend->counters().requests - before == requests + 1);
    const bool right = test::text_of(dir / "file").substr(7) == pattern(1 << 20);
    CHECK(right);
  }
}

TEST_CASE("many writes at once") {
  const TempDir dir;
  const auto backend = mounted(dir);
  const auto file = create(*backend, "", "file").value().file;
  constexpr size_t kWrites = 100, kSize = 300'000;
  std::vector<Pending<Result<WriteAnswer>>> pending(kWrites);
  for (size_t i = 0; i < kWrites; ++i) {
    backend->write(nullptr, file, i * kSize, pattern(kSize, i), StableHow::kUnstable,
                   pending[i].completion());
  }
  for (auto& one : pending) CHECK(one.get().ok());
  const std::string content = test::text_of(dir / "file");
  REQUIRE(content.size() == kWrites * kSize);
  for (size_t i = 0; i < kWrites; ++i) {
    const bool right = content.substr(i * kSize, kSize) == pattern(kSize, i);
    REQUIRE(right);
  }
}

TEST_CASE("files are opened for what was asked, and truncated where that was asked") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  fs::create_directory(dir / "d");
  const auto backend = mounted(dir);
  const auto reading = open_file(*backend, "file", O_RDONLY).value();
  CHECK(write_file(*backend, reading, 0, "x").error_number() == EBADF);
  const auto writing = open_file(*backend, "file", O_WRONLY).value();
  CHECK(read_file(*backend, writing, 0, 1).error_number() == EBADF);
  CHECK(write_file(*backend, writing, 3, "TENT").ok());
  CHECK(read_file(*backend, reading, 0, 9).value() == "conTENT");
  CHECK(open_file(*backend, "file", O_WRONLY | O_TRUNC).ok());
  CHECK(read_file(*backend, reading, 0, 9).value().empty());
  CHECK(open_file(*backend, "d", O_RDWR).error_number() == EISDIR);
  CHECK(open_file(*backend, "none", O_RDWR).error_number() == ESTALE);
  CHECK(write_file(*backend, 4711, 0, "x").error_number() == EBADF);
  CHECK(fsync(*backend, 4711).error_number() == EBADF);
  CHECK(getattr_open(*backend, 4711).error_number() == EBADF);
}

TEST_CASE("a sync is the server's, where it has one") {
  const TempDir dir;
  for (const char* arguments : {"", "-P fsync"}) {
    INFO(arguments);
    const auto backend = mounted(dir, test::plain_sftp_server(arguments));
    const auto file = create(*backend, "", "file", O_RDWR).value().file;
    CHECK(write_file(*backend, file, 0, "text").ok());
    CHECK(fsync(*backend, file).value() == 0);
  }
}

TEST_CASE("a file that was unlinked or replaced is read and written on") {
  const TempDir dir;
  test::put_file(dir / "doomed", "one");
  test::put_file(dir / "replaced", "two");
  test::put_file(dir / "new", "three");
  const auto backend = mounted(dir);
  CHECK(backend->keeps_unlinked());
  CHECK_FALSE(backend->counts_links());
  const auto doomed = open_file(*backend, "doomed", O_RDWR).value();
  const auto replaced = open_file(*backend, "replaced", O_RDWR).value();
  const auto moved = open_file(*backend, "new", O_RDWR).value();
  REQUIRE(unlink(*backend, "", "doomed").ok());
  REQUIRE(rename(*backend, "", "new", "", "replaced").ok());
  CHECK(write_file(*backend, doomed, 3, "more").ok());
  CHECK(read_file(*backend, doomed, 0, 9).value() == "onemore");
  CHECK(getattr_open(*backend, doomed).value().size == 7);
  CHECK(write_file(*backend, replaced, 0, "TWO").ok());
  CHECK(read_file(*backend, replaced, 0, 9).value() == "TWO");
  CHECK(write_file(*backend, moved, 0, "THREE").ok());
  CHECK(test::text_of(dir / "replaced") == "THREE");
}

TEST_CASE("the server copies from file to file") {
  const TempDir dir;
  test::put_file(dir / "from", pattern(100'000));
  const auto backend = mounted(dir);
  const auto from = open_file(*backend, "from").value();
  const auto to = create(*backend, "", "to", O_WRONLY).value().file;
  CHECK(copy(*backend, from, 10, to, 0, 50'000).value() == 50'000);
  CHECK(copy(*backend, from, 90'000, to, 50'000, 50'000).value() == 10'000);
  CHECK(copy(*backend, from, 200'000, to, 0, 50'000).value() == 0);
  CHECK(copy(*backend, from, 0, to, 0, 0).value() == 0);
  const bool right = test::text_of(dir / "to") ==
                     pattern(100'000).substr(10, 50'000) + pattern(100'000).substr(90'000);
  CHECK(right);
  CHECK(copy(*backend, from, 0, from, 0, 1).error_number() == EBADF);
  const auto both = open_file(*backend, "from", O_RDWR).value();
  CHECK(copy(*backend, both, 0, both, 50'000, 1).error_number() == EOPNOTSUPP);
  const auto again = open_file(*backend, "from").value();
  CHECK(copy(*backend, again, 0, both, 50'000, 1).error_number() == EOPNOTSUPP);
  // The server knows handles by the names they were opened by.
  CHECK(rename(*backend, "", "from", "", "moved").ok());
  const auto other = create(*backend, "", "from", O_WRONLY).value().file;
  CHECK(copy(*backend, again, 0, other, 0, 1).error_number() == EOPNOTSUPP);
  fs::rename(dir / "moved", dir / "from");
  const auto without = mounted(dir, test::plain_sftp_server("-P copy-data"));
  const auto source = open_file(*without, "from").value();
  const auto target = open_file(*without, "to", O_WRONLY).value();
  CHECK(copy(*without, source, 0, target, 0, 1).error_number() == EOPNOTSUPP);
}

TEST_CASE("a copy of much is done in parts") {
  const TempDir dir;
  test::put_file(dir / "from");
  fs::resize_file(dir / "from", 3 * sftp::SftpFileIo::kMaxCopy);
  const auto backend = mounted(dir);
  const auto from = open_file(*backend, "from").value();
  const auto to = create(*backend, "", "to", O_WRONLY).value().file;
  CHECK(copy(*backend, from, 0, to, 0, ~uint64_t{0}).value() == sftp::SftpFileIo::kMaxCopy);
}

TEST_CASE("what SFTP can't do is not supported") {
  const TempDir dir;
  const auto backend = mounted(dir);
  const auto file = create(*backend, "", "file").value().file;
  CHECK(answer_of<Nothing>([&](auto done) {
          backend->fallocate(nullptr, file, 0, 0, 100, done);
        }).error_number() == EOPNOTSUPP);
  CHECK(answer_of<Nothing>([&](auto done) {
          backend->setxattr(nullptr, "file", "user.x", "y", 0, done);
        }).error_number() == ENOSYS);
  CHECK(answer_of<Nothing>([&](auto done) {
          backend->removexattr(nullptr, "file", "user.x", done);
        }).error_number() == ENOSYS);
}

// ---- Servers that lie ---------------------------------------------------------------------------

TEST_CASE("a full disk is told as such") {
  const auto backend = connected("sftp://liar/", test::lying_sftp_server("full"));
  const auto file = open_file(*backend, "entry-00001", O_RDWR).value();
  CHECK(write_file(*backend, file, 0, "text").error_number() == ENOSPC);
  CHECK(mkdir(*backend, "", "d").error_number() == ENOSPC);
  CHECK(create(*backend, "", "f").error_number() == ENOSPC);
}

TEST_CASE("a disk that is only read from is told as such") {
  const auto backend = connected("sftp://liar/", test::lying_sftp_server("read-only"));
  const auto file = open_file(*backend, "entry-00001", O_RDWR).value();
  CHECK(write_file(*backend, file, 0, "text").error_number() == EROFS);
  CHECK(mkdir(*backend, "", "d").error_number() == EROFS);
  CHECK(rmdir(*backend, "", "entry-00001").error_number() == ENOTDIR);
  SetAttr set;
  set.valid = SetAttr::kMode;
  CHECK(setattr(*backend, "entry-00001", set).error_number() == EROFS);
}

TEST_CASE("limits that no server has are not believed") {
  for (const char* lie : {"limits-tiny", "limits-huge", "limits-short"}) {
    INFO(lie);
    const auto backend = connected("sftp://liar/", test::lying_sftp_server(lie));
    const auto file = open_file(*backend, "entry-00001", O_RDWR).value();
    const uint64_t before = backend->counters().requests;
    CHECK(write_file(*backend, file, 0, std::string(1 << 20, 'x')).ok());
    const uint64_t requests = backend->counters().requests - before;
    CHECK(requests >= 5);
    CHECK(requests <= 257);
  }
}

TEST_CASE("answers of another kind, or too short, are errors, and nothing else") {
  for (const char* lie : {"change-wrong-type", "change-short", "change-random-status"}) {
    INFO(lie);
    const auto backend = connected("sftp://liar/", test::lying_sftp_server(lie));
    CHECK(!open_file(*backend, "entry-00001", O_RDWR).ok());
    CHECK(!create(*backend, "", "new").ok());
    CHECK(!mkdir(*backend, "", "new").ok());
    CHECK(!unlink(*backend, "", "entry-00001").ok());
    CHECK(!rename(*backend, "", "entry-00001", "", "new").ok());
    SetAttr set;
    set.valid = SetAttr::kSize;
    CHECK(!setattr(*backend, "entry-00001", set).ok());
    // It can still be asked.
    CHECK(lookup(*backend, "", "entry-00001").ok());
  }
}

}  // namespace
}  // namespace fusefs::sftp_test
