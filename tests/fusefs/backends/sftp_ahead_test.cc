// Files that are made ahead: the server is stopped while they are answered, refuses them, or is
// lost with them.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/backends/sftp/sftp_attr.h"
#include "tests/fusefs/backends/sftp_harness.h"
#include "tests/support/eventually.h"
#include "tests/support/ssh_server.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

namespace fusefs::sftp_test {
namespace {

using sftp::wall_seconds_now;
using test::TempDir;

// What is made ahead: the answer that is a promise, and the server's own.
struct Making {
  Backend::RequestId request = 0;
  Pending<Result<CreatedAnswer>> told, late;
  std::shared_ptr<std::atomic<int>> told_count = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<std::atomic<int>> late_count = std::make_shared<std::atomic<int>>(0);

  [[nodiscard]] bool is_told() const { return *told_count > 0; }
  [[nodiscard]] bool is_settled() const { return *late_count > 0; }
};

Backend::Done<CreatedAnswer> counted(Pending<Result<CreatedAnswer>>& pending,
                                     const std::shared_ptr<std::atomic<int>>& count) {
  return [count, done = pending.completion()](Result<CreatedAnswer> answer) {
    if (++*count == 1) done(std::move(answer));
  };
}

struct What {
  std::string name;
  int flags = O_RDWR | O_EXCL;
  uint32_t mode = 0644;
};

Making create_ahead(Backend& backend, const ObjectId& parent, const What& what) {
  Making making;
  making.request = backend.create_ahead(nullptr, parent, what.name, what.mode, what.flags,
                                        counted(making.told, making.told_count),
                                        counted(making.late, making.late_count));
  return making;
}

// The loop has come to all that was asked for before; the server need not have.
void wait_for_loop(Backend& backend) {
  CHECK(read_file(backend, ~Backend::FileHandle{0}, 0, 1).error_number() == EBADF);
}

class Rig {
 public:
  explicit Rig(const std::string& server = test::plain_sftp_server("-u 0"))
      : backend_(mounted(dir_, server)) {}
  ~Rig() { resume(); }

  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }
  const TempDir& dir() const { return dir_; }
  // The directory that all is made in.
  const std::string& parent() const { return parent_; }
  [[nodiscard]] std::string id(const std::string& name) const { return parent_ + "/" + name; }
  [[nodiscard]] std::string path(const std::string& name) const { return dir_ / id(name); }

  // Begins these in a new directory in which a sibling has just been made, while `program` of the
  // server is stopped. What is known of a directory is good for a second: again where that has
  // passed.
  std::vector<Making> begin(const std::vector<What>& files, uint32_t sibling_mode = 0666,
                            const std::string& program = "sftp-server") {
    for (;;) {
      parent_ = "d" + std::to_string(++directories_);
      REQUIRE(mkdir(*backend_, "", parent_).ok());
      if (set_up_) set_up_();
      const pid_t server = process_of(program);
      const int64_t begun = wall_seconds_now();
      const auto sibling = create(*backend_, parent_, "sibling", O_RDWR | O_EXCL, sibling_mode);
      REQUIRE(sibling.ok());
      stop(server);
      std::vector<Making> made;
      made.reserve(files.size());
      for (const What& file : files) made.push_back(create_ahead(*backend_, parent_, file));
      backend_->release(sibling.value().file);
      wait_for_loop(*backend_);
      if (wall_seconds_now() == begun) return made;
      resume();
      for (Making& making : made) {
        const auto told = making.told.get();
        REQUIRE(told.ok());
        backend_->release(told.value().file);
      }
      REQUIRE(getattr(*backend_, parent_).ok());  // all that was sent before has been answered
    }
  }
  Making begin_one(const std::string& name, int flags = O_RDWR | O_EXCL) {
    return std::move(begin({{name, flags}}).front());
  }

  // What is to be done in each new directory before that.
  void set_up(std::function<void()> work) { set_up_ = std::move(work); }

  void stop(pid_t server) {
    stopped_ = server;
    REQUIRE(kill(server, SIGSTOP) == 0);
  }
  void resume() {
    if (const pid_t server = std::exchange(stopped_, 0); server != 0) kill(server, SIGCONT);
  }
  void kill_server() {
    stopped_ = 0;
    for (const pid_t pid : test::descendants(getpid())) kill(pid, SIGKILL);
  }
  void unmount() { backend_.reset(); }

