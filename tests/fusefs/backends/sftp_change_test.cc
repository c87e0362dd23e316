// Names made, removed and moved over SFTP, against OpenSSH's sftp-server.

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/sysmacros.h>

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

// ---- Making -------------------------------------------------------------------------------------

TEST_CASE("a file is made, open and with its attributes") {
  const TempDir dir;
  const auto backend = mounted(dir);
  const auto made = create(*backend, "", "new", O_RDWR | O_EXCL, 0640);
  REQUIRE(made.ok());
  CHECK(made.value().entry.id == "new");
  CHECK(made.value().entry.attr.mode == (S_IFREG | 0640));
  CHECK(made.value().entry.attr.ino == lookup(*backend, "", "new").value().attr.ino);
  CHECK(status_of(dir / "new").st_mode == (S_IFREG | 0640));
  CHECK(write_file(*backend, made.value().file, 0, "text").ok());
  CHECK(read_file(*backend, made.value().file, 0, 9).value() == "text");
  backend->release(made.value().file);
}

TEST_CASE("a name that is there is no new file, but one to be opened") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  fs::create_directory(dir / "dir");
  REQUIRE(::symlink("nowhere", (dir / "dangling").c_str()) == 0);
  const auto backend = mounted(dir);
  for (const char* name : {"file", "dir", "dangling"}) {
    INFO(name);
    CHECK(create(*backend, "", name).error_number() == EEXIST);
    CHECK(mkdir(*backend, "", name).error_number() == EEXIST);
    CHECK(symlink(*backend, "", name, "x").error_number() == EEXIST);
    CHECK(link(*backend, "file", "", name).error_number() == EEXIST);
  }
  const auto opened = create(*backend, "", "file", O_RDWR);
  REQUIRE(opened.ok());
  CHECK(opened.value().parent.before == 0);  // nothing has changed in the directory
  CHECK(read_file(*backend, opened.value().file, 0, 9).value() == "content");
  const auto emptied = create(*backend, "", "file", O_WRONLY | O_TRUNC);
  REQUIRE(emptied.ok());
  CHECK(emptied.value().entry.attr.size == 0);
  CHECK(create(*backend, "", "dir", O_RDWR).error_number() == EISDIR);
  CHECK(!there(dir / "nowhere"));
}

TEST_CASE("directories, links and plain files are made; pipes and devices are not") {
  const TempDir dir;
  test::put_file(dir / "file", "content");
  const auto backend = mounted(dir);
  const auto directory = mkdir(*backend, "", "d", 0750);
  REQUIRE(directory.ok());
  CHECK(directory.value().entry.attr.mode == (S_IFDIR | 0750));
  CHECK(status_of(dir / "d").st_mode == (S_IFDIR | 0750));
  const auto soft = symlink(*backend, "d", "soft", "../the target");
  REQUIRE(soft.ok());
  CHECK(soft.value().entry.id == "d/soft");
  CHECK(S_ISLNK(soft.value().entry.attr.mode));
  CHECK(fs::read_symlink(dir / "d/soft") == "../the target");
  const auto hard = link(*backend, "file", "d", "hard");
  REQUIRE(hard.ok());
  CHECK(hard.value().entry.attr.size == 7);
  CHECK(status_of(dir / "d/hard").st_ino == status_of(dir / "file").st_ino);
  const auto mknod = [&](const std::string& name, uint32_t mode) {
    return answer_of<MadeAnswer>(
        [&](auto done) { backend->mknod(nullptr, "", name, mode, makedev(1, 3), done); });
  };
  CHECK(mknod("plain", S_IFREG | 0600).value().entry.attr.mode == (S_IFREG | 0600));
  CHECK(mknod("plain", S_IFREG | 0600).error_number() == EEXIST);
  for (const mode_t type : {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK}) {
    CHECK(mknod("other", type | 0600).error_number() == EPERM);
  }
}

