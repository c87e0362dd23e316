// The local back end on real temporary directories, against the kernel's own answers.

#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <set>

#include "fusefs/backends/local/local_attr.h"
#include "fusefs/backends/local/local_backend.h"
#include "tests/support/temp_dir.h"

namespace fusefs {
namespace {

using cache::DirAnswer;
using cache::DirRequest;
using cache::Timespec;
using local::IoPool;
using local::Resolver;
using test::TempDir;

constexpr std::chrono::seconds kDeadline{60};

void write_file(const std::string& path, std::string_view content = "") {
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0640);
  REQUIRE(fd >= 0);
  REQUIRE(::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  ::close(fd);
}

void make_directory(const std::string& path) { REQUIRE(::mkdir(path.c_str(), 0750) == 0); }

void make_files(const std::string& directory, int count) {
  for (int i = 0; i < count; ++i) write_file(directory + "/file" + std::to_string(i));
}

// The directory's ctime is moved out of the window in which tokens never repeat, by waiting for
// the clock: nothing can set a ctime. Bounded by that window.
void settle(const std::string& path) {
  struct stat st;
  do {
    REQUIRE(::lstat(path.c_str(), &st) == 0);
  } while (local::may_change_unseen({st.st_ctim.tv_sec, static_cast<uint32_t>(st.st_ctim.tv_nsec)},
                                    local::now_realtime()));
}

// What a callback told, once. Every operation but a listing has answered when the call returns.
template <typename T, typename Start>
Result<T> answer_of(Start start) {
  std::optional<Result<T>> answer;
  const Backend::RequestId id = start([&](Result<T> result) { answer.emplace(std::move(result)); });
  REQUIRE(id == 0);
  REQUIRE(answer.has_value());
  return std::move(*answer);
}

Result<LookupAnswer> lookup(Backend& backend, const ObjectId& parent, const std::string& name) {
  return answer_of<LookupAnswer>(
      [&](auto done) { return backend.lookup(nullptr, parent, name, done); });
}
Result<Attr> getattr(Backend& backend, const ObjectId& id) {
  return answer_of<Attr>([&](auto done) { return backend.getattr(nullptr, id, done); });
}
Result<std::string> readlink_of(Backend& backend, const ObjectId& id) {
  return answer_of<std::string>([&](auto done) { return backend.readlink(nullptr, id, done); });
}
Result<Backend::FileHandle> open_of(Backend& backend, const ObjectId& id, int flags = O_RDONLY) {
  return answer_of<Backend::FileHandle>(
      [&](auto done) { return backend.open(nullptr, id, flags, done); });
}
Result<std::string> read_of(Backend& backend, Backend::FileHandle file, uint64_t offset,
                            uint32_t size) {
  return answer_of<std::string>(
      [&](auto done) { return backend.read(nullptr, file, offset, size, done); });
}
Result<std::string> getxattr_of(Backend& backend, const ObjectId& id, const std::string& name) {
  return answer_of<std::string>(
      [&](auto done) { return backend.getxattr(nullptr, id, name, done); });
}

DirRequest request_after(uint64_t cookie, uint32_t max_entries, bool want_attrs = false) {
  DirRequest request;
  request.after.cookie = cookie;
  request.max_entries = max_entries;
  request.want_attrs = want_attrs;
  return request;
}

DirAnswer list_once(Backend& backend, const ObjectId& directory, DirRequest request) {
  auto promise = std::make_shared<std::promise<DirAnswer>>();
  std::future<DirAnswer> future = promise->get_future();
  const auto id =
      backend.read_dir(nullptr, directory, std::move(request),
                       [promise](DirAnswer&& answer) { promise->set_value(std::move(answer)); });
  REQUIRE(id != 0);
  REQUIRE(future.wait_for(kDeadline) == std::future_status::ready);
  DirAnswer answer = future.get();
  REQUIRE(answer.well_formed());
  return answer;
}

struct Listed {
  std::string name;
  uint64_t cookie = 0;
  uint64_t ino = 0;
};

// A whole listing from `cookie` on, `batch` entries at a time.
std::vector<Listed> list_from(Backend& backend, const ObjectId& directory, uint64_t cookie,
                              uint32_t batch) {
  std::vector<Listed> all;
  for (;;) {
    const DirAnswer answer = list_once(backend, directory, request_after(cookie, batch));
    REQUIRE(answer.error == 0);
    REQUIRE(answer.entries.size() <= batch);
    REQUIRE((answer.eof || !answer.entries.empty()));
    for (const DirAnswer::Entry& entry : answer.entries) {
      all.push_back({std::string(answer.name(entry)), entry.cookie, entry.ino});
    }
    if (answer.eof) return all;
    cookie = answer.entries.back().cookie;
  }
}

std::multiset<std::string> names_of(const std::vector<Listed>& entries) {
  std::multiset<std::string> names;
  for (const Listed& entry : entries) names.insert(entry.name);
  return names;
}

std::multiset<std::string> kernel_names(const std::string& path) {
  std::multiset<std::string> names;
  DIR* const directory = ::opendir(path.c_str());
  REQUIRE(directory != nullptr);
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.insert(name);
  }
  ::closedir(directory);
  return names;
}

std::unique_ptr<LocalBackend> connected(const std::string& path,
                                        LocalBackend::Options options = {}) {
  auto backend = std::make_unique<LocalBackend>(path, options);
  std::string error_text;
  const Result<LookupAnswer> root = backend->connect(&error_text);
  INFO(error_text);
  REQUIRE(root.ok());
  return backend;
}

void require_equals_lstat(const Attr& attr, const std::string& path) {
  struct stat st;
  REQUIRE(::lstat(path.c_str(), &st) == 0);
  CHECK(attr.ino == st.st_ino);
  CHECK(attr.mode == st.st_mode);
  CHECK(attr.nlink == st.st_nlink);
  CHECK(attr.uid == st.st_uid);
  CHECK(attr.gid == st.st_gid);
  CHECK(attr.rdev == st.st_rdev);
  CHECK(attr.size == static_cast<uint64_t>(st.st_size));
  CHECK(attr.blocks == static_cast<uint64_t>(st.st_blocks));
  CHECK(attr.mtime.seconds == st.st_mtim.tv_sec);
  CHECK(attr.mtime.nanoseconds == st.st_mtim.tv_nsec);
  CHECK(attr.ctime.seconds == st.st_ctim.tv_sec);
  CHECK(attr.ctime.nanoseconds == st.st_ctim.tv_nsec);
  CHECK(attr.atime.seconds == st.st_atim.tv_sec);
  CHECK(attr.atime.nanoseconds == st.st_atim.tv_nsec);
}

// A completion that keeps its I/O thread until it is let go.
class Gate {
 public:
  Gate() : opened_(open_.get_future().share()) {}
  ~Gate() { open(); }
  void open() {
    if (!is_open_) open_.set_value();
    is_open_ = true;
  }
  cache::DirSource::Completion completion() {
    auto entered = std::make_shared<std::promise<void>>();
    entered_.push_back(entered->get_future());
    return [entered, opened = opened_](DirAnswer&&) {
      entered->set_value();
      opened.wait_for(kDeadline);
    };
  }
  void wait_entered() {
    for (auto& entered : entered_) {
      REQUIRE(entered.wait_for(kDeadline) == std::future_status::ready);
    }
    entered_.clear();
  }

