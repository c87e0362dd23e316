// Changes whose answer was lost, so that they are sent twice: they are told as done once. And those
// that somebody else did in between are not taken for ours.

#include <cerrno>
#include <future>
#include <memory>

#include "tests/nfs/nfs_change_rig.h"
#include "tests/nfs/nfs_writer.h"
#include "tests/support/delay_proxy.h"
#include "tests/support/eventually.h"

using test::ChangeRig;
using test::DelayProxy;
using test::ObjectId;
using test::put_file;
using test::Result;
using test::text_of;
using test::WritableDir;

namespace {

// A mount behind a line that can be cut.
class CutRig {
 public:
  explicit CutRig(const std::string& name)
      : dir_("plain", name),
        proxy_(std::make_unique<DelayProxy>(
            DelayProxy::Options{.target_port = test::change_server().nfs_port()})),
        rig_("plain", proxy_->port()),
        parent_(rig_.find(name)) {
    // Version 4.0 asks for a client id when it is connected, and waits for it when it opens a file:
    // that answer is not the one to be lost. (It stays open: what follows gets owners of its own.)
    const auto file = rig_.create(parent_, "first", 0600);
    REQUIRE(file.ok());
    first_ = file.value().file;
  }
  ~CutRig() { rig_.backend().release(first_); }
  CutRig(const CutRig&) = delete;
  CutRig& operator=(const CutRig&) = delete;

  [[nodiscard]] const WritableDir& dir() const { return dir_; }
  ChangeRig& rig() { return rig_; }
  [[nodiscard]] const ObjectId& parent() const { return parent_; }

  // Asks; the answer is lost once `done` holds on the server, after which `meanwhile` happens, and
  // then the line is there again.
  template <typename T, typename Ask, typename Condition>
  Result<T> lose_answer(
      const Ask& ask, const Condition& done, const std::function<void()>& meanwhile = [] {}) {
    proxy_->mute();
    auto answer = std::async(std::launch::async, ask);
    REQUIRE(test::eventually(done));
    meanwhile();
    proxy_->cut();
    proxy_->resume();
    return answer.get();
  }

 private:
  const WritableDir dir_;
  const std::unique_ptr<DelayProxy> proxy_;
  ChangeRig rig_;
  const ObjectId parent_;
  fusefs::Backend::FileHandle first_ = 0;
};

}  // namespace

TEST_CASE("resent: new objects are made once") {
  CutRig cut("resent_new");
  ChangeRig& rig = cut.rig();
  const auto has = [&](const char* name) { return [&cut, name] { return cut.dir().has(name); }; };
  const auto file = cut.lose_answer<test::CreatedAnswer>(
      [&] { return rig.create(cut.parent(), "file", 0400); }, has("file"));
  REQUIRE(file.ok());
  CHECK(rig.write(file.value().file, 0, "content").ok());
  CHECK(rig.fsync(file.value().file).ok());
  rig.backend().release(file.value().file);
  CHECK(text_of(cut.dir() / "file") == "content");
  CHECK(
      cut.lose_answer<test::MadeAnswer>([&] { return rig.mkdir(cut.parent(), "sub"); }, has("sub"))
          .ok());
  CHECK(cut.lose_answer<test::MadeAnswer>([&] { return rig.symlink(cut.parent(), "soft", "x"); },
                                          has("soft"))
            .ok());
  CHECK(cut.lose_answer<test::MadeAnswer>(
               [&] { return rig.mknod(cut.parent(), "pipe", S_IFIFO | 0600); }, has("pipe"))
            .ok());
  const auto hard = cut.lose_answer<test::MadeAnswer>(
      [&] { return rig.link(file.value().entry.id, cut.parent(), "hard"); }, has("hard"));
  REQUIRE(hard.ok());
  CHECK(hard.value().entry.attr.ino == file.value().entry.attr.ino);
}

TEST_CASE("resent: removed and renamed is removed and renamed once") {
  CutRig cut("resent_gone");
  ChangeRig& rig = cut.rig();
  put_file(cut.dir() / "file", "content");
  put_file(cut.dir() / "other");
  std::filesystem::create_directory(cut.dir() / "sub");
  const auto gone = [&](const char* name) { return [&cut, name] { return !cut.dir().has(name); }; };
  CHECK(cut.lose_answer<test::DirChange>([&] { return rig.unlink(cut.parent(), "other"); },
                                         gone("other"))
            .ok());
  CHECK(
      cut.lose_answer<test::DirChange>([&] { return rig.rmdir(cut.parent(), "sub"); }, gone("sub"))
          .ok());
  const ObjectId file = rig.find("resent_gone/file");
  CHECK(cut.lose_answer<test::RenamedAnswer>(
               [&] { return rig.rename(cut.parent(), "file", cut.parent(), "new"); }, gone("file"))
            .ok());
  CHECK(text_of(cut.dir() / "new") == "content");
}

TEST_CASE("resent: what another client made is not ours") {
  CutRig cut("resent_other");
  ChangeRig& rig = cut.rig();
  // Through the server, which knows of it at once.
  test::NfsWriter writer(test::change_server().url("/plain"));
  const auto replaced = [&](const char* name) {
    return [&writer, path = std::string("/resent_other/") + name] {
      if (path.ends_with("sub")) {
        writer.rmdir(path);
        writer.mkdir(path);
      } else {
        REQUIRE(writer.unlink(path));
        writer.create(path);
      }
    };
  };
  const auto has = [&](const char* name) { return [&cut, name] { return cut.dir().has(name); }; };
  CHECK(cut.lose_answer<test::MadeAnswer>([&] { return rig.mkdir(cut.parent(), "sub"); },
                                          has("sub"), replaced("sub"))
            .error_number() == EEXIST);
  CHECK(cut.lose_answer<test::MadeAnswer>(
               [&] { return rig.mknod(cut.parent(), "node", S_IFREG | 0600); }, has("node"),
               replaced("node"))
            .error_number() == EEXIST);
  CHECK(cut.lose_answer<test::MadeAnswer>([&] { return rig.symlink(cut.parent(), "soft", "x"); },
                                          has("soft"), replaced("soft"))
            .error_number() == EEXIST);
  put_file(cut.dir() / "file");
  const ObjectId file = rig.find("resent_other/file");
  CHECK(cut.lose_answer<test::RenamedAnswer>(
               [&] { return rig.rename(cut.parent(), "file", cut.parent(), "new"); }, has("new"),
               replaced("new"))
            .error_number() == ENOENT);
}

TEST_CASE("resent: writes and attributes") {
  CutRig cut("resent_data");
  ChangeRig& rig = cut.rig();
  const auto file = rig.create(cut.parent(), "file");
  REQUIRE(file.ok());
  CHECK(
      cut.lose_answer<test::WriteAnswer>([&] { return rig.write(file.value().file, 0, "content"); },
                                         [&] { return text_of(cut.dir() / "file") == "content"; })
          .ok());
  test::SetAttr set;
  set.valid = test::SetAttr::kMode;
  set.mode = 0600;
  CHECK(cut.lose_answer<test::Attr>(
               [&] { return rig.setattr(file.value().entry.id, set, file.value().file); },
               [&] { return (cut.dir().stat_of("file").st_mode & 07777) == 0600; })
            .ok());
  rig.backend().release(file.value().file);
}
