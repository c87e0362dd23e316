// Connections that are lost in the middle of a change: before the server has done it, and after it
// has, with the answer on its way.

#include <signal.h>
#include <stdio.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>

#include "tests/fusefs/backends/sftp_harness.h"
#include "tests/support/delay_proxy.h"
#include "tests/support/eventually.h"
#include "tests/support/ssh_server.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

namespace fusefs::sftp_test {
namespace {

using test::TempDir;

std::unique_ptr<Backend> mounted_by_pipe(const TempDir& dir) {
  return mounted(dir, test::piped_sftp_server());
}

void kill_server() {
  for (const pid_t pid : test::descendants(getpid())) kill(pid, SIGKILL);
}

enum class Moment : uint8_t { kBeforeItIsDone, kBeforeItIsTold };

// Makes the call, and ends the connection at that moment; `done` tells that it has happened.
template <typename T, typename Call, typename IsDone>
Result<T> cut(Backend& backend, Moment moment, const Call& call, const IsDone& is_done) {
  REQUIRE(test::eventually([&] { return backend.counters().inflight == 0; }));
  const bool before = moment == Moment::kBeforeItIsDone;
  kill(process_of(before ? "sftp-server" : "cat"), SIGSTOP);
  Pending<Result<T>> pending;
  call(pending.completion());
  CHECK(test::eventually([&] { return before ? backend.counters().inflight > 0 : is_done(); }));
  CHECK(is_done() != before);
  kill_server();
  return pending.get();
}

const auto kMoments = {Moment::kBeforeItIsDone, Moment::kBeforeItIsTold};

TEST_CASE("what is made is made once, whenever the connection is lost") {
  for (const Moment moment : kMoments) {
    INFO(static_cast<int>(moment));
    const TempDir dir;
    test::put_file(dir / "source", "content");
    const auto backend = mounted_by_pipe(dir);
    const auto is = [&](const char* name) { return [&dir, name] { return there(dir / name); }; };
    const auto created = cut<CreatedAnswer>(
        *backend, moment,
        [&](auto done) { backend->create(nullptr, "", "f", 0600, O_RDWR | O_EXCL, done); },
        is("f"));
    REQUIRE(created.ok());
    CHECK(write_file(*backend, created.value().file, 0, "text").ok());
    CHECK(test::text_of(dir / "f") == "text");
    const auto opened = cut<CreatedAnswer>(
        *backend, moment, [&](auto done) { backend->create(nullptr, "", "g", 0600, O_RDWR, done); },
        is("g"));
    CHECK(opened.ok());
    const auto made = cut<MadeAnswer>(
        *backend, moment, [&](auto done) { backend->mkdir(nullptr, "", "d", 0700, done); },
        is("d"));
    REQUIRE(made.ok());
    CHECK(S_ISDIR(made.value().entry.attr.mode));
    const auto soft = cut<MadeAnswer>(
        *backend, moment, [&](auto done) { backend->symlink(nullptr, "", "soft", "x", done); },
        is("soft"));
    CHECK(soft.ok());
    const auto hard = cut<MadeAnswer>(
        *backend, moment, [&](auto done) { backend->link(nullptr, "source", "", "hard", done); },
        is("hard"));
    REQUIRE(hard.ok());
    CHECK(hard.value().entry.attr.size == 7);
    CHECK(backend->counters().errors > 0);
  }
}

TEST_CASE("what is removed or moved is so once, whenever the connection is lost") {
  for (const Moment moment : kMoments) {
    INFO(static_cast<int>(moment));
    const TempDir dir;
    test::put_file(dir / "f");
    test::put_file(dir / "from", "from");
    test::put_file(dir / "to", "to");
    fs::create_directory(dir / "d");
    const auto backend = mounted_by_pipe(dir);
    const auto gone = [&](const char* name) { return [&dir, name] { return !there(dir / name); }; };
    CHECK(cut<DirChange>(
              *backend, moment, [&](auto done) { backend->unlink(nullptr, "", "f", done); },
              gone("f"))
              .ok());
    CHECK(
        cut<DirChange>(
            *backend, moment, [&](auto done) { backend->rmdir(nullptr, "", "d", done); }, gone("d"))
            .ok());
    CHECK(cut<RenamedAnswer>(
              *backend, moment,
              [&](auto done) { backend->rename(nullptr, "", "from", "", "to", 0, done); },
              gone("from"))
              .ok());
    CHECK(test::text_of(dir / "to") == "from");
    CHECK(cut<RenamedAnswer>(
              *backend, moment,
              [&](auto done) {
                backend->rename(nullptr, "", "to", "", "new", RENAME_NOREPLACE, done);
              },
              gone("to"))
              .ok());
    CHECK(test::text_of(dir / "new") == "from");
  }
}

TEST_CASE("what others have made meanwhile is not taken for ours") {
  const TempDir dir;
  const auto backend = mounted_by_pipe(dir);
  const auto not_done = [] { return false; };
  // The server is stopped before it does anything: whoever else makes the name is first.
  const auto others = [&](const char* name) {
    if (std::string(name) == "d") fs::create_directory(dir / name);
    if (std::string(name) == "f") test::put_file(dir / name, "theirs");
    if (std::string(name) == "soft") fs::create_symlink("theirs", dir / name);
    if (std::string(name) == "d") make_old(dir / name);
  };
  CHECK(cut<CreatedAnswer>(
            *backend, Moment::kBeforeItIsDone,
            [&](auto done) {
              backend->create(nullptr, "", "f", 0600, O_RDWR | O_EXCL, done);
              others("f");
            },
            not_done)
            .error_number() == EEXIST);
  CHECK(test::text_of(dir / "f") == "theirs");
  CHECK(cut<MadeAnswer>(
            *backend, Moment::kBeforeItIsDone,
            [&](auto done) {
              backend->mkdir(nullptr, "", "d", 0700, done);
              others("d");
            },
            not_done)
            .error_number() == EEXIST);
  CHECK(cut<MadeAnswer>(
            *backend, Moment::kBeforeItIsDone,
            [&](auto done) {
              backend->symlink(nullptr, "", "soft", "ours", done);
              others("soft");
            },
            not_done)
            .error_number() == EEXIST);
}

TEST_CASE("attributes and bytes are there, whenever the connection is lost") {
  for (const Moment moment : kMoments) {
    INFO(static_cast<int>(moment));
    const TempDir dir;
    test::put_file(dir / "f", "before");
    make_old(dir / "f");
    const auto backend = mounted_by_pipe(dir);
    const auto file = open_file(*backend, "f", O_RDWR).value();
    const auto reader = open_file(*backend, "f").value();
    const std::string bytes(1 << 20, 'x');
    const auto size = [&] { return fs::file_size(dir / "f"); };
    CHECK(
        cut<WriteAnswer>(
            *backend, moment,
            [&](auto done) { backend->write(nullptr, file, 3, bytes, StableHow::kUnstable, done); },
            [&] { return size() == 3 + bytes.size(); })
            .ok());
    const bool right = test::text_of(dir / "f") == "bef" + bytes;
    CHECK(right);
    SetAttr shorter;
    shorter.valid = SetAttr::kSize;
    shorter.size = 100;
    CHECK(cut<Attr>(
              *backend, moment,
              [&](auto done) { backend->setattr(nullptr, "f", file, shorter, done); },
              [&] { return size() == 100; })
              .value()
              .size == 100);
    SetAttr old;
    old.valid = SetAttr::kAtime | SetAttr::kMtime;
    old.atime.seconds = old.mtime.seconds = 5000;
    CHECK(cut<Attr>(
              *backend, moment, [&](auto done) { backend->setattr(nullptr, "f", 0, old, done); },
              [&] {
                struct stat status {};
                return stat((dir / "f").c_str(), &status) == 0 && status.st_mtim.tv_sec == 5000;
              })
              .value()
              .mtime.seconds == 5000);
    // Both know it again after all of that.
    CHECK(read_file(*backend, reader, 0, 5).value() == "befxx");
    CHECK(write_file(*backend, file, 0, "BEF").ok());
    kill_server();
    CHECK(read_file(*backend, reader, 0, 5).value() == "BEFxx");
    CHECK(fsync(*backend, file).ok());
    CHECK(getattr_open(*backend, file).value().size == 100);
  }
}

TEST_CASE("many writes under way when the connection is lost are all written") {
  const TempDir dir;
  const auto backend = mounted_by_pipe(dir);
  const auto file = create(*backend, "", "f").value().file;
  constexpr size_t kWrites = 20, kSize = 300'000;
  for (const char* stopped : {"sftp-server", "cat"}) {
    INFO(stopped);
    kill(process_of(stopped), SIGSTOP);
    std::vector<Pending<Result<WriteAnswer>>> pending(kWrites);
    for (size_t i = 0; i < kWrites; ++i) {
      backend->write(nullptr, file, i * kSize, std::string(kSize, static_cast<char>('a' + i)),
                     StableHow::kUnstable, pending[i].completion());
    }
    CHECK(test::eventually([&] { return backend->counters().inflight >= kWrites; }));
    kill_server();
    for (auto& one : pending) CHECK(one.get().ok());
    const std::string content = test::text_of(dir / "f");
    REQUIRE(content.size() == kWrites * kSize);
    for (size_t i = 0; i < kWrites; ++i) {
      REQUIRE(content.find_first_not_of(static_cast<char>('a' + i), i * kSize) >= (i + 1) * kSize);
    }
  }
}

TEST_CASE("writes go on over a far sshd's connection that breaks in the middle") {
  const TempDir dir;
  const test::SshServer server;
  test::DelayProxy proxy({.target_port = server.port(), .rtt = std::chrono::milliseconds(20)});
  const auto backend = connected(server.url(dir.path(), proxy.port()), server.options());
  const auto file = create(*backend, "", "f").value().file;
  constexpr size_t kWrites = 8, kSize = 1 << 20;
  std::vector<Pending<Result<WriteAnswer>>> pending(kWrites);
  for (size_t i = 0; i < kWrites; ++i) {
    backend->write(nullptr, file, i * kSize, std::string(kSize, static_cast<char>('A' + i)),
                   StableHow::kUnstable, pending[i].completion());
  }
  CHECK(pending[1].get().ok());
  proxy.cut();
  proxy.resume();
  for (size_t i = 0; i < kWrites; ++i) CHECK((i == 1 || pending[i].get().ok()));
  CHECK(fsync(*backend, file).ok());
  CHECK(proxy.accepted() >= 2);
  const std::string content = test::text_of(dir / "f");
  REQUIRE(content.size() == kWrites * kSize);
  for (size_t i = 0; i < kWrites; ++i) {
    REQUIRE(content.find_first_not_of(static_cast<char>('A' + i), i * kSize) >= (i + 1) * kSize);
  }
}

TEST_CASE("an open file is found again where it was moved to") {
  const TempDir dir;
  fs::create_directories(dir / "a/b");
  test::put_file(dir / "a/b/f", "content");
  test::put_file(dir / "g", "other");
  const auto backend = mounted_by_pipe(dir);
  const auto file = open_file(*backend, "a/b/f", O_RDWR).value();
  const auto other = open_file(*backend, "g").value();
  REQUIRE(rename(*backend, "", "a", "", "c").ok());
  REQUIRE(rename(*backend, "c/b", "f", "c", "h").ok());
  REQUIRE(rename(*backend, "", "g", "", "G").ok());
  kill_server();
  CHECK(read_file(*backend, file, 0, 9).value() == "content");
  CHECK(read_file(*backend, other, 0, 9).value() == "other");
  CHECK(write_file(*backend, file, 0, "CON").ok());
  CHECK(test::text_of(dir / "c/h") == "CONtent");
}

TEST_CASE("an open file that has no name any more is lost with the connection") {
  const TempDir dir;
  for (const char* name : {"doomed", "replaced", "new"}) test::put_file(dir / name, "content");
  const auto backend = mounted_by_pipe(dir);
  const auto doomed = open_file(*backend, "doomed", O_RDWR).value();
  const auto replaced = open_file(*backend, "replaced", O_RDWR).value();
  REQUIRE(unlink(*backend, "", "doomed").ok());
  REQUIRE(rename(*backend, "", "new", "", "replaced").ok());
  test::put_file(dir / "doomed", "another");
  kill_server();
  for (const auto file : {doomed, replaced}) {
    CHECK(read_file(*backend, file, 0, 9).error_number() == ESTALE);
    CHECK(write_file(*backend, file, 0, "x").error_number() == ESTALE);
    CHECK(getattr_open(*backend, file).error_number() == ESTALE);
  }
  CHECK(test::text_of(dir / "doomed") == "another");
}

TEST_CASE("an open file is neither made nor emptied when it is opened again") {
  const TempDir dir;
  test::put_file(dir / "f", "content");
  const auto backend = mounted_by_pipe(dir);
  const auto file = open_file(*backend, "f", O_RDWR | O_TRUNC).value();
  const auto made = create(*backend, "", "g", O_RDWR | O_EXCL).value().file;
  REQUIRE(write_file(*backend, file, 0, "text").ok());
  REQUIRE(write_file(*backend, made, 0, "text").ok());
  kill_server();
  CHECK(read_file(*backend, file, 0, 9).value() == "text");
  CHECK(read_file(*backend, made, 0, 9).value() == "text");
  kill_server();
  fs::remove(dir / "g");
  CHECK(write_file(*backend, made, 0, "x").error_number() != 0);
  CHECK(!there(dir / "g"));
}

TEST_CASE("a file that another has changed meanwhile is not written to") {
  const TempDir dir;
  test::put_file(dir / "f", "content");
  const auto backend = mounted_by_pipe(dir);
  const auto file = open_file(*backend, "f", O_RDWR).value();
  REQUIRE(write_file(*backend, file, 0, "CON").ok());
  kill_server();
  fs::remove(dir / "f");
  test::put_file(dir / "f", "of another");
  CHECK(write_file(*backend, file, 0, "x").error_number() == ESTALE);
  CHECK(test::text_of(dir / "f") == "of another");
}

}  // namespace
}  // namespace fusefs::sftp_test