 private:
  bool is_open_ = false;
  std::promise<void> open_;
  std::shared_future<void> opened_;
  std::vector<std::future<void>> entered_;
};

TEST_CASE("connect says in one line what is wrong with the path") {
  const TempDir dir;
  write_file(dir / "file");
  std::string error_text;
  SECTION("missing") {
    LocalBackend backend(dir / "none", {});
    CHECK(backend.connect(&error_text).error_number() == ENOENT);
    CHECK(error_text.find("does not exist") != std::string::npos);
  }
  SECTION("a file") {
    LocalBackend backend(dir / "file", {});
    CHECK(backend.connect(&error_text).error_number() == ENOTDIR);
    CHECK(error_text.find("is not a directory") != std::string::npos);
  }
  SECTION("an empty path") {
    CHECK(make_local_backend("", &error_text) == nullptr);
    CHECK_FALSE(error_text.empty());
  }
  CHECK(error_text.find('\n') == std::string::npos);
}

TEST_CASE("a back end that never connected answers with an error") {
  LocalBackend backend("/", {});
  CHECK(getattr(backend, "").error_number() == ENOTCONN);
  CHECK(list_once(backend, "", request_after(0, 10)).error == ENOTCONN);
}

TEST_CASE("a link as the root is followed, the user wrote it") {
  const TempDir dir;
  make_directory(dir / "real");
  write_file(dir / "real/f");
  REQUIRE(::symlink("real", (dir / "link").c_str()) == 0);
  auto backend = connected(dir / "link");
  CHECK(names_of(list_from(*backend, "", 0, 10)) == std::multiset<std::string>{"f"});
}

TEST_CASE("an empty directory is one answer: the end") {
  const TempDir dir;
  auto backend = connected(dir.path());
  for (const uint32_t batch : {0u, 1u, 1000u}) {
    const DirAnswer answer = list_once(*backend, "", request_after(0, batch));
    CHECK(answer.error == 0);
    CHECK(answer.eof);
    CHECK(answer.entries.empty());
  }
}

TEST_CASE("a listing is complete with every batch size") {
  const TempDir dir;
  make_files(dir.path(), 700);
  auto backend = connected(dir.path());
  const auto expected = kernel_names(dir.path());
  for (const uint32_t batch : {1u, 2u, 3u, 7u, 39u, 45u, 46u, 128u, 333u, 699u, 700u, 701u, 702u,
                               5000u, 1u << 20, 0xffffffffu}) {
    INFO("batch " << batch);
    CHECK(names_of(list_from(*backend, "", 0, batch)) == expected);
  }
}

TEST_CASE("a listing resumes at every cookie, on a fresh descriptor and on a kept one") {
  const TempDir dir;
  make_files(dir.path(), 300);
  settle(dir.path());
  LocalBackend::Options options;
  options.kept_descriptors = GENERATE(size_t{0}, size_t{4});
  auto backend = connected(dir.path(), options);
  const std::vector<Listed> all = list_from(*backend, "", 0, 64);
  REQUIRE(all.size() == 300);
  for (size_t i = 0; i < all.size(); ++i) {
    const DirAnswer answer = list_once(*backend, "", request_after(all[i].cookie, 5));
    const size_t expected = std::min<size_t>(5, all.size() - i - 1);
    REQUIRE(answer.entries.size() == expected);
    for (size_t k = 0; k < expected; ++k) {
      REQUIRE(answer.name(answer.entries[k]) == all[i + 1 + k].name);
      REQUIRE(answer.entries[k].cookie == all[i + 1 + k].cookie);
    }
    REQUIRE((expected > 0 || answer.eof));
  }
}

TEST_CASE("trap 10: the entry at the resume cookie is deleted, others come and go") {
  const TempDir dir;
  make_files(dir.path(), 400);
  auto backend = connected(dir.path());
  std::multiset<std::string> survivors = kernel_names(dir.path());
  std::multiset<std::string> seen;
  uint64_t cookie = 0;
  int round = 0;
  for (bool eof = false; !eof; ++round) {
    const DirAnswer answer = list_once(*backend, "", request_after(cookie, 7));
    REQUIRE(answer.error == 0);
    eof = answer.eof;
    for (const auto& entry : answer.entries) seen.insert(std::string(answer.name(entry)));
    if (answer.entries.empty()) continue;
    cookie = answer.entries.back().cookie;
    const std::string last(answer.name(answer.entries.back()));
    REQUIRE(::unlink((dir / last).c_str()) == 0);
    write_file(dir / ("new" + std::to_string(round)));
  }
  for (const std::string& name : survivors) {
    INFO(name);
    REQUIRE(seen.count(name) == 1);
  }
  for (const std::string& name : seen) REQUIRE(seen.count(name) == 1);
}

TEST_CASE("deleting what each answer told empties the directory") {
  const TempDir dir;
  make_directory(dir / "d");
  make_files(dir / "d", 1000);
  auto backend = connected(dir.path());
  uint64_t cookie = 0;
  for (bool eof = false; !eof;) {
    const DirAnswer answer = list_once(*backend, "d", request_after(cookie, 37));
    REQUIRE(answer.error == 0);
    for (const auto& entry : answer.entries) {
      REQUIRE(::unlink((dir / ("d/" + std::string(answer.name(entry)))).c_str()) == 0);
      cookie = entry.cookie;
    }
    eof = answer.eof;
  }
  CHECK(::rmdir((dir / "d").c_str()) == 0);
}

TEST_CASE("a hundred thousand entries, few requests") {
  const TempDir dir;
  make_files(dir.path(), 100000);
  auto backend = connected(dir.path());
  const std::vector<Listed> all = list_from(*backend, "", 0, backend->max_batch());
  CHECK(all.size() == 100000);
  CHECK(names_of(all) == kernel_names(dir.path()));
  CHECK(backend->counters().requests <= 9);
  CHECK(backend->counters().inflight == 0);
  CHECK(backend->counters().errors == 0);
}

TEST_CASE("names of any bytes") {
  const TempDir dir;
  std::multiset<std::string> names = {
      "new\nline", "\xff\xfe\x80",       " ", "\\", "%00", "...", "..a", ".hid", "-rf",
      "\x01\x7f",  std::string(255, 'x')};
  for (const std::string& name : names) write_file(dir / name);
  auto backend = connected(dir.path());
  CHECK(names_of(list_from(*backend, "", 0, 2)) == names);
  for (const std::string& name : names) {
    const Result<LookupAnswer> found = lookup(*backend, "", name);
    REQUIRE(found.ok());
    CHECK(found.value().id == name);
    CHECK(backend->child_id("", name, 0) == name);
    require_equals_lstat(found.value().attr, dir / name);
  }
}

TEST_CASE("attributes equal lstat, one by one and in a listing") {
  const TempDir dir;
  write_file(dir / "file", "content");
  make_directory(dir / "dir");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::link((dir / "file").c_str(), (dir / "hard").c_str()) == 0);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  const timespec times[2] = {{-1000, 7}, {5000000000, 999999999}};
  REQUIRE(::utimensat(AT_FDCWD, (dir / "dir").c_str(), times, 0) == 0);

