// What the remote says of a file: whose change it shows, and what is not written yet.
#include "fusefs/file_state.h"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cache/data/write_back.h"
#include "cache/mm/page_cache.h"
#include "tests/fusefs/backends/example_backend.h"
#include "tests/support/fake_file.h"
#include "tests/support/set_attr.h"

namespace {

using cache::DataWait;
using cache::FileMapping;
using fusefs::Attr;
using fusefs::FileState;
using test::FakeFile;

Attr attr_of(uint64_t size, int64_t mtime, uint64_t change = 0) {
  Attr attr;
  attr.mode = 0100644;
  attr.size = size;
  attr.mtime = attr.ctime = {.seconds = mtime, .nanoseconds = 0};
  attr.change = change;
  return attr;
}

cache::PageCacheOptions small() {
  cache::PageCacheOptions options;
  options.limit_bytes = uint64_t{4} << 20;
  return options;
}

// One file of ten bytes, known as of time 100.
struct FileRig {
  FileRig() { file->set_content("0123456789"); }

  std::string read() {
    std::vector<std::byte> out(64);
    const auto got = state.data().read(stream, source, 0, out, DataWait());
    REQUIRE(got.ok());
    return {reinterpret_cast<const char*>(out.data()), got.value()};
  }
  void write(const std::string& bytes, uint64_t offset = 0) {
    state.note_own_write();
    const auto* const data = reinterpret_cast<const std::byte*>(bytes.data());
    REQUIRE(state.data().write(source, offset, {data, bytes.size()}, DataWait()).ok());
  }
  void flush() { REQUIRE(state.data().flush(FileMapping::Durable::kNo, DataWait()).ok()); }

  cache::PageCache cache{small()};
  cache::WriteBack write_back{cache, cache::WriteBackOptions()};
  std::shared_ptr<FakeFile> file = FakeFile::make({});
  std::shared_ptr<cache::FileSource> source = file->open();
  cache::ReadStream stream;
  FileState state{cache, write_back, attr_of(10, 100)};
};

}  // namespace

TEST_CASE("file: the same attributes again change nothing") {
  FileRig rig;
  CHECK(rig.read() == "0123456789");
  CHECK_FALSE(rig.state.note_attr(attr_of(10, 100)));
  CHECK(rig.state.kernel_may_keep());
  CHECK(rig.read() == "0123456789");
  CHECK(rig.file->count(FakeFile::Kind::kRead) == 1);
}

TEST_CASE("file: a change elsewhere takes the pages, and the kernel's once") {
  FileRig rig;
  CHECK(rig.read() == "0123456789");
  rig.file->set_content("changed");
  CHECK(rig.read() == "0123456789");  // nobody has told yet
  const bool by_token = GENERATE(false, true);
  // A token alone may only mean that nobody can tell.
  CHECK(rig.state.note_attr(by_token ? attr_of(10, 100, 5) : attr_of(7, 101)) == !by_token);
  CHECK(rig.read() == "changed");
  CHECK_FALSE(rig.state.kernel_may_keep());
  CHECK(rig.state.kernel_may_keep());
}

TEST_CASE("file: the result of our own writes is no change elsewhere") {
  FileRig rig;
  CHECK(rig.read() == "0123456789");
  rig.write("abc");
  CHECK(rig.state.owns_changes());
  rig.flush();
  CHECK_FALSE(rig.state.note_attr(attr_of(10, 200)));
  CHECK_FALSE(rig.state.owns_changes());
  CHECK(rig.state.kernel_may_keep());
  const size_t reads = rig.file->count(FakeFile::Kind::kRead);
  CHECK(rig.read() == "abc3456789");
  CHECK(rig.file->count(FakeFile::Kind::kRead) == reads);
  // The next one is.
  CHECK(rig.state.note_attr(attr_of(10, 201)));
}

TEST_CASE("file: what is not written yet shows in its size and times") {
  FileRig rig;
  CHECK(rig.state.shown().size == 10);
  CHECK(rig.state.shown().mtime.seconds == 100);
  rig.write("more", 10);
  const Attr shown = rig.state.shown();
  CHECK(shown.size == 14);
  CHECK(shown.blocks > 0);
  CHECK(shown.mtime.seconds > 100);
  rig.flush();
  rig.state.adopt(attr_of(14, 300));
  CHECK(rig.state.shown().size == 14);
  CHECK(rig.state.shown().mtime.seconds == 300);
}

