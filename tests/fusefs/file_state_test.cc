// What the remote says of a file: whose change it shows, and what is not written yet.
#include "fusefs/file_state.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cache/data/write_back.h"
#include "cache/mm/page_cache.h"
#include "tests/support/fake_file.h"

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
