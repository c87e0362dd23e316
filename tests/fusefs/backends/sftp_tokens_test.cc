// What is promised of a directory in which files are being made, and what becomes of it.
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "fusefs/backends/sftp/dir_tokens.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace {

using fusefs::DirChange;
using fusefs::sftp::DirTokens;
using fusefs::sftp::FileAttrs;
using fusefs::sftp::kYoung;

constexpr uint32_t kNow = 1'700'000'000;

FileAttrs looks(uint32_t mtime, uint64_t size, uint32_t permissions = S_IFDIR | 0755) {
  FileAttrs attrs;
  attrs.flags = FileAttrs::kTimes | FileAttrs::kSize | FileAttrs::kPermissions | FileAttrs::kUidGid;
  attrs.mtime = attrs.atime = mtime;
  attrs.size = size;
  attrs.permissions = permissions;
  attrs.uid = 12;
  attrs.gid = 34;
  return attrs;
}

// A directory "d" in which a file was just made, with that mode asked for and that one given.
struct Rig {
  explicit Rig(uint32_t asked = 0666, uint32_t given = 0644) {
    change = tokens.note("d", looks(kNow - 9, 10), looks(kNow, 11), kNow);
    tokens.note_child("d", asked, looks(kNow, 0, S_IFREG | given));
  }
  DirTokens tokens;
  DirChange change;
};

}  // namespace

TEST_CASE("nothing is promised of a directory in which nothing was made") {
  DirTokens tokens;
  CHECK(!tokens.promise("d", 0644, kNow));
  // Something was changed in it, but no file was made.
  tokens.note("d", looks(kNow, 10), looks(kNow, 10), kNow);
  CHECK(!tokens.promise("d", 0644, kNow));
  tokens.note_made("e", looks(kNow, 0), 77);
  CHECK(!tokens.promise("e", 0644, kNow));
  // What is said of a file in a directory that is not known makes it none that is.
  tokens.note_child("f", 0644, looks(kNow, 0, S_IFREG | 0644));
  CHECK(!tokens.promise("f", 0644, kNow));
  tokens.note_child("d", 0644, looks(kNow, 0, S_IFREG | 0644));
  CHECK(tokens.promise("d", 0644, kNow));
}

TEST_CASE("a file is promised the attributes of the one made before it, less what it did not ask") {
  Rig rig(0666, 0640);  // umask 0027
  for (const auto& [asked, given] : {std::pair<uint32_t, uint32_t>{0666, 0640},
                                     {0644, 0640},
                                     {0600, 0600},
                                     {0444, 0440},
                                     {0, 0}}) {
    const auto promise = rig.tokens.promise("d", asked, kNow + 1);
    REQUIRE(promise);
    CHECK(promise->attrs.permissions == (S_IFREG | given));
    CHECK(promise->attrs.uid == 12);
    CHECK(promise->attrs.gid == 34);
    CHECK(promise->attrs.size == 0);
    CHECK(promise->attrs.mtime == kNow + 1);
  }
  // What becomes of these nobody has seen.
  for (const uint32_t asked : {0755u, 0700u, 04666u, 02666u, 01666u}) {
    CHECK(!rig.tokens.promise("d", asked, kNow));
  }
}

TEST_CASE("nothing is promised of a directory that has grown old") {
  Rig rig;
  CHECK(!rig.tokens.promise("d", 0644, kNow + kYoung));
  CHECK(!rig.tokens.promise("d", 0644, kNow + 1000));
  CHECK(rig.tokens.promise("d", 0644, kNow + kYoung - 1));
}

TEST_CASE("promises follow each other, and are kept one after the other") {
  Rig rig;
  const auto first = rig.tokens.promise("d", 0644, kNow);
  const auto second = rig.tokens.promise("d", 0644, kNow);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->change.before == rig.change.after);
  CHECK(second->change.before == first->change.after);
  CHECK(second->change.after != first->change.after);
  CHECK(rig.tokens.keep_promise("d", looks(kNow, 11), looks(kNow, 12), *first));
  CHECK(rig.tokens.keep_promise("d", looks(kNow, 12), looks(kNow + 1, 13), *second));
  // A change that was not promised goes on from there; and so does the next promise.
  const DirChange change = rig.tokens.note("d", looks(kNow + 1, 13), looks(kNow + 1, 14), kNow + 1);
  CHECK(change.before == second->change.after);
  const auto third = rig.tokens.promise("d", 0644, kNow + 1);
  REQUIRE(third);
  CHECK(third->change.before == change.after);
}

TEST_CASE("what is kept keeps the directory young") {
  Rig rig;
  const auto promise = rig.tokens.promise("d", 0644, kNow + 1);
  REQUIRE(promise);
  CHECK(rig.tokens.keep_promise("d", looks(kNow, 11), looks(kNow + 1, 12), *promise));
  CHECK(rig.tokens.promise("d", 0644, kNow + kYoung));
}

TEST_CASE("somebody else's change breaks what is promised, and all that was promised after it") {
  for (const FileAttrs& before : {looks(kNow + 1, 11), looks(kNow, 12), looks(kNow - 1, 11)}) {
    Rig rig;
    const auto first = rig.tokens.promise("d", 0644, kNow);
    const auto second = rig.tokens.promise("d", 0644, kNow);
    REQUIRE(second);
    CHECK(!rig.tokens.keep_promise("d", before, looks(kNow + 1, 12), *first));
    CHECK(!rig.tokens.promise("d", 0644, kNow));
    CHECK(!rig.tokens.keep_promise("d", looks(kNow + 1, 12), looks(kNow + 1, 13), *second));
    // Until the next is made the slow way.
    rig.tokens.note("d", looks(kNow + 1, 13), looks(kNow + 1, 14), kNow + 1);
    rig.tokens.note_child("d", 0644, looks(kNow, 0, S_IFREG | 0644));
    CHECK(rig.tokens.promise("d", 0644, kNow + 1));
    CHECK(!rig.tokens.keep_promise("d", looks(kNow + 1, 14), looks(kNow + 1, 15), *second));
  }
}

TEST_CASE("a change of ours that was not promised breaks what was") {
  Rig rig;
  const auto promise = rig.tokens.promise("d", 0644, kNow);
  REQUIRE(promise);
  rig.tokens.note("d", looks(kNow, 11), looks(kNow, 12), kNow);
  CHECK(!rig.tokens.keep_promise("d", looks(kNow, 12), looks(kNow, 13), *promise));
}

TEST_CASE("one that was refused breaks what was promised after it") {
  Rig rig;
  static_cast<void>(rig.tokens.promise("d", 0644, kNow));  // and nothing comes of it
  const auto second = rig.tokens.promise("d", 0644, kNow);
  REQUIRE(second);
  CHECK(!rig.tokens.keep_promise("d", looks(kNow, 11), looks(kNow, 12), *second));
}

TEST_CASE("what was promised of a directory that has gone is not kept by another of its name") {
  Rig rig;
  const auto promise = rig.tokens.promise("d", 0644, kNow);
  REQUIRE(promise);
  rig.tokens.forget("d");
  CHECK(!rig.tokens.promise("d", 0644, kNow));
  CHECK(!rig.tokens.keep_promise("d", looks(kNow, 11), looks(kNow, 12), *promise));
}