  LocalBackend::Options options;
  options.resolver = GENERATE(Resolver::kAuto, Resolver::kWalk);
  auto backend = connected(dir.path(), options);
  const DirAnswer answer = list_once(*backend, "", request_after(0, 100, true));
  REQUIRE(answer.has_attrs);
  REQUIRE(answer.entries.size() == 5);
  for (size_t i = 0; i < answer.entries.size(); ++i) {
    const std::string name(answer.name(answer.entries[i]));
    INFO(name);
    require_equals_lstat(answer.attrs[i], dir / name);
    CHECK(answer.entries[i].ino == answer.attrs[i].ino);
    CHECK(answer.entries[i].type == IFTODT(answer.attrs[i].mode));
    const Result<Attr> attr = getattr(*backend, name);
    REQUIRE(attr.ok());
    require_equals_lstat(attr.value(), dir / name);
  }
  require_equals_lstat(getattr(*backend, "").value(), dir.path());
  require_equals_lstat(getattr(*backend, ".").value(), dir.path());
  CHECK(readlink_of(*backend, "link").value() == "file");
  CHECK(readlink_of(*backend, "file").error_number() == EINVAL);
}

TEST_CASE("lookups: children, dots, bad names, gone parents") {
  const TempDir dir;
  make_directory(dir / "a");
  make_directory(dir / "a/b");
  write_file(dir / "a/b/f");
  LocalBackend::Options options;
  options.resolver = GENERATE(Resolver::kAuto, Resolver::kWalk);
  auto backend = connected(dir.path(), options);
  CHECK(lookup(*backend, "", "a").value().id == "a");
  CHECK(lookup(*backend, "a", "b").value().id == "a/b");
  CHECK(lookup(*backend, "a/b", "f").value().id == "a/b/f");
  CHECK(lookup(*backend, "a/b", ".").value().id == "a/b");
  CHECK(lookup(*backend, "a/b", "..").value().id == "a");
  CHECK(lookup(*backend, "a", "..").value().id.empty());
  CHECK(lookup(*backend, "", "..").value().id.empty());
  CHECK(lookup(*backend, "a", "none").error_number() == ENOENT);
  CHECK(lookup(*backend, "a", "b/f").error_number() == EINVAL);
  CHECK(lookup(*backend, "a", "").error_number() == EINVAL);
  CHECK(lookup(*backend, "a", std::string(256, 'x')).error_number() == ENAMETOOLONG);
  CHECK(lookup(*backend, "none", "f").error_number() == ESTALE);
  CHECK(lookup(*backend, "a/b/f", "x").error_number() == ENOTDIR);
  CHECK(getattr(*backend, "a/none").error_number() == ESTALE);
  CHECK(getattr(*backend, "a/b/f/x").error_number() == ESTALE);
  CHECK(list_once(*backend, "none", request_after(0, 1)).error == ESTALE);
  CHECK(list_once(*backend, "a/b/f", request_after(0, 1)).error == ENOTDIR);
  CHECK(backend->child_id("a", "b", 1) == "a/b");
  CHECK(backend->child_id("a", "..", 1).empty());
  CHECK(backend->child_id(std::string(4090, 'x'), "bbbbb", 1).empty());
}

