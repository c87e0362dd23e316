// The SFTP back end against OpenSSH's sftp-server, without ssh between them.

#include "fusefs/backends/sftp/sftp_backend.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <set>

#include "tests/fusefs/backends/sftp_harness.h"
#include "tests/support/eventually.h"
#include "tests/support/ssh_server.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

namespace fusefs::sftp_test {
namespace {

using test::TempDir;

std::vector<std::string> sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> make_files(const std::string& directory, size_t count,
                                    const std::string& prefix = "file-") {
  fs::create_directories(directory);
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) {
    std::string number = std::to_string(i);
    names.push_back(prefix + std::string(6 - number.size(), '0') + number);
    test::put_file(directory + "/" + names.back());
  }
  return names;
}

pid_t server_pid() {
  const std::vector<pid_t> children = test::descendants(getpid());
  REQUIRE(children.size() == 1);
  return children.front();
}

// ---- Listing ------------------------------------------------------------------------------------

TEST_CASE("a listing has every entry once, in answers of any size") {
  const TempDir dir;
  for (const size_t count : {0u, 1u, 97u, 98u, 99u, 100u, 101u, 1000u, 5000u}) {
    const std::string name = "d" + std::to_string(count);
    const auto expected = make_files(dir / name, count);
    const auto backend = mounted(dir);
    for (const uint32_t batch : {1u, 7u, 202u, 100'000u}) {
      if (batch == 1 && count > 1000) continue;
      INFO(count << " entries by " << batch);
      const Listing listing = list_after(*backend, name, batch);
      CHECK(listing.error == 0);
      CHECK(sorted(listing.names()) == expected);
    }
  }
}

TEST_CASE("entries come with types, attributes and the inode numbers that lookups give") {
  const TempDir dir;
  test::put_file(dir / "file", "12345");
  fs::create_directory(dir / "directory");
  REQUIRE(::symlink("nowhere", (dir / "link").c_str()) == 0);
  REQUIRE(mkfifo((dir / "fifo").c_str(), 0600) == 0);
  const auto backend = mounted(dir);
  const Listing listing = list_after(*backend, "", 100);
  REQUIRE(listing.entries.size() == 4);
  for (const Listed& entry : listing.entries) {
    INFO(entry.name);
    struct stat status {};
    REQUIRE(lstat((dir / entry.name).c_str(), &status) == 0);
    CHECK(entry.type == IFTODT(status.st_mode));
    const auto found = lookup(*backend, "", entry.name);
    REQUIRE(found.ok());
    CHECK(found.value().id == backend->child_id("", entry.name, entry.ino));
    for (const Attr& attr : {entry.attr, found.value().attr}) {
      CHECK(attr.ino == entry.ino);
      CHECK(attr.mode == status.st_mode);
      CHECK(attr.size == static_cast<uint64_t>(status.st_size));
      CHECK(attr.uid == status.st_uid);
      CHECK(attr.mtime.seconds == status.st_mtim.tv_sec);
    }
  }
}

TEST_CASE("a listing goes on from every place, on streams that stand there and on new ones") {
  const TempDir dir;
  make_files(dir / "d", 1500);
  make_old(dir / "d");
  const auto backend = mounted(dir);
  const Listing whole = list_after(*backend, "d", 400);
  REQUIRE(whole.entries.size() == 1500);
  const auto all = whole.names();
  for (const size_t at : {0u, 1u, 99u, 100u, 777u, 1498u, 1499u}) {
    INFO(at);
    const Listing rest = list_after(*backend, "d", 300, whole.entries[at].token);
    CHECK(rest.error == 0);
    CHECK(rest.names() ==
          std::vector<std::string>(all.begin() + static_cast<ptrdiff_t>(at) + 1, all.end()));
    // The same places by the same names: what is filled again has the cookies that it had.
    if (!rest.entries.empty()) CHECK(rest.entries.back().token == whole.entries.back().token);
  }
}

TEST_CASE("the same places are known on another connection") {
  const TempDir dir;
  make_files(dir / "d", 500);
  make_old(dir / "d");
  const Listing before = list_after(*mounted(dir), "d", 100);
  REQUIRE(before.entries.size() == 500);
  const Listing rest = list_after(*mounted(dir), "d", 100, before.entries[249].token);
  CHECK(rest.entries.size() == 250);
}

TEST_CASE("a place is found again where names before it have gone or come") {
  const TempDir dir;
  make_files(dir / "d", 1500);
  const auto backend = mounted(dir);
  const Listing whole = list_after(*backend, "d", 400);
  REQUIRE(whole.entries.size() == 1500);
  const auto all = whole.names();
  const auto expect_rest = [&](size_t at) {
    Listing rest = list_after(*backend, "d", 250, whole.entries[at].token);
    CHECK(rest.error == 0);
    std::erase_if(rest.entries, [](const auto& entry) { return entry.name[0] == 'n'; });
    CHECK(rest.names() ==
          std::vector<std::string>(all.begin() + static_cast<ptrdiff_t>(at) + 1, all.end()));
  };
  for (const size_t gone : {0, 5, 90, 91, 92}) fs::remove(dir / ("d/" + all[gone]));
  for (const size_t at : {93, 99, 750, 1498, 1499}) expect_rest(at);
  // Wherever the file system puts them.
  for (int i = 0; i < 100; ++i) std::ofstream(dir / ("d/n" + std::to_string(i)));
  for (const size_t at : {100, 751, 1499}) expect_rest(at);
}

TEST_CASE("a name that stands far from its place tells no place") {
  const TempDir dir;
  make_files(dir / "d", 3000);
  const auto backend = mounted(dir);
  const Listing whole = list_after(*backend, "d", 400);
  REQUIRE(whole.entries.size() == 3000);
  // As if it had been made anew, where the file system puts such files last, or first.
  const auto moved = [&](size_t from, size_t to) {
    std::string token = whole.entries[from].token;
    token.replace(12, 8, whole.entries[to].token, 12, 8);
    return list_after(*backend, "d", 250, token);
  };
  CHECK(moved(2500, 5).error == cache::kErrBadCookie);
  CHECK(moved(5, 2500).error == cache::kErrBadCookie);
  CHECK(moved(1500, 1300).error == 0);
  CHECK(moved(1300, 1500).entries.size() == 1499);
}

TEST_CASE("a place whose name is gone is a bad cookie, on a new stream only") {
  const TempDir dir;
  make_files(dir / "d", 1500);
  const auto backend = mounted(dir);
  const Listing whole = list_after(*backend, "d", 400);
  REQUIRE(whole.entries.size() == 1500);
  // The reader that is in the middle has its own stream, which goes on.
  const Listing half = list_after(*backend, "d", 250, {}, 750);
  REQUIRE(half.entries.size() == 750);
  fs::remove(dir / ("d/" + half.entries.back().name));
  const Listing rest = list_after(*backend, "d", 250, half.entries.back().token);
  CHECK(rest.error == 0);
  CHECK(rest.entries.size() == 750);
  const Listing again = list_after(*backend, "d", 250, whole.entries[749].token);
  CHECK(again.error == cache::kErrBadCookie);
}

TEST_CASE("tokens that are not ours are bad cookies") {
  const TempDir dir;
  const auto backend = mounted(dir);
  for (const std::string& token : {std::string("x"), std::string(20, '\0'), std::string(320, 'x'),
                                   std::string("12345678\xff\xff\xff\xff"
                                               "12345678")}) {
    CHECK(list_after(*backend, "", 10, token).error == cache::kErrBadCookie);
  }
}

TEST_CASE("a listing that begins after a change never takes an older listing's stream") {
  const TempDir dir;
  make_files(dir / "d", 3000);
  make_old(dir / "d");
  const auto backend = mounted(dir);
  // Left in the middle, with names read ahead.
  const Listing left = list_after(*backend, "d", 202, {}, 202);
  REQUIRE(left.entries.size() >= 202);
  for (int i = 2000; i < 3000; ++i) fs::remove(dir / ("d/file-00" + std::to_string(i)));
  make_old(dir / "d", 1'000'000'100);
  const Listing fresh = list_after(*backend, "d", 202);
  CHECK(fresh.error == 0);
  CHECK(fresh.entries.size() == 2000);
}

TEST_CASE("many listings side by side, more than there may be streams") {
  const TempDir dir;
  constexpr size_t kMany = 2 * sftp::SftpListing::kMaxStreams;
  for (size_t i = 0; i < kMany; ++i) make_files(dir / ("d" + std::to_string(i)), 3);
  const auto backend = mounted(dir);
  std::vector<Pending<DirAnswer>> pending(kMany);
  for (size_t i = 0; i < kMany; ++i) {
    const auto done = pending[i].completion();
    backend->read_dir(nullptr, "d" + std::to_string(i),
                      {.after = {}, .verifier = 0, .max_entries = 10, .want_attrs = false},
                      [done](DirAnswer&& answer) { done(std::move(answer)); });
  }
  for (auto& one : pending) CHECK(one.get().entries.size() == 3);
  CHECK(backend->counters().inflight_peak > 16);
}

TEST_CASE("a cancelled listing does not answer, and the next one does") {
  const TempDir dir;
  make_files(dir / "d", 2000);
  const auto backend = mounted(dir);
  const auto answered = std::make_shared<std::atomic<int>>(0);
  for (int i = 0; i < 50; ++i) {
    const auto id = backend->read_dir(
        nullptr, "d", {.after = {}, .verifier = 0, .max_entries = 10, .want_attrs = false},
        [answered](DirAnswer&&) { ++*answered; });
    backend->cancel(id);
    backend->cancel(id);
  }
  CHECK(list_after(*backend, "d", 500).entries.size() == 2000);
  CHECK(*answered <= 50);
}

TEST_CASE("what can't be listed says why") {
  const TempDir dir;
  test::put_file(dir / "file");
  const auto backend = mounted(dir);
  CHECK(list_after(*backend, "gone", 10).error == ESTALE);
  CHECK(list_after(*backend, "file", 10).error != 0);
}

// ---- Objects ------------------------------------------------------------------------------------

TEST_CASE("lookups, attributes and links") {
  const TempDir dir;
  fs::create_directories(dir / "a/b");
  test::put_file(dir / "a/b/file", "content");
  REQUIRE(::symlink("b/file", (dir / "a/link").c_str()) == 0);
  const auto backend = mounted(dir);
  CHECK(lookup(*backend, "a/b", "file").value().id == "a/b/file");
  CHECK(lookup(*backend, "a/b", "..").value().id == "a");
  CHECK(lookup(*backend, "a", "..").value().id.empty());
  CHECK(lookup(*backend, "a", "none").error_number() == ENOENT);
  CHECK(lookup(*backend, "a", "").error_number() == EINVAL);
  CHECK(lookup(*backend, "a", "x/y").error_number() == EINVAL);
  CHECK(lookup(*backend, "a", std::string(256, 'x')).error_number() == ENAMETOOLONG);
  CHECK(S_ISLNK(getattr(*backend, "a/link").value().mode));
  CHECK(getattr(*backend, "a/none").error_number() == ESTALE);
  Pending<Result<std::string>> link, none;
  backend->readlink(nullptr, "a/link", link.completion());
  CHECK(link.get().value() == "b/file");
  backend->readlink(nullptr, "a/none", none.completion());
  CHECK(none.get().error_number() == ESTALE);
}

TEST_CASE("a directory's token is its time, and never comes again while that is young") {
  const TempDir dir;
  fs::create_directory(dir / "d");
  const auto backend = mounted(dir);
  CHECK(getattr(*backend, "d").value().change != getattr(*backend, "d").value().change);
  make_old(dir / "d");
  const uint64_t old = getattr(*backend, "d").value().change;
  CHECK(old == getattr(*backend, "d").value().change);
  CHECK(old == lookup(*backend, "", "d").value().attr.change);
  make_old(dir / "d", 1'000'000'001);
  CHECK(old != getattr(*backend, "d").value().change);
}

TEST_CASE("the file system's figures") {
  const TempDir dir;
  const auto backend = mounted(dir);
  Pending<Result<StatfsAnswer>> pending;
  backend->statfs(nullptr, "", pending.completion());
  const auto told = pending.get();
  REQUIRE(told.ok());
  struct statvfs expected {};
  REQUIRE(statvfs(dir.path().c_str(), &expected) == 0);
  CHECK(told.value().blocks == expected.f_blocks);
  CHECK(told.value().block_size == expected.f_frsize);
}

// ---- Files --------------------------------------------------------------------------------------

TEST_CASE("files are read at any place, in any size") {
  const TempDir dir;
  std::string content(300'001, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 251);
  test::put_file(dir / "file", content);
  const auto backend = mounted(dir);
  const auto file = open_file(*backend, "file");
  REQUIRE(file.ok());
  for (const uint64_t offset : {0u, 1u, 32768u, 299'999u, 300'000u, 300'001u, 400'000u}) {
    for (const uint32_t size : {0u, 1u, 32768u, 32769u, 1'048'576u}) {
      INFO(size << " bytes at " << offset);
      const auto bytes = read_file(*backend, file.value(), offset, size);
      REQUIRE(bytes.ok());
      const bool right =
          bytes.value() == content.substr(std::min<uint64_t>(offset, content.size()), size);
      CHECK(right);
    }
  }
  backend->release(file.value());
  CHECK(read_file(*backend, file.value(), 0, 1).error_number() == EBADF);
  CHECK(open_file(*backend, "none").error_number() == ESTALE);
  const auto only_written = open_file(*backend, "file", O_WRONLY);
  CHECK(read_file(*backend, only_written.value(), 0, 1).error_number() == EBADF);
}

// ---- The server dies ----------------------------------------------------------------------------

TEST_CASE("a listing goes on where it was when the server has died") {
  const TempDir dir;
  const auto expected = make_files(dir / "d", 4000);
  make_old(dir / "d");
  const auto backend = mounted(dir);
  std::vector<std::string> names;
  std::string after;
  for (int round = 0; round < 8; ++round) {
    const Listing part = list_after(*backend, "d", 250, after, 500);
    REQUIRE(part.error == 0);
    for (const Listed& entry : part.entries) names.push_back(entry.name);
    after = part.entries.back().token;
    // What was read ahead is still given: there may be no new server yet.
    for (const pid_t server : test::descendants(getpid())) kill(server, SIGKILL);
  }
  CHECK(sorted(names) == expected);
  CHECK(backend->counters().errors > 0);
}

// Servers number their handles anew on each connection: what was one listing's is another's then.
// Many streams have together read as far ahead as they may, so that some stand in the middle with
// no request under way whose loss would tell them.
TEST_CASE("a handle of the last connection is never used on the next one") {
  const TempDir dir;
  const auto expected = make_files(dir / "one", sftp::DirStream::kMaxAheadAtFirst + 3000);
  make_files(dir / "two", sftp::DirStream::kMaxAheadAtFirst + 3000, "other-");
  make_old(dir / "one");
  make_old(dir / "two");
  const auto backend = mounted(dir);
  const auto idle = [&] { return backend->counters().inflight == 0; };
  std::vector<Listing> listings;
  for (int i = 0; i < 6; ++i) listings.push_back(list_after(*backend, "one", 100, {}, 100));
  REQUIRE(test::eventually(idle));
  kill(server_pid(), SIGKILL);
  REQUIRE(list_after(*backend, "two", 100, {}, 100).error == 0);
  for (const Listing& begun : listings) {
    REQUIRE(begun.error == 0);
    const Listing rest = list_after(*backend, "one", 1000, begun.entries.back().token);
    CHECK(rest.error == 0);
    std::vector<std::string> names = begun.names();
    for (const Listed& entry : rest.entries) names.push_back(entry.name);
    const bool exact = sorted(names) == expected;  // too long to be printed
    CHECK(exact);
  }
}

TEST_CASE("requests that wait when the server dies are answered by the next one") {
  const TempDir dir;
  test::put_file(dir / "file");
  const auto backend = mounted(dir);
  const pid_t server = server_pid();
  kill(server, SIGSTOP);
  Pending<Result<Attr>> attr;
  Pending<DirAnswer> names;
  backend->getattr(nullptr, "file", attr.completion());
  const auto done = names.completion();
  backend->read_dir(nullptr, "",
                    {.after = {}, .verifier = 0, .max_entries = 9, .want_attrs = false},
                    [done](DirAnswer&& answer) { done(std::move(answer)); });
  kill(server, SIGKILL);
  CHECK(attr.get().ok());
  CHECK(names.get().entries.size() == 1);
}

TEST_CASE("open files are read on over the server's death, unless the file has changed") {
  const TempDir dir;
  test::put_file(dir / "same", "the same");
  test::put_file(dir / "other", "before");
  const auto backend = mounted(dir);
  const auto same = open_file(*backend, "same");
  const auto other = open_file(*backend, "other");
  REQUIRE(read_file(*backend, other.value(), 0, 9).value() == "before");
  kill(server_pid(), SIGKILL);
  fs::remove(dir / "other");
  test::put_file(dir / "other", "what came after");
  CHECK(read_file(*backend, same.value(), 4, 9).value() == "same");
  CHECK(read_file(*backend, other.value(), 0, 9).error_number() == ESTALE);
}

TEST_CASE("ending a back end with requests under way leaves no process") {
  const TempDir dir;
  make_files(dir / "d", 3000);
  for (int round = 0; round < 10; ++round) {
    const auto backend = mounted(dir);
    for (int i = 0; i < 20; ++i) {
      backend->read_dir(nullptr, "d",
                        {.after = {}, .verifier = 0, .max_entries = 500, .want_attrs = true},
                        [](DirAnswer&&) {});
      backend->getattr(nullptr, "d", [](const Result<Attr>&) {});
    }
  }
  CHECK(test::descendants(getpid()).empty());
}

// ---- Servers that lie ---------------------------------------------------------------------------

std::vector<std::string> lying_names() {
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) {
    const std::string number = std::to_string(i);
    names.push_back("entry-" + std::string(5 - number.size(), '0') + number);
  }
  return names;
}

// What was met with each lie. Side by side: after a lie one waits before the server is tried again.
template <typename Met>
std::map<std::string, Met> met_with(const std::vector<std::string>& lies,
                                    const std::function<Met(const std::string& lie)>& meet) {
  std::vector<std::future<Met>> meetings;
  meetings.reserve(lies.size());
  for (const std::string& lie : lies) {
    meetings.push_back(std::async(std::launch::async, meet, lie));
  }
  std::map<std::string, Met> met;
  for (size_t i = 0; i < lies.size(); ++i) met[lies[i]] = meetings[i].get();
  return met;
}

TEST_CASE("a server that lies once is left, and the next one's listing is whole") {
  const TempDir dir;
  const auto met = met_with<Listing>(
      {"repeated-id", "unknown-id", "huge-length", "random", "death"}, [&](const std::string& lie) {
        const auto backend =
            connected("sftp://liar/", test::lying_sftp_server(lie, dir / (lie + "-told")));
        return list_after(*backend, "", 202);
      });
  for (const auto& [lie, listing] : met) {
    INFO(lie);
    CHECK(listing.error == 0);
    CHECK(sorted(listing.names()) == lying_names());
    CHECK(fs::exists(dir / (lie + "-told")));
  }
}

TEST_CASE("a server that goes on lying is an error, after what it said before") {
  struct Met {
    Listing listing;
    bool found = false;
  };
  const auto met =
      met_with<Met>({"repeated-id", "unknown-id", "huge-count", "small-count", "huge-length",
                     "long-name", "truncated", "random", "wrong-type", "ok-for-names", "failure"},
                    [](const std::string& lie) {
                      const auto backend = connected("sftp://liar/", test::lying_sftp_server(lie));
                      Met one{.listing = list_after(*backend, "", 202)};
                      one.found = lookup(*backend, "", "entry-00001").ok();
                      return one;
                    });
  for (const auto& [lie, one] : met) {
    INFO(lie);
    CHECK(one.listing.error == EIO);
    const auto names = one.listing.names();
    const auto all = lying_names();
    REQUIRE(names.size() <= all.size());
    CHECK(std::equal(names.begin(), names.end(), all.begin()));
    CHECK(one.found);  // it can still be asked
  }
}

TEST_CASE("a server that gives nothing, or the same again and again, is an error") {
  const auto met = met_with<int>({"empty", "endless"}, [](const std::string& lie) {
    const auto backend = connected("sftp://liar/", test::lying_sftp_server(lie));
    return list_after(*backend, "", 202).error;
  });
  for (const auto& [lie, error] : met) {
    INFO(lie);
    CHECK(error == EIO);
  }
}

TEST_CASE("answers that come in another order are put in the order of the requests") {
  const auto backend = connected("sftp://liar/", test::lying_sftp_server("out-of-order"));
  const Listing listing = list_after(*backend, "", 202);
  CHECK(listing.error == 0);
  CHECK(listing.names() == lying_names());
}

TEST_CASE(
    "names that can't be are handed to the cache, which refuses them, and the rest is right") {
  const auto backend = connected("sftp://liar/", test::lying_sftp_server("bad-names"));
  const Listing listing = list_after(*backend, "", 202);
  CHECK(listing.error == 0);
  CHECK(listing.entries.size() == 1005);
  for (const Listed& entry : listing.entries) CHECK(entry.token.size() <= cache::kMaxTokenBytes);
}

// ---- Connecting ---------------------------------------------------------------------------------

TEST_CASE("what can't be connected to says so in one line, and leaves no process") {
  const TempDir dir;
  test::put_file(dir / "file");
  const std::string plain = test::plain_sftp_server();
  const auto says = [](const std::string& line, const std::string& part) {
    INFO(line);
    CHECK(line.find(part) != std::string::npos);
    CHECK(line.find('\n') == std::string::npos);
  };
  says(connect_error("sftp://here" + dir.path() + "/none", plain), "does not exist");
  says(connect_error("sftp://here" + dir.path() + "/file", plain), "not a directory");
  says(connect_error("sftp://here/", "ssh_command=/no/such/program"), "No such file");
  says(connect_error("sftp://here/", "ssh_command=sh -c 'echo the reason >&2; exit 1'"),
       "the reason");
  says(connect_error("sftp://here/", "ssh_command=false"), "closed the connection");
  says(connect_error("sftp://liar/", test::lying_sftp_server("chatter")), "not SFTP");
  CHECK(test::descendants(getpid()).empty());
}

}  // namespace
}  // namespace fusefs::sftp_test