 private:
  const TempDir dir_;
  std::unique_ptr<Backend> backend_;
  std::string parent_;
  std::function<void()> set_up_;
  int directories_ = 0;
  pid_t stopped_ = 0;
};

// How often that process has the file open.
size_t opened_by(pid_t pid, const std::string& path) {
  size_t count = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    if (fs::read_symlink(entry.path(), error) == path) ++count;
  }
  return count;
}

// ---- The promise --------------------------------------------------------------------------------

TEST_CASE("the first file of a directory is waited for, those after it are not") {
  Rig rig;
  REQUIRE(mkdir(*rig, "", "new").ok());
  Making first = create_ahead(*rig, "new", {"first"});
  const auto told = first.told.get();
  REQUIRE(told.ok());
  CHECK(!told.value().ahead);
  CHECK(write_file(*rig, told.value().file, 0, "text").ok());
  CHECK(test::text_of(rig.dir() / "new/first") == "text");
  CHECK(!first.is_settled());

  auto made = rig.begin({{"a"}, {"b"}});
  REQUIRE(made[0].is_told());
  REQUIRE(made[1].is_told());
  const auto a = made[0].told.get().value(), b = made[1].told.get().value();
  CHECK(a.ahead);
  CHECK(a.file != b.file);
  CHECK(a.entry.id == rig.id("a"));
  CHECK(b.entry.id == rig.id("b"));
  CHECK(a.parent.before != 0);
  CHECK(b.parent.before == a.parent.after);
  CHECK(!there(rig.path("a")));
  CHECK(!made[0].is_settled());
  rig.resume();
  for (size_t i : {0, 1}) {
    const auto late = made[i].late.get();
    REQUIRE(late.ok());
    CHECK(late.value().parent.after == (i == 0 ? a : b).parent.after);
    CHECK(late.value().file == 0);
  }
  CHECK(there(rig.path("a")));
  CHECK(there(rig.path("b")));
  // What is made the slow way goes on from what was promised.
  REQUIRE(mkdir(*rig, rig.parent(), "c").value().parent.before == b.parent.after);
  CHECK(made[0].told_count->load() == 1);
  CHECK(made[0].late_count->load() == 1);
}

TEST_CASE("what is promised of a file is what it then is") {
  Rig rig(test::plain_sftp_server("-u 027"));
  const std::vector<What> files = {{"a", O_RDWR | O_EXCL, 0666},
                                   {"b", O_RDONLY | O_EXCL, 0644},
                                   {"c", O_WRONLY | O_EXCL, 0600},
                                   {"d", O_RDWR | O_TRUNC, 0444},
                                   {"e", O_RDWR | O_EXCL, 0}};
  auto made = rig.begin(files);
  rig.resume();
  for (size_t i = 0; i < files.size(); ++i) {
    INFO(files[i].name);
    const auto told = made[i].told.get().value();
    CHECK(told.ahead);
    const Attr promised = told.entry.attr;
    const Attr is = made[i].late.get().value().entry.attr;
    const struct stat status = status_of(rig.path(files[i].name));
    CHECK(status.st_mode == (S_IFREG | (files[i].mode & ~027u)));
    CHECK(promised.mode == status.st_mode);
    CHECK(promised.uid == status.st_uid);
    CHECK(promised.gid == status.st_gid);
    CHECK(promised.size == 0);
    CHECK(is.mode == promised.mode);
    CHECK(is.uid == promised.uid);
    CHECK(is.gid == promised.gid);
    CHECK(is.ino == promised.ino);
  }
}

TEST_CASE("permissions that no sibling had are waited for") {
  Rig rig;
  auto made = rig.begin({{"ahead", O_RDWR | O_EXCL, 0600}, {"program", O_RDWR | O_EXCL, 0755}});
  CHECK(made[0].is_told());
  CHECK(!made[1].is_told());
  rig.resume();
  const auto told = made[1].told.get().value();
  CHECK(!told.ahead);
  CHECK(told.entry.attr.mode == (S_IFREG | 0755));
  CHECK(!made[1].is_settled());
}