TEST_CASE("file: names that come and go are counted while nobody can ask") {
  FileRig rig;
  rig.state.adjust_links(1);
  CHECK(rig.state.shown().nlink == 2);
  rig.state.adjust_links(-1);
  rig.state.adjust_links(-1);
  rig.state.adjust_links(-1);
  CHECK(rig.state.shown().nlink == 0);
}

TEST_CASE("trap 30: a change elsewhere meets dirty pages: they stay, the rest goes with them") {
  FileRig rig;
  rig.file->set_content(std::string(10000, 'a'));
  rig.state.adopt(attr_of(10000, 100));
  std::vector<std::byte> out(10000);
  REQUIRE(rig.state.data().read(rig.stream, rig.source, 0, out, DataWait()).ok());
  rig.file->set_answers(FakeFile::Answers::kHeld);
  rig.write("dirty", 0);
  rig.file->write_elsewhere(9000, "elsewhere");
  rig.state.adopt(attr_of(10000, 100));  // as if the write had been shown
  CHECK(rig.state.note_attr(attr_of(10000, 500)));
  rig.file->set_answers(FakeFile::Answers::kAtOnce);
  rig.flush();
  CHECK(rig.state.retry_invalidation());
  REQUIRE(rig.state.data().read(rig.stream, rig.source, 0, out, DataWait()).ok());
  const std::string text(reinterpret_cast<const char*>(out.data()), out.size());
  CHECK(text.substr(0, 5) == "dirty");
  CHECK(text.substr(9000, 9) == "elsewhere");
  CHECK_FALSE(rig.state.retry_invalidation());
}

namespace {

using fusefs::SetAttr;
using test::set_mode;
using test::set_mtime;

constexpr cache::Timespec kThen = {.seconds = 50, .nanoseconds = 7};

// The file is being made, by `caller`.
struct MakerRig : FileRig {
  MakerRig() {
    state.opened(maker);
    state.made_by(maker);
  }

  fusefs::BackendFileSourcePtr open(const fusefs::CallerPtr& opener) {
    return std::make_shared<fusefs::BackendFileSource>(backend, opener, 0, O_RDWR);
  }

  fusefs::ExampleBackend backend{1};
  fusefs::CallerPtr caller =
      std::make_shared<fusefs::Caller>(fusefs::Caller{.uid = 7, .gid = 8, .groups = {}});
  fusefs::BackendFileSourcePtr maker = open(caller);
};

}  // namespace

TEST_CASE("file: what its maker sets is held, shown, and told in one, once") {
  MakerRig rig;
  CHECK_FALSE(rig.state.holds_attrs());
  REQUIRE(rig.state.hold(set_mode(0600), rig.caller));
  REQUIRE(rig.state.hold(set_mtime(kThen), rig.caller));
  CHECK(rig.state.has_untold());
  CHECK(rig.state.shown().mode == 0100600);
  CHECK(rig.state.shown().mtime == kThen);
  CHECK(rig.state.shown().ctime.seconds > 100);
  const auto held = rig.state.begin_telling();
  REQUIRE(held);
  CHECK(held->source == rig.maker);
  CHECK(held->set.valid == (SetAttr::kMode | SetAttr::kMtime));
  CHECK(held->set.mode == 0600);
  CHECK(held->set.mtime == kThen);
  CHECK(rig.state.holds_attrs());
  CHECK_FALSE(rig.state.begin_telling());  // one at a time
  bool told = false;
  rig.state.when_told([&told] { told = true; });
  CHECK_FALSE(told);
  rig.state.end_telling(true);
  CHECK(told);
  CHECK_FALSE(rig.state.has_untold());
  CHECK_FALSE(rig.state.begin_telling());
  told = false;
  rig.state.when_told([&told] { told = true; });
  CHECK(told);
}