TEST_CASE("nothing leads outside the root") {
  const TempDir dir;
  make_directory(dir / "root");
  make_directory(dir / "outside");
  write_file(dir / "outside/secret", "secret");
  make_directory(dir / "root/in");
  REQUIRE(::symlink("../outside", (dir / "root/up").c_str()) == 0);
  REQUIRE(::symlink("/etc", (dir / "root/abs").c_str()) == 0);
  REQUIRE(::symlink("in", (dir / "root/inner").c_str()) == 0);
  REQUIRE(::symlink("/proc/self/root", (dir / "root/magic").c_str()) == 0);
  LocalBackend::Options options;
  options.resolver = GENERATE(Resolver::kAuto, Resolver::kWalk);
  auto backend = connected(dir / "root", options);
  for (const char* id : {"up/secret", "abs/passwd", "../outside/secret", "..", "in/../../outside",
                         "/etc/passwd", "magic/etc/passwd", "inner/x"}) {
    INFO(id);
    CHECK_FALSE(getattr(*backend, id).ok());
    CHECK_FALSE(open_of(*backend, id).ok());
    CHECK_FALSE(getxattr_of(*backend, id, "user.x").ok());
    CHECK(list_once(*backend, id, request_after(0, 10)).error != 0);
  }
  // The links themselves are shown, and not entered.
  for (const char* id : {"up", "abs", "inner", "magic"}) {
    INFO(id);
    CHECK(S_ISLNK(getattr(*backend, id).value().mode));
    CHECK(list_once(*backend, id, request_after(0, 10)).error != 0);
    CHECK_FALSE(open_of(*backend, id).ok());
    CHECK_FALSE(lookup(*backend, id, "passwd").ok());
  }
}

