// The encoder against libfuse's own, byte for byte, and against its buffer's end.
#include "fusefs/dirent_encoder.h"

#include <dirent.h>
#include <fuse_lowlevel.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/fusefs/hand_made_array.h"
#include "tests/support/random.h"

namespace {

using fusefs::DirentEncoder;
using fusefs::DirentFormat;
using std::chrono::nanoseconds;

constexpr nanoseconds kValid{3'250'000'000};

struct Entry {
  std::string name;
  uint64_t ino = 0;
  uint64_t cookie = 0;
  cache::Attr attr;
};

std::string random_name(test::Random& random) {
  std::string name(1 + random.below(random.one_in(4) ? 255 : 30), ' ');
  for (char& c : name) c = static_cast<char>(1 + random.below(255));
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

Entry random_entry(test::Random& random) {
  constexpr uint32_t kTypes[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
  Entry entry;
  entry.name = random_name(random);
  entry.ino = 1 + random.below(uint64_t{1} << 60);
  entry.cookie = 1 + random.below(~uint64_t{0} >> 1);
  cache::Attr& attr = entry.attr;
  attr.ino = entry.ino;
  attr.mode = kTypes[random.below(7)] | static_cast<uint32_t>(random.below(010000));
  attr.nlink = 1 + static_cast<uint32_t>(random.below(5));
  attr.uid = static_cast<uint32_t>(random.below(uint64_t{1} << 32));
  attr.gid = static_cast<uint32_t>(random.below(uint64_t{1} << 32));
  // Only devices have one, and they have no blocks.
  const bool device = S_ISBLK(attr.mode) || S_ISCHR(attr.mode);
  if (device) attr.rdev = random.below(uint64_t{1} << 32);
  attr.size = random.below(uint64_t{1} << 63);
  if (!device) attr.blocks = random.below(uint64_t{1} << 40);
  attr.mtime = {.seconds = static_cast<int64_t>(random.below(uint64_t{1} << 33)),
                .nanoseconds = static_cast<uint32_t>(random.below(1'000'000'000))};
  return entry;
}

struct stat stat_of(const cache::Attr& attr) {
  struct stat out {};
  out.st_ino = attr.ino;
  out.st_mode = attr.mode;
  out.st_nlink = attr.nlink;
  out.st_uid = attr.uid;
  out.st_gid = attr.gid;
  out.st_rdev = attr.rdev;
  out.st_size = static_cast<off_t>(attr.size);
  out.st_blocks = static_cast<blkcnt_t>(attr.blocks);
  out.st_blksize = 4096;
  out.st_atim = {.tv_sec = attr.atime.seconds, .tv_nsec = attr.atime.nanoseconds};
  out.st_mtim = {.tv_sec = attr.mtime.seconds, .tv_nsec = attr.mtime.nanoseconds};
  out.st_ctim = {.tv_sec = attr.ctime.seconds, .tv_nsec = attr.ctime.nanoseconds};
  return out;
}

// libfuse's encoding of the entries that fit, and how many those are. Its plus encoder takes no
// request but to find nothing in it.
size_t reference(const std::vector<Entry>& entries, DirentFormat format, std::vector<char>* out) {
  size_t used = 0;
  size_t count = 0;
  for (const Entry& entry : entries) {
    struct stat status = stat_of(entry.attr);
    size_t needed = 0;
    if (format == DirentFormat::kPlain) {
      needed = fuse_add_direntry(nullptr, out->data() + used, out->size() - used,
                                 entry.name.c_str(), &status, static_cast<off_t>(entry.cookie));
    } else {
      fuse_entry_param param{};
      param.ino = entry.ino + 7;  // some node id
      param.attr = status;
      param.attr_timeout = param.entry_timeout = std::chrono::duration<double>(kValid).count();
      needed = fuse_add_direntry_plus(nullptr, out->data() + used, out->size() - used,
                                      entry.name.c_str(), &param, static_cast<off_t>(entry.cookie));
    }
    if (needed > out->size() - used) break;
    used += needed;
    ++count;
  }
  out->resize(used);
  return count;
}

test::HandMadeArray array_of(const std::vector<Entry>& entries) {
  test::HandMadeArray array;
  for (const Entry& entry : entries) {
    array.add(entry.name, entry.ino, static_cast<uint8_t>((entry.attr.mode & S_IFMT) >> 12),
              entry.cookie);
    array.add_attr(entry.attr);
  }
  return array;
}

// A buffer of exactly this size, so that ASan sees a step past it, with a guard for other builds.
struct Buffer {
  explicit Buffer(size_t size) : bytes(new std::byte[size]), capacity(size) {
    std::fill_n(bytes.get(), size, std::byte{0xa5});
  }
  std::unique_ptr<std::byte[]> bytes;
  size_t capacity;
};

}  // namespace

TEST_CASE("entries are encoded as libfuse encodes them, in buffers of any size") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  test::Random random(seed);
  for (uint64_t round = 0; round < test::scaled(3000); ++round) {
    const auto format = random.one_in(2) ? DirentFormat::kPlain : DirentFormat::kPlus;
    std::vector<Entry> entries(1 + random.below(cache::kEntriesPerArray));
    for (Entry& entry : entries) entry = random_entry(random);
    const size_t capacity = random.below(40000);
    std::vector<char> expected(capacity);
    const size_t fitting = reference(entries, format, &expected);

    test::HandMadeArray array = array_of(entries);
    Buffer buffer(capacity);
    DirentEncoder encoder(buffer.bytes.get(), capacity, format);
    const auto count = static_cast<uint32_t>(entries.size());
    uint32_t taken = 0;
    while (taken < count) {  // in several pieces
      const auto piece = 1 + static_cast<uint32_t>(random.below(count - taken));
      const uint32_t got = encoder.append(array.view(), taken, taken + piece, kValid);
      taken += got;
      if (got < piece) break;
    }
    REQUIRE(taken == fitting);
    if (format == DirentFormat::kPlus) {
      size_t i = 0;
      for (fusefs::PlusEntries walk(encoder.data(), encoder.size()); !walk.done(); walk.next()) {
        fusefs::PlusEntry entry = walk.entry();
        REQUIRE(entry.has_attributes());
        REQUIRE(entry.mode() == entries[i].attr.mode);
        REQUIRE(entry.ino() == entries[i].ino);
        REQUIRE(entry.name() == entries[i].name);
        REQUIRE(entry.nodeid() == 0);
        entry.set_node(entries[i].ino + 7);
        ++i;
      }
      REQUIRE(i == taken);
    }
    REQUIRE(encoder.size() == expected.size());
    // memcmp may not be given null, not even for nothing.
    REQUIRE(
        (expected.empty() || std::memcmp(encoder.data(), expected.data(), expected.size()) == 0));
    for (size_t i = encoder.size(); i < capacity; ++i) {
      REQUIRE(buffer.bytes[i] == std::byte{0xa5});  // nothing was begun that did not fit
    }
  }
}

TEST_CASE("single names: '.', '..' and names of every length to the buffer's last byte") {
  for (size_t length = 1; length <= cache::kMaxNameBytes; ++length) {
    const std::string name(length, 'n');
    const size_t padded = (24 + length + 7) / 8 * 8;
    Buffer exact(padded);
    DirentEncoder fits(exact.bytes.get(), padded, DirentFormat::kPlain);
    REQUIRE(fits.append_name(name, 5, DT_DIR, 77));
    REQUIRE_FALSE(fits.append_name(name, 5, DT_DIR, 77));
    std::vector<char> expected(padded);
    struct stat status {};
    status.st_ino = 5;
    status.st_mode = S_IFDIR;
    fuse_add_direntry(nullptr, expected.data(), padded, name.c_str(), &status, 77);
    REQUIRE(std::memcmp(fits.data(), expected.data(), padded) == 0);

    Buffer small(padded - 1);
    DirentEncoder misses(small.bytes.get(), padded - 1, DirentFormat::kPlain);
    REQUIRE_FALSE(misses.append_name(name, 5, DT_DIR, 77));
    REQUIRE(misses.size() == 0);
  }
}

TEST_CASE("READDIRPLUS entries are names only where attributes are missing, stale or impossible") {
  test::HandMadeArray array;
  array.add("bare", 9, DT_REG, 1);
  std::vector<std::byte> buffer(4096);
  const auto mode_of_first = [&](nanoseconds valid) {
    DirentEncoder encoder(buffer.data(), buffer.size(), DirentFormat::kPlus);
    REQUIRE(encoder.append(array.view(), 0, 1, valid) == 1);
    const fusefs::PlusEntry entry(encoder.data());
    REQUIRE(entry.name() == "bare");
    REQUIRE(entry.nodeid() == 0);
    return entry.mode();
  };
  CHECK(mode_of_first(kValid) == 0);  // the array has none

  cache::Attr attr;
  attr.mode = S_IFREG | 0644;
  SECTION("stale") {
    array.add_attr(attr);
    CHECK(mode_of_first(kValid) == attr.mode);
    CHECK(mode_of_first(nanoseconds(0)) == 0);
    CHECK(mode_of_first(nanoseconds(-1)) == 0);
  }
  SECTION("of a size that the kernel refuses") {
    attr.size = uint64_t{1} << 63;
    array.add_attr(attr);
    CHECK(mode_of_first(kValid) == 0);
  }
  SECTION("of an unknown type") {
    attr.mode = 0644;
    array.add_attr(attr);
    CHECK(mode_of_first(kValid) == 0);
  }
}

TEST_CASE("where only directories are linked, other entries are names and types") {
  test::HandMadeArray array;
  cache::Attr attr;
  array.add("file", 9, DT_UNKNOWN, 1);
  attr.mode = S_IFREG | 0644;
  array.add_attr(attr);
  array.add("directory", 10, DT_DIR, 2);
  attr.mode = S_IFDIR | 0755;
  array.add_attr(attr);
  std::vector<std::byte> buffer(4096);
  DirentEncoder encoder(buffer.data(), buffer.size(), DirentFormat::kPlus,
                        fusefs::Link::kDirectories);
  REQUIRE(encoder.append(array.view(), 0, 2, kValid) == 2);
  fusefs::PlusEntries walk(encoder.data(), encoder.size());
  CHECK(walk.entry().name() == "file");
  CHECK_FALSE(walk.entry().has_attributes());
  uint32_t type = 0;
  std::memcpy(&type, encoder.data() + 128 + 20, sizeof type);
  CHECK(type == DT_REG);
  walk.next();
  CHECK(walk.entry().name() == "directory");
  CHECK(walk.entry().mode() == attr.mode);
}

TEST_CASE("a type that only the attributes tell is shown, and an unknown inode number is not 0") {
  test::HandMadeArray array;
  array.add("x", 0, DT_UNKNOWN, 3);
  cache::Attr attr;
  attr.mode = S_IFLNK | 0777;
  array.add_attr(attr);
  std::vector<std::byte> buffer(4096);
  DirentEncoder encoder(buffer.data(), buffer.size(), DirentFormat::kPlus);
  REQUIRE(encoder.append(array.view(), 0, 1, kValid) == 1);
  uint32_t type = 0;
  std::memcpy(&type, encoder.data() + 128 + 20, sizeof type);
  CHECK(type == DT_LNK);
  uint64_t ino = 0;
  std::memcpy(&ino, encoder.data() + 128, sizeof ino);
  CHECK(ino == 0xffffffff);
  CHECK(fusefs::PlusEntry(encoder.data()).ino() == 0);
}