TEST_CASE("file: what did not get ready is held again, and what was set since counts") {
  MakerRig rig;
  REQUIRE(rig.state.hold(set_mode(0600), rig.caller));
  REQUIRE(rig.state.hold(set_mtime(kThen), rig.caller));
  REQUIRE(rig.state.begin_telling());
  REQUIRE(rig.state.hold(set_mode(0640), rig.caller));
  rig.state.end_telling(false);
  const auto held = rig.state.begin_telling();
  REQUIRE(held);
  CHECK(held->set.mode == 0640);
  CHECK(held->set.mtime == kThen);
  rig.state.end_telling(true);
  rig.state.tell_again();  // data went after it
  CHECK(rig.state.holds_attrs());
}

TEST_CASE("file: held is only what its maker may always do, while it is open") {
  MakerRig rig;
  const auto held = [&](const SetAttr& set) { return rig.state.hold(set, rig.caller); };
  CHECK_FALSE(held(set_mode(04755)));
  SetAttr size;
  size.valid = SetAttr::kSize;
  CHECK_FALSE(held(size));
  SetAttr owner;
  owner.valid = SetAttr::kUid;
  owner.uid = 99;
  CHECK_FALSE(held(owner));
  owner.uid = rig.state.shown().uid;
  CHECK(held(owner));
  const auto other =
      std::make_shared<fusefs::Caller>(fusefs::Caller{.uid = 9, .gid = 8, .groups = {}});
  CHECK_FALSE(rig.state.hold(set_mode(0600), other));
  CHECK_FALSE(rig.state.hold(set_mode(0600), nullptr));
  CHECK(rig.state.closed(rig.maker));
  CHECK_FALSE(held(set_mode(0600)));
}

TEST_CASE("file: a write takes a held time of modification away, and nothing else") {
  MakerRig rig;
  REQUIRE(rig.state.hold(set_mode(0600), rig.caller));
  REQUIRE(rig.state.hold(set_mtime(kThen), rig.caller));
  rig.write("later");
  CHECK(rig.state.shown().mtime.seconds > 100);
  auto held = rig.state.begin_telling();
  REQUIRE(held);
  CHECK(held->set.valid == SetAttr::kMode);
  // Also of what is just being told.
  rig.state.end_telling(true);
  REQUIRE(rig.state.hold(set_mtime(kThen), rig.caller));
  REQUIRE(rig.state.begin_telling());
  rig.write("later");
  rig.state.end_telling(false);
  CHECK_FALSE(rig.state.begin_telling());
}

TEST_CASE("file: the time of a write that is not awaited is held, unless a later one was set") {
  MakerRig rig;
  rig.state.hold_write_time(rig.maker);
  CHECK_FALSE(rig.state.has_untold());  // nothing was written
  rig.write("text");
  const auto written = rig.state.shown().mtime;
  CHECK(written.seconds > 100);
  rig.state.hold_write_time(rig.maker);
  auto held = rig.state.begin_telling();
  REQUIRE(held);
  CHECK(held->set.valid == SetAttr::kMtime);
  CHECK(held->set.mtime == written);
  CHECK(rig.state.shown().mtime == written);
  rig.state.end_telling(true);
  rig.write("again");
  REQUIRE(rig.state.hold(set_mtime(kThen), rig.caller));
  rig.state.hold_write_time(rig.maker);
  held = rig.state.begin_telling();
  REQUIRE(held);
  CHECK(held->set.mtime == kThen);
}

TEST_CASE("file: a time of the kernel's is held once data has come after it, until it is told") {
  MakerRig rig;
  const auto source = rig.open(nullptr);  // who closes it need not have made it
  rig.state.note_kernel_write();
  CHECK_FALSE(rig.state.hold_kernel_mtime(source));  // no time is known
  rig.state.note_kernel_mtime(kThen);
  CHECK_FALSE(rig.state.hold_kernel_mtime(source));  // the remote was told by whoever set it
  rig.state.note_kernel_write();
  REQUIRE(rig.state.hold_kernel_mtime(source));
  CHECK_FALSE(rig.state.hold_kernel_mtime(source));
  CHECK(rig.state.shown().mtime == kThen);
  for (const bool told : {false, true}) {  // the remote was away; it is back
    const auto held = rig.state.begin_telling();
    REQUIRE(held);
    CHECK(held->source == source);
    CHECK(held->set.valid == SetAttr::kMtime);
    CHECK(held->set.mtime == kThen);
    rig.state.end_telling(told);
  }
  CHECK_FALSE(rig.state.has_untold());
}