TEST_CASE("files are read to their end, also after they are unlinked") {
  const TempDir dir;
  std::string content(3 << 20, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 251);
  write_file(dir / "f", content);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  auto backend = connected(dir.path());
  const Backend::FileHandle file = open_of(*backend, "f").value();
  CHECK(read_of(*backend, file, 0, 4096).value() == content.substr(0, 4096));
  CHECK(read_of(*backend, file, 12345, 2 << 20).value() == content.substr(12345, 2 << 20));
  CHECK(read_of(*backend, file, content.size() - 5, 100).value() ==
        content.substr(content.size() - 5));
  CHECK(read_of(*backend, file, content.size(), 100).value().empty());
  CHECK(read_of(*backend, file, ~uint64_t{0}, 100).value().empty());
  REQUIRE(::unlink((dir / "f").c_str()) == 0);
  CHECK(read_of(*backend, file, 0, 10).value() == content.substr(0, 10));
  backend->release(file);
  backend->release(file);
  CHECK(read_of(*backend, file, 0, 10).error_number() == EBADF);
  CHECK(open_of(*backend, "f").error_number() == ESTALE);
  CHECK(open_of(*backend, "").error_number() == EISDIR);
  CHECK(open_of(*backend, "fifo").error_number() == EINVAL);
  CHECK(open_of(*backend, "f", O_RDWR).error_number() == ESTALE);
  CHECK(open_of(*backend, "", O_WRONLY).error_number() == EISDIR);
  CHECK(open_of(*backend, "fifo", O_RDWR).error_number() == EINVAL);
}