TEST_CASE("more than are made ahead at once are waited for, and are made") {
  constexpr size_t kAtOnce = 64, kMore = 3;
  Rig rig;
  std::vector<What> files;
  for (size_t i = 0; i < kAtOnce + kMore; ++i) files.push_back({"f" + std::to_string(i)});
  auto made = rig.begin(files);
  for (size_t i = 0; i < files.size(); ++i) CHECK(made[i].is_told() == (i < kAtOnce));
  rig.resume();
  for (size_t i = 0; i < files.size(); ++i) {
    const auto told = made[i].told.get();
    REQUIRE(told.ok());
    CHECK(told.value().ahead == (i < kAtOnce));
    if (i < kAtOnce) CHECK(made[i].late.get().value().parent.after == told.value().parent.after);
    CHECK(there(rig.path(files[i].name)));
  }
}

TEST_CASE("what somebody else has changed in the directory meanwhile is told") {
  Rig rig;
  auto made = rig.begin({{"a"}, {"b"}});
  make_old(rig.dir() / rig.parent());
  rig.resume();
  for (Making& making : made) {
    CHECK(making.told.get().value().parent.after != 0);
    const auto late = making.late.get();
    REQUIRE(late.ok());
    CHECK(late.value().parent.after == 0);
  }
  Making next = create_ahead(*rig, rig.parent(), {"next"});
  CHECK(!next.told.get().value().ahead);
}

// ---- The handle ---------------------------------------------------------------------------------

TEST_CASE("whatever is done with the handle waits until the file is there") {
  Rig rig;
  Making making = rig.begin_one("f");
  const auto file = making.told.get().value().file;
  Pending<Result<WriteAnswer>> writing;
  Pending<Result<std::string>> reading;
  Pending<Result<Attr>> setting, getting;
  SetAttr set;
  set.valid = SetAttr::kMode | SetAttr::kMtime;
  set.mode = 0600;
  set.mtime.seconds = 5000;
  const uint64_t inflight = rig->counters().inflight;
  rig->write(nullptr, file, 0, "text", StableHow::kUnstable, writing.completion());
  rig->setattr(nullptr, rig.id("f"), file, set, setting.completion());
  rig->read(nullptr, file, 1, 9, reading.completion());
  rig->getattr_open(nullptr, file, getting.completion());
  wait_for_loop(*rig);
  CHECK(rig->counters().inflight == inflight);
  rig.resume();
  CHECK(writing.get().ok());
  CHECK(setting.get().value().mode == (S_IFREG | 0600));
  CHECK(reading.get().value() == "ext");
  CHECK(getting.get().value().size == 4);
  CHECK(making.late.get().ok());
  CHECK(test::text_of(rig.path("f")) == "text");
  CHECK(status_of(rig.path("f")).st_mtim.tv_sec == 5000);
  CHECK(fsync(*rig, file).ok());
  // It is one like any other, over a lost connection too.
  rig.kill_server();
  CHECK(read_file(*rig, file, 0, 9).value() == "text");
}

TEST_CASE("a handle that is released before the file is there is closed once it is") {
  Rig rig;
  auto made = rig.begin({{"released"}, {"kept"}});
  const pid_t server = process_of("sftp-server");
  const auto released = made[0].told.get().value().file;
  rig->release(released);
  wait_for_loop(*rig);
  CHECK(write_file(*rig, released, 0, "x").error_number() == EBADF);
  rig.resume();
  for (Making& making : made) CHECK(making.late.get().ok());
  CHECK(there(rig.path("released")));
  REQUIRE(getattr(*rig, "").ok());  // answered after the closing
  CHECK(opened_by(server, rig.path("kept")) == 1);
  CHECK(opened_by(server, rig.path("released")) == 0);
  rig->release(made[1].told.get().value().file);
  REQUIRE(getattr(*rig, "").ok());
  CHECK(opened_by(server, rig.path("kept")) == 0);
}