TEST_CASE("what can't be made says why") {
  const TempDir dir;
  test::put_file(dir / "file");
  fs::create_directory(dir / "d");
  const auto backend = mounted(dir);
  const std::string long_parent(4090, 'x');
  for (const auto& [parent, name, error] :
       {std::tuple<std::string, std::string, int>{"gone", "x", ESTALE},
        {"file", "x", ENOTDIR},
        {"", "", EINVAL},
        {"", ".", EINVAL},
        {"", "..", EINVAL},
        {"", "a/b", EINVAL},
        {"", std::string("a\0b", 3), EINVAL},
        {"", std::string(256, 'x'), ENAMETOOLONG},
        {long_parent, "too long", ENAMETOOLONG}}) {
    INFO(parent.substr(0, 9) << " " << name.substr(0, 9));
    CHECK(create(*backend, parent, name).error_number() == error);
    CHECK(mkdir(*backend, parent, name).error_number() == error);
    CHECK(symlink(*backend, parent, name, "x").error_number() == error);
    CHECK(link(*backend, "file", parent, name).error_number() == error);
    CHECK(unlink(*backend, parent, name).error_number() == error);
    CHECK(rmdir(*backend, parent, name).error_number() == error);
  }
  CHECK(link(*backend, "none", "", "x").error_number() == ESTALE);
  CHECK(link(*backend, "d", "", "x").error_number() == EPERM);
}

TEST_CASE("what the server's user may not do is refused as such") {
  if (geteuid() != 0) return;  // nobody to be refused
  const TempDir dir;
  fs::create_directory(dir / "d");
  test::put_file(dir / "d/file", "content");
  const auto backend = mounted(dir, test::unprivileged_sftp_server());
  CHECK(create(*backend, "d", "x").error_number() == EACCES);
  CHECK(mkdir(*backend, "d", "x").error_number() == EACCES);
  CHECK(unlink(*backend, "d", "file").error_number() == EACCES);
  CHECK(rename(*backend, "d", "file", "d", "x").error_number() == EACCES);
  CHECK(open_file(*backend, "d/file", O_RDWR).error_number() == EACCES);
  CHECK(open_file(*backend, "d/file").ok());
}

// ---- Removing -----------------------------------------------------------------------------------

TEST_CASE("names are removed, and what can't be says why") {
  const TempDir dir;
  fs::create_directories(dir / "full/inner");
  fs::create_directory(dir / "empty");
  test::put_file(dir / "file");
  REQUIRE(::symlink("full", (dir / "link").c_str()) == 0);
  const auto backend = mounted(dir);
  CHECK(unlink(*backend, "", "full").error_number() == EISDIR);
  CHECK(unlink(*backend, "", "none").error_number() == ENOENT);
  CHECK(rmdir(*backend, "", "full").error_number() == ENOTEMPTY);
  CHECK(rmdir(*backend, "", "file").error_number() == ENOTDIR);
  CHECK(rmdir(*backend, "", "link").error_number() == ENOTDIR);
  CHECK(rmdir(*backend, "", "none").error_number() == ENOENT);
  CHECK(rmdir(*backend, "", "empty").ok());
  CHECK(unlink(*backend, "", "file").ok());
  CHECK(unlink(*backend, "", "link").ok());
  CHECK(std::distance(fs::directory_iterator(dir.path()), {}) == 1);
}

// ---- Renaming -----------------------------------------------------------------------------------

TEST_CASE("a rename moves and replaces") {
  const TempDir dir;
  fs::create_directories(dir / "a/deep");
  fs::create_directory(dir / "b");
  test::put_file(dir / "a/one", "one");
  test::put_file(dir / "b/two", "two");
  const auto backend = mounted(dir);
  CHECK(rename(*backend, "a", "one", "b", "two").ok());
  CHECK(test::text_of(dir / "b/two") == "one");
  CHECK(!there(dir / "a/one"));
  CHECK(rename(*backend, "", "a", "b", "c").ok());
  CHECK(there(dir / "b/c/deep"));
  CHECK(rename(*backend, "b", "two", "b", "two").ok());
}

TEST_CASE("a rename that can't be says why") {
  const TempDir dir;
  fs::create_directories(dir / "full/inner");
  fs::create_directory(dir / "d");
  test::put_file(dir / "file");
  const auto backend = mounted(dir);
  CHECK(rename(*backend, "", "none", "", "x").error_number() == ENOENT);
  CHECK(rename(*backend, "", "file", "gone", "x").error_number() == ESTALE);
  CHECK(rename(*backend, "", "d", "", "full").error_number() == ENOTEMPTY);
  CHECK(rename(*backend, "", "d", "", "file").error_number() == ENOTDIR);
  CHECK(rename(*backend, "", "file", "", "d").error_number() == EISDIR);
  CHECK(rename(*backend, "", "full", "full/inner", "x").error_number() == EINVAL);
  CHECK(rename(*backend, "", "file", "", "d", RENAME_EXCHANGE).error_number() == EINVAL);
  CHECK(there(dir / "file"));
}