TEST_CASE("statfs is the filesystem's") {
  const TempDir dir;
  auto backend = connected(dir.path());
  const StatfsAnswer answer = answer_of<StatfsAnswer>([&](auto done) {
                                return backend->statfs(nullptr, "", done);
                              }).value();
  CHECK(answer.block_size > 0);
  CHECK(answer.blocks > 0);
  CHECK(answer.name_max == 255);
}

TEST_CASE("extended attributes, small and as big as the filesystem takes them") {
  const TempDir dir;
  write_file(dir / "f");
  if (::setxattr((dir / "f").c_str(), "user.small", "value", 5, 0) != 0) {
    WARN("no user.* attributes on this filesystem: skipped");
    return;
  }
  std::string big(60000, 'b');
  while (::setxattr((dir / "f").c_str(), "user.big", big.data(), big.size(), 0) != 0) {
    REQUIRE(big.size() > 1000);
    big.resize(big.size() / 2);
  }
  auto backend = connected(dir.path());
  CHECK(getxattr_of(*backend, "f", "user.small").value() == "value");
  CHECK(getxattr_of(*backend, "f", "user.big").value() == big);
  CHECK(getxattr_of(*backend, "f", "user.none").error_number() == ENODATA);
  CHECK(getxattr_of(*backend, "none", "user.x").error_number() == ESTALE);
  const std::string list = answer_of<std::string>([&](auto done) {
                             return backend->listxattr(nullptr, "f", done);
                           }).value();
  CHECK(list.find(std::string("user.small\0", 11)) != std::string::npos);
  CHECK(list.find(std::string("user.big\0", 9)) != std::string::npos);
}