TEST_CASE("a name that somebody else has made meanwhile is refused, and all that uses the handle") {
  Rig rig;
  auto made = rig.begin({{"theirs"}, {"ours"}});
  const auto theirs = made[0].told.get().value().file, ours = made[1].told.get().value().file;
  Pending<Result<WriteAnswer>> writing, writing_ours;
  rig->write(nullptr, theirs, 0, "lost", StableHow::kUnstable, writing.completion());
  rig->write(nullptr, ours, 0, "text", StableHow::kUnstable, writing_ours.completion());
  wait_for_loop(*rig);
  test::put_file(rig.path("theirs"), "content");
  rig.resume();
  CHECK(made[0].late.get().error_number() == EEXIST);
  CHECK(writing.get().error_number() == ESTALE);
  CHECK(write_file(*rig, theirs, 0, "x").error_number() == ESTALE);
  CHECK(read_file(*rig, theirs, 0, 9).error_number() == ESTALE);
  CHECK(getattr_open(*rig, theirs).error_number() == ESTALE);
  SetAttr set;
  set.valid = SetAttr::kMode;
  CHECK(setattr(*rig, rig.id("theirs"), set, theirs).error_number() == ESTALE);
  CHECK(test::text_of(rig.path("theirs")) == "content");
  CHECK(writing_ours.get().ok());
  const auto late = made[1].late.get();
  REQUIRE(late.ok());
  CHECK(late.value().parent.after == 0);
  CHECK(test::text_of(rig.path("ours")) == "text");
  // Nor when the connection has gone.
  rig.kill_server();
  CHECK(write_file(*rig, theirs, 0, "x").error_number() == ESTALE);
  rig->release(theirs);
  const auto opened = open_file(*rig, rig.id("theirs"), O_RDWR);
  REQUIRE(opened.ok());
  CHECK(read_file(*rig, opened.value(), 0, 9).value() == "content");
}

TEST_CASE("a file of somebody else's that is to be emptied is, and counts as their change") {
  Rig rig;
  Making making = rig.begin_one("f", O_RDWR | O_TRUNC);
  test::put_file(rig.path("f"), "content");
  fs::permissions(rig.path("f"), fs::perms::owner_read | fs::perms::owner_write);
  rig.resume();
  const auto late = making.late.get();
  REQUIRE(late.ok());
  CHECK(late.value().parent.after == 0);
  CHECK(late.value().entry.attr.mode == (S_IFREG | 0600));
  CHECK(write_file(*rig, making.told.get().value().file, 0, "text").ok());
  CHECK(test::text_of(rig.path("f")) == "text");
}

TEST_CASE("a link of somebody else's is not followed") {
  Rig rig;
  Making making = rig.begin_one("f", O_RDWR | O_TRUNC);
  const pid_t server = process_of("sftp-server");
  test::put_file(rig.dir() / "target", "content");
  fs::create_symlink("../target", rig.path("f"));
  rig.resume();
  CHECK(making.late.get().error_number() == ESTALE);
  CHECK(write_file(*rig, making.told.get().value().file, 0, "x").error_number() == ESTALE);
  REQUIRE(getattr(*rig, "").ok());
  CHECK(opened_by(server, rig.dir() / "target") == 0);
}

TEST_CASE("what is cancelled after it was promised is made all the same") {
  Rig rig;
  Making making = rig.begin_one("f");
  rig->cancel(making.request);
  wait_for_loop(*rig);
  rig.resume();
  CHECK(making.late.get().ok());
  CHECK(write_file(*rig, making.told.get().value().file, 0, "text").ok());
  CHECK(test::text_of(rig.path("f")) == "text");
}

TEST_CASE("who has a file open that has gone does not get the one that is made under its name") {
  Rig rig;
  Backend::FileHandle old = 0;
  rig.set_up([&] {
    test::put_file(rig.path("f"), "content");
    old = open_file(*rig, rig.id("f"), O_RDWR).value();
    fs::remove(rig.path("f"));
  });
  Making making = rig.begin_one("f");
  rig.resume();
  REQUIRE(making.late.get().ok());
  const auto made = making.told.get().value().file;
  CHECK(write_file(*rig, made, 0, "another file").ok());
  CHECK(read_file(*rig, old, 0, 9).value() == "content");
  rig.kill_server();
  CHECK(read_file(*rig, old, 0, 9).error_number() == ESTALE);
  CHECK(read_file(*rig, made, 0, 99).value() == "another file");
}