TEST_CASE("a rename that is to replace nothing replaces nothing") {
  const TempDir dir;
  test::put_file(dir / "file", "one");
  test::put_file(dir / "other", "two");
  fs::create_directory(dir / "d");
  REQUIRE(::symlink("nowhere", (dir / "dangling").c_str()) == 0);
  const auto backend = mounted(dir);
  for (const char* name : {"other", "d", "dangling"}) {
    CHECK(rename(*backend, "", "file", "", name, RENAME_NOREPLACE).error_number() == EEXIST);
  }
  CHECK(rename(*backend, "", "d", "", "other", RENAME_NOREPLACE).error_number() == EEXIST);
  CHECK(rename(*backend, "", "file", "d", "new", RENAME_NOREPLACE).ok());
  CHECK(rename(*backend, "", "d", "", "e", RENAME_NOREPLACE).ok());
  CHECK(test::text_of(dir / "e/new") == "one");
  CHECK(test::text_of(dir / "other") == "two");
}

TEST_CASE("a server without posix-rename replaces in two steps") {
  const TempDir dir;
  fs::create_directories(dir / "full/inner");
  fs::create_directory(dir / "empty");
  test::put_file(dir / "one", "one");
  test::put_file(dir / "two", "two");
  const auto backend = mounted(dir, test::plain_sftp_server("-P posix-rename"));
  CHECK(rename(*backend, "", "one", "", "two").ok());
  CHECK(test::text_of(dir / "two") == "one");
  CHECK(!there(dir / "one"));
  CHECK(rename(*backend, "", "full", "", "two").error_number() == ENOTDIR);
  CHECK(rename(*backend, "", "two", "", "full").error_number() == EISDIR);
  CHECK(rename(*backend, "", "empty", "", "full").error_number() == ENOTEMPTY);
  CHECK(rename(*backend, "", "full", "", "empty").ok());
  CHECK(there(dir / "empty/inner"));
}

TEST_CASE("ids below what was moved follow it") {
  const TempDir dir;
  const auto backend = mounted(dir);
  CHECK(backend->moved_id("a/b", "a", "c/d") == "c/d/b");
  CHECK(backend->moved_id("a", "a", "c") == "c");
  CHECK(backend->moved_id("ab", "a", "c").empty());
  CHECK(backend->moved_id("", "a", "c").empty());
}

// ---- Listings -----------------------------------------------------------------------------------

TEST_CASE("a listing of what was moved does not go on under the old name") {
  const TempDir dir;
  for (const char* name : {"d", "other"}) fs::create_directory(dir / name);
  for (int i = 0; i < 1500; ++i) test::put_file(dir / ("d/old-" + std::to_string(i)));
  for (int i = 0; i < 1500; ++i) test::put_file(dir / ("other/new-" + std::to_string(i)));
  make_old(dir / "d");
  make_old(dir / "other");
  const auto backend = mounted(dir);
  const Listing begun = list_after(*backend, "d", 100, {}, 100);
  REQUIRE(begun.error == 0);
  REQUIRE(rename(*backend, "", "d", "", "e").ok());
  REQUIRE(rename(*backend, "", "other", "", "d").ok());
  make_old(dir / "d");
  const Listing rest = list_after(*backend, "d", 100, begun.entries.back().token);
  for (const Listed& entry : rest.entries) REQUIRE(entry.name.starts_with("new-"));
  CHECK(list_after(*backend, "e", 400).entries.size() == 1500);
}

// ---- Change tokens ------------------------------------------------------------------------------

TEST_CASE("changes of ours tell from which token to which they lead") {
  const TempDir dir;
  fs::create_directory(dir / "d");
  make_old(dir / "d");
  const auto backend = mounted(dir);
  const uint64_t token = getattr(*backend, "d").value().change;
  const auto first = mkdir(*backend, "d", "one").value().parent;
  CHECK(first.before == token);
  const auto second = create(*backend, "d", "two").value().parent;
  CHECK(second.before == first.after);
  const auto third = unlink(*backend, "d", "two").value();
  CHECK(third.before == second.after);
  const auto fourth = rename(*backend, "d", "one", "d", "three").value();
  CHECK(fourth.from.before == third.after);
  CHECK(fourth.to.after == fourth.from.after);
  // What is asked for meanwhile is another one: by it, a listing is made anew.
  CHECK(getattr(*backend, "d").value().change != fourth.from.after);
}