TEST_CASE("change tokens: the rule, as a table") {
  struct Row {
    Timespec ctime, now;
    bool may_change_unseen;
  };
  const Row rows[] = {
      {{100, 500}, {100, 500}, true},                    // this very tick
      {{100, 500}, {100, 49'999'999}, true},             // within 50 ms
      {{100, 500}, {100, 50'000'499}, true},             //
      {{100, 500}, {100, 50'000'500}, false},            // 50 ms later
      {{99, 999'999'999}, {100, 10'000'000}, true},      // across a second
      {{100, 40'000'000}, {100, 1}, true},               // stamped just after the clock was read
      {{200, 1}, {100, 1}, false},                       // far in the future: a clock set back
      {{100, 0}, {102, 0}, true},                        // whole seconds: a coarse filesystem
      {{100, 0}, {102, 100'000'000}, false},             //
      {{-9'000'000'000, 5}, {9'000'000'000, 5}, false},  // no overflow
  };
  for (const Row& row : rows) {
    INFO(row.ctime.seconds << '.' << row.ctime.nanoseconds << " at " << row.now.seconds << '.'
                           << row.now.nanoseconds);
    CHECK(local::may_change_unseen(row.ctime, row.now) == row.may_change_unseen);
  }
}

TEST_CASE("change tokens: equal while settled and unchanged, never again while young") {
  Attr attr;
  attr.ino = 5;
  attr.ctime = {100, 500};
  const Timespec later{200, 0};
  const uint64_t token = local::change_token(attr, 1, later);
  CHECK(token != 0);
  CHECK(local::change_token(attr, 1, later) == token);
  CHECK(local::change_token(attr, 2, later) != token);
  Attr changed = attr;
  changed.ctime.nanoseconds = 501;
  CHECK(local::change_token(changed, 1, later) != token);
  changed = attr;
  changed.mtime.seconds = 1;
  CHECK(local::change_token(changed, 1, later) != token);
  changed = attr;
  changed.size = 1;
  CHECK(local::change_token(changed, 1, later) != token);

  std::set<uint64_t> young;
  for (int i = 0; i < 1000; ++i) young.insert(local::change_token(attr, 1, attr.ctime));
  CHECK(young.size() == 1000);
  CHECK(young.count(token) == 0);
}

TEST_CASE("trap 7: a listing from the tick of a change never validates") {
  const TempDir dir;
  make_files(dir.path(), 10);
  auto backend = connected(dir.path());
  uint64_t young = 0;
  uint64_t settled = 0;
  // A machine that stands still in between makes the listing an old one: then once more.
  for (int attempt = 0; attempt < 50 && settled == young; ++attempt) {
    write_file(dir / ("young-" + std::to_string(attempt)));
    young = list_once(*backend, "", request_after(0, 100)).change;
    settle(dir.path());
    settled = getattr(*backend, "").value().change;
  }
  CHECK(settled != young);
  CHECK(getattr(*backend, "").value().change == settled);
  CHECK(list_once(*backend, "", request_after(0, 100)).change == settled);
  CHECK(list_once(*backend, "", request_after(0, 3)).change == settled);
  write_file(dir / "more");
  CHECK(getattr(*backend, "").value().change != settled);
  CHECK(list_once(*backend, "", request_after(0, 100)).change != settled);
}

TEST_CASE("a kept descriptor is not used once the directory changed or was replaced") {
  const TempDir dir;
  make_directory(dir / "d");
  make_files(dir / "d", 200);
  settle(dir / "d");
  auto backend = connected(dir.path());
  const DirAnswer first = list_once(*backend, "d", request_after(0, 50));
  const uint64_t cookie = first.entries.back().cookie;
  REQUIRE(::rename((dir / "d").c_str(), (dir / "old").c_str()) == 0);
  make_directory(dir / "d");
  const DirAnswer second = list_once(*backend, "d", request_after(cookie, 50));
  CHECK(second.error == 0);
  CHECK(second.entries.empty());
  CHECK(second.eof);
}

TEST_CASE("cookies that no directory has are bad cookies") {
  const TempDir dir;
  make_files(dir.path(), 3);
  auto backend = connected(dir.path());
  for (const uint64_t cookie : {uint64_t{1} << 63, ~uint64_t{0}}) {
    CHECK(list_once(*backend, "", request_after(cookie, 10)).error == cache::kErrBadCookie);
  }
}