// ---- Other changes ------------------------------------------------------------------------------

TEST_CASE("other changes wait for what is being made, and come after it in their order") {
  Rig rig;
  auto made = rig.begin({{"removed"}, {"moved"}, {"set"}});
  const uint64_t inflight = rig->counters().inflight;
  Pending<Result<DirChange>> removing;
  Pending<Result<RenamedAnswer>> moving;
  Pending<Result<MadeAnswer>> making;
  Pending<Result<Attr>> setting;
  SetAttr set;
  set.valid = SetAttr::kMode;
  set.mode = 0400;
  rig->unlink(nullptr, rig.parent(), "removed", removing.completion());
  rig->rename(nullptr, rig.parent(), "moved", rig.parent(), "there", 0, moving.completion());
  rig->mkdir(nullptr, rig.parent(), "removed", 0755, making.completion());
  rig->setattr(nullptr, rig.id("set"), 0, set, setting.completion());
  // Nor is anything made ahead of those that wait.
  Making next = create_ahead(*rig, rig.parent(), {"next"});
  wait_for_loop(*rig);
  CHECK(rig->counters().inflight == inflight);
  CHECK(!next.is_told());
  rig.resume();
  CHECK(removing.get().ok());
  CHECK(moving.get().ok());
  CHECK(making.get().ok());
  CHECK(setting.get().value().mode == (S_IFREG | 0400));
  const auto told = next.told.get();
  REQUIRE(told.ok());
  CHECK(!told.value().ahead);
  for (Making& one : made) CHECK(one.late.get().ok());
  CHECK(fs::is_directory(rig.path("removed")));
  CHECK(there(rig.path("there")));
  CHECK(!there(rig.path("moved")));
  CHECK(status_of(rig.path("set")).st_mode == (S_IFREG | 0400));
  CHECK(there(rig.path("next")));
  // The handle has followed the name.
  const auto moved = made[1].told.get().value().file;
  CHECK(write_file(*rig, moved, 0, "text").ok());
  rig.kill_server();
  CHECK(read_file(*rig, moved, 0, 9).value() == "text");
}

TEST_CASE("a change that waits for its turn is not made when nobody wants it any more") {
  Rig rig;
  Making making = rig.begin_one("f");
  Pending<Result<DirChange>> cancelled, removing;
  const auto request = rig->unlink(nullptr, rig.parent(), "sibling", cancelled.completion());
  rig->unlink(nullptr, rig.parent(), "f", removing.completion());
  rig->cancel(request);
  wait_for_loop(*rig);
  rig.resume();
  CHECK(making.late.get().ok());
  CHECK(removing.get().ok());
  CHECK(there(rig.path("sibling")));
}

TEST_CASE("nothing is made ahead in a directory that is being moved") {
  Rig rig;
  const auto made = rig.begin({});
  Pending<Result<RenamedAnswer>> moving;
  rig->rename(nullptr, "", rig.parent(), "", "moved", 0, moving.completion());
  Making making = create_ahead(*rig, rig.parent(), {"f"});
  wait_for_loop(*rig);
  CHECK(!making.is_told());
  rig.resume();
  CHECK(moving.get().ok());
  CHECK(making.told.get().error_number() == ESTALE);
  CHECK(!making.is_settled());
}

// ---- Lost connections ---------------------------------------------------------------------------

TEST_CASE("what is being made when the connection is lost is made once, and gets its data") {
  for (const std::string stopped : {"sftp-server", "cat"}) {
    INFO(stopped);
    Rig rig(test::piped_sftp_server());
    std::vector<What> files;
    for (const char* name : {"a", "b", "c", "d", "e"}) files.push_back({name});
    files.push_back({"truncated", O_WRONLY | O_TRUNC});
    auto made = rig.begin(files, 0666, stopped);
    std::vector<Pending<Result<WriteAnswer>>> writing(files.size());
    for (size_t i = 0; i < files.size(); ++i) {
      REQUIRE(made[i].is_told());
      rig->write(nullptr, made[i].told.get().value().file, 0, "text of " + files[i].name,
                 StableHow::kUnstable, writing[i].completion());
    }
    Pending<Result<DirChange>> removing;
    rig->unlink(nullptr, rig.parent(), "e", removing.completion());
    wait_for_loop(*rig);
    const bool done = stopped == "cat";
    CHECK(test::eventually([&] { return there(rig.path("truncated")) == done; }));
    rig.kill_server();
    for (size_t i = 0; i < files.size(); ++i) {
      INFO(files[i].name);
      CHECK(made[i].late.get().ok());
      CHECK(writing[i].get().ok());
      if (files[i].name != "e") {
        CHECK(test::text_of(rig.path(files[i].name)) == "text of " + files[i].name);
      }
      CHECK(made[i].late_count->load() == 1);
    }
    CHECK(removing.get().ok());
    CHECK(!there(rig.path("e")));
  }
}