TEST_CASE("what we change in a directory that we have made leads on from the token it got then") {
  const TempDir dir;
  const auto backend = mounted(dir);
  const auto made = mkdir(*backend, "", "d").value();
  const auto first = create(*backend, "d", "one").value().parent;
  CHECK(first.before == made.entry.attr.change);
  CHECK(create(*backend, "d", "two").value().parent.before == first.after);
  // Where somebody else comes between, it shows.
  const auto other = mkdir(*backend, "", "e").value();
  make_old(dir / "e");
  CHECK(create(*backend, "e", "one").value().parent.before != other.entry.attr.change);
}

TEST_CASE("changes of others show in the tokens of ours") {
  const TempDir dir;
  fs::create_directories(dir / "d");
  fs::create_directory(dir / "e");
  make_old(dir / "d");
  make_old(dir / "e");
  const auto backend = mounted(dir);
  const uint64_t token = getattr(*backend, "d").value().change;
  const uint64_t other_token = getattr(*backend, "e").value().change;
  make_old(dir / "d", 1'000'000'001);
  const auto first = mkdir(*backend, "d", "one").value().parent;
  CHECK(first.before != token);
  make_old(dir / "d", 1'000'000'002);
  const auto moved = rename(*backend, "d", "one", "e", "two").value();
  CHECK(moved.from.before != first.after);
  CHECK(moved.to.before == other_token);
  CHECK(moved.to.after != moved.from.after);
}

// ---- Round trips --------------------------------------------------------------------------------

TEST_CASE("every change of a name is one round trip") {
  const TempDir dir;
  test::put_file(dir / "file");
  test::put_file(dir / "doomed");
  fs::create_directory(dir / "empty");
  const auto backend = mounted(dir);
  // All that is asked for is under way while the server says nothing.
  const auto one_round_trip = [&](uint64_t requests, const auto& call) {
    const pid_t server = process_of("sftp-server");
    REQUIRE(test::eventually([&] { return backend->counters().inflight == 0; }));
    const uint64_t before = backend->counters().requests;
    kill(server, SIGSTOP);
    auto pending = call();
    CHECK(test::eventually([&] { return backend->counters().inflight == requests; }));
    kill(server, SIGCONT);
    const auto answer = pending.get();
    CHECK(answer.ok());
    CHECK(backend->counters().requests - before == requests);
  };
  const auto asked = [](auto type, const auto& call) {
    Pending<Result<decltype(type)>> pending;
    call(pending.completion());
    return pending;
  };
  one_round_trip(5, [&] {
    return asked(CreatedAnswer{}, [&](auto done) {
      backend->create(nullptr, "", "new", 0644, O_RDWR | O_EXCL, done);
    });
  });
  one_round_trip(5, [&] {
    return asked(MadeAnswer{}, [&](auto done) { backend->mkdir(nullptr, "", "d", 0755, done); });
  });
  one_round_trip(5, [&] {
    return asked(MadeAnswer{},
                 [&](auto done) { backend->symlink(nullptr, "", "soft", "new", done); });
  });
  one_round_trip(6, [&] {
    return asked(MadeAnswer{},
                 [&](auto done) { backend->link(nullptr, "new", "d", "hard", done); });
  });
  one_round_trip(3, [&] {
    return asked(DirChange{}, [&](auto done) { backend->unlink(nullptr, "", "doomed", done); });
  });
  one_round_trip(3, [&] {
    return asked(DirChange{}, [&](auto done) { backend->rmdir(nullptr, "", "empty", done); });
  });
  one_round_trip(7, [&] {
    return asked(RenamedAnswer{},
                 [&](auto done) { backend->rename(nullptr, "", "file", "d", "moved", 0, done); });
  });
}

TEST_CASE("a create that was cancelled leaves no file open") {
  const TempDir dir;
  const auto backend = mounted(dir);
  const pid_t server = process_of("sftp-server");
  kill(server, SIGSTOP);
  // Answers that have arrived may be worked on before the cancellation: then it came too late.
  const auto too_late = [&](const Result<CreatedAnswer>& answer) {
    if (answer.ok()) backend->release(answer.value().file);
  };
  const auto id = backend->create(nullptr, "", "new", 0644, O_RDWR | O_EXCL, too_late);
  REQUIRE(test::eventually([&] { return backend->counters().inflight >= 5; }));
  backend->cancel(id);
  kill(server, SIGCONT);
  CHECK(test::eventually([&] { return there(dir / "new"); }));
  const auto open_files = [&] {
    size_t count = 0;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(server) + "/fd")) {
      std::error_code gone;
      if (fs::read_symlink(entry, gone).string().starts_with(dir.path())) ++count;
    }
    return count;
  };
  CHECK(test::eventually([&] { return open_files() == 0; }));
}

}  // namespace
}  // namespace fusefs::sftp_test