TEST_CASE("a cancelled request that waits never completes, and what it captured is released") {
  const TempDir dir;
  make_files(dir.path(), 3);
  Gate gate;
  auto backend = connected(dir.path());
  for (int i = 0; i < 2; ++i)
    backend->read_dir(nullptr, "", request_after(0, 10), gate.completion());
  gate.wait_entered();
  auto captured = std::make_shared<std::atomic<int>>(0);
  const auto id = backend->read_dir(nullptr, "", request_after(0, 10),
                                    [captured](DirAnswer&&) { captured->fetch_add(1); });
  CHECK(captured.use_count() == 2);
  backend->cancel(id);
  backend->cancel(id);
  backend->cancel(12345678);
  CHECK(captured.use_count() == 1);
  gate.open();
  CHECK(list_once(*backend, "", request_after(0, 10)).entries.size() == 3);
  CHECK(captured->load() == 0);
}

TEST_CASE("a full queue answers 'again later', ahead of what waits") {
  const TempDir dir;
  Gate gate;
  LocalBackend::Options options;
  options.io.threads = 1;
  options.io.queue_bound = 2;
  auto backend = connected(dir.path(), options);
  backend->read_dir(nullptr, "", request_after(0, 10), gate.completion());
  gate.wait_entered();
  // One I/O thread writes; it is read after the last has completed.
  auto errors = std::make_shared<std::vector<int>>();
  auto all = std::make_shared<std::promise<void>>();
  for (int i = 0; i < 4; ++i) {
    backend->read_dir(nullptr, "", request_after(0, 10), [errors, all](DirAnswer&& answer) {
      errors->push_back(answer.error);
      if (errors->size() == 4) all->set_value();
    });
  }
  gate.open();
  REQUIRE(all->get_future().wait_for(kDeadline) == std::future_status::ready);
  CHECK(*errors == std::vector<int>{EAGAIN, EAGAIN, 0, 0});
}

TEST_CASE("the destructor drops what waits, joins what runs, and releases all captures") {
  const TempDir dir;
  make_files(dir.path(), 100);
  auto captured = std::make_shared<std::atomic<int>>(0);
  for (int round = 0; round < 50; ++round) {
    auto backend = connected(dir.path());
    for (int i = 0; i < 20; ++i) {
      backend->read_dir(nullptr, "", request_after(0, 1000, true),
                        [captured](DirAnswer&&) { captured->fetch_add(1); });
    }
    backend.reset();
    REQUIRE(captured.use_count() == 1);
  }
}

TEST_CASE("many threads list, look up and read at once") {
  const TempDir dir;
  make_directory(dir / "d");
  make_files(dir / "d", 500);
  auto backend = connected(dir.path());
  std::vector<std::future<size_t>> listers;
  for (int i = 0; i < 4; ++i) {
    listers.push_back(std::async(std::launch::async, [&backend, i] {
      size_t seen = 0;
      uint64_t cookie = 0;
      for (bool eof = false; !eof;) {
        auto promise = std::make_shared<std::promise<DirAnswer>>();
        backend->read_dir(nullptr, "d",
                          request_after(cookie, 13 + static_cast<uint32_t>(i), i % 2 == 0),
                          [promise](DirAnswer&& answer) { promise->set_value(std::move(answer)); });
        const DirAnswer answer = promise->get_future().get();
        if (answer.error != 0) return size_t{0};
        for (const auto& entry : answer.entries) {
          backend->lookup(nullptr, "d", std::string(answer.name(entry)),
                          [&](Result<LookupAnswer> found) { seen += found.ok() ? 1 : 0; });
          cookie = entry.cookie;
        }
        eof = answer.eof;
      }
      return seen;
    }));
  }
  for (auto& lister : listers) CHECK(lister.get() == 500);
  CHECK(backend->counters().inflight_peak >= 1);
}

}  // namespace
}  // namespace fusefs