TEST_CASE("what is being made is made in the end, however often the connection is lost") {
  constexpr uint64_t kTimes = 12;
  const TempDir aside;
  const std::string broken = aside / "broken";
  const std::string server = "/usr/lib/openssh/sftp-server";
  // While it is broken it notes that it was started, hears no more than what a
  // connection begins with, and ends.
  Rig rig("ssh_command=sh -c 'if test -e " + broken + "; then echo >>" + broken +
          "; dd bs=1 count=40 status=none | " + server + "; else exec " + server + "; fi'");
  auto made = rig.begin({{"f"}, {"emptied", O_RDWR | O_TRUNC}});
  Pending<Result<WriteAnswer>> writing;
  rig->write(nullptr, made[0].told.get().value().file, 0, "text", StableHow::kUnstable,
             writing.completion());
  wait_for_loop(*rig);
  test::put_file(broken);
  rig.kill_server();
  CHECK(test::eventually([&] { return fs::file_size(broken) >= kTimes; }));
  for (const Making& making : made) CHECK(!making.is_settled());
  fs::remove(broken);
  for (Making& making : made) CHECK(making.late.get().error_number() == 0);
  CHECK(writing.get().error_number() == 0);
  CHECK(test::text_of(rig.path("f")) == "text");
  CHECK(there(rig.path("emptied")));
}

TEST_CASE("a handle that was released is closed, though the connection was lost meanwhile") {
  Rig rig;
  Making making = rig.begin_one("f");
  rig->release(making.told.get().value().file);
  wait_for_loop(*rig);
  rig.kill_server();
  CHECK(making.late.get().ok());
  CHECK(there(rig.path("f")));
  REQUIRE(getattr(*rig, "").ok());
  CHECK(opened_by(process_of("sftp-server"), rig.path("f")) == 0);
}

TEST_CASE("what is being made when the connection is lost is found nevertheless") {
  Rig rig;
  auto made = rig.begin({{"f"}, {"g"}});
  Pending<Result<LookupAnswer>> finding;
  Pending<Result<Attr>> getting;
  rig->lookup(nullptr, rig.parent(), "f", finding.completion());
  rig->getattr(nullptr, rig.id("g"), getting.completion());
  wait_for_loop(*rig);
  rig.kill_server();
  CHECK(finding.get().error_number() == 0);
  CHECK(getting.get().error_number() == 0);
  for (Making& making : made) CHECK(making.late.get().ok());
}

TEST_CASE("a listing asked for while the connection was lost proves nothing of what was made") {
  Rig rig;
  Making making = rig.begin_one("f");
  rig.kill_server();
  const auto late = making.late.get();
  REQUIRE(late.ok());
  CHECK(late.value().parent.after == 0);
}

TEST_CASE("a back end ends with files under way, and whatever waits for them") {
  for (const std::string stopped : {"sftp-server", "cat"}) {
    Rig rig(test::piped_sftp_server());
    auto made = rig.begin({{"a"}, {"b"}, {"c"}}, 0666, stopped);
    Pending<Result<WriteAnswer>> writing;
    Pending<Result<DirChange>> removing;
    rig->write(nullptr, made[0].told.get().value().file, 0, "text", StableHow::kUnstable,
               writing.completion());
    rig->release(made[1].told.get().value().file);
    rig->unlink(nullptr, rig.parent(), "c", removing.completion());
    wait_for_loop(*rig);
    rig.unmount();
    for (const Making& making : made) CHECK(!making.is_settled());
  }
}

}  // namespace
}  // namespace fusefs::sftp_test
