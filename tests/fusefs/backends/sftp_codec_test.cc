// SFTP as bytes: what is sent, and what is made of answers that are right and of those that lie.

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>

#include "fusefs/backends/sftp/codec.h"
#include "fusefs/backends/sftp/readdir_window.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs::sftp {
namespace {

std::string u32(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift));
  return bytes;
}
std::string text(const std::string& value) {
  return u32(static_cast<uint32_t>(value.size())) + value;
}
std::string attrs_of_file() {
  return u32(FileAttrs::kPermissions | FileAttrs::kTimes) + u32(0100644) + u32(11) + u32(12);
}
std::string name_entry(const std::string& name) {
  return text(name) + text("for people") + attrs_of_file();
}

std::vector<std::string> cut(PacketCutter& cutter, const std::string& stream, size_t step) {
  std::vector<std::string> packets;
  for (size_t at = 0; at < stream.size(); at += step) {
    const size_t count = std::min(step, stream.size() - at);
    std::memcpy(cutter.room(count), stream.data() + at, count);
    cutter.added(count);
    std::string_view packet;
    PacketCutter::Next next;
    while ((next = cutter.next(&packet)) == PacketCutter::Next::kPacket) {
      packets.emplace_back(packet);
    }
    if (next == PacketCutter::Next::kBad) {
      packets.emplace_back("bad");
      break;
    }
  }
  return packets;
}

TEST_CASE("requests are encoded as the draft has them") {
  std::string out;
  append_init(&out);
  CHECK(out == std::string("\0\0\0\5\1\0\0\0\3", 9));
  out.clear();
  append_head(opendir_request("/a"), 7, &out);
  CHECK(out == u32(11) + "\x0b" + u32(7) + text("/a"));
  out.clear();
  append_head(read_request("h", 0x100000002, 9), 1, &out);
  CHECK(out == u32(22) + "\x05" + u32(1) + text("h") + u32(1) + u32(2) + u32(9));
  out.clear();
  append_head(open_request("f", kOpenRead), 1, &out);
  CHECK(out == u32(18) + "\x03" + u32(1) + text("f") + u32(1) + u32(0));
  out.clear();
  append_head(statvfs_request("/"), 1, &out);
  CHECK(out == u32(33) + "\xc8" + u32(1) + text("statvfs@openssh.com") + text("/"));
}

std::string sent(const Request& request) {
  std::string out;
  append_head(request, 1, &out);
  if (request.bytes) out.append(*request.bytes, request.from, request.count);
  return out;
}

// A packet with the number 1.
std::string packet(char type, const std::string& body) {
  return text(std::string(1, type) + u32(1) + body);
}

TEST_CASE("requests that change something are encoded as OpenSSH reads them") {
  FileAttrs mode;
  mode.flags = FileAttrs::kPermissions;
  mode.permissions = 0640;
  CHECK(sent(open_request("f", kOpenWrite | kOpenCreate | kOpenExclusive, mode)) ==
        packet(3, text("f") + u32(2 | 8 | 32) + u32(4) + u32(0640)));
  CHECK(sent(mkdir_request("d", mode)) == packet(14, text("d") + u32(4) + u32(0640)));
  FileAttrs all;
  all.flags = FileAttrs::kSize | FileAttrs::kUidGid | FileAttrs::kTimes | FileAttrs::kExtendedPairs;
  all.size = 0x100000002;
  all.uid = 3;
  all.gid = 4;
  all.atime = 5;
  all.mtime = 6;
  const std::string attrs = u32(1 | 2 | 8) + u32(1) + u32(2) + u32(3) + u32(4) + u32(5) + u32(6);
  CHECK(sent(setstat_request("f", all)) == packet(9, text("f") + attrs));
  CHECK(sent(fsetstat_request("h", all)) == packet(10, text("h") + attrs));
  CHECK(sent(fstat_request("h")) == packet(8, text("h")));
  CHECK(sent(remove_request("f")) == packet(13, text("f")));
  CHECK(sent(rmdir_request("d")) == packet(15, text("d")));
  CHECK(sent(rename_request("a", "b")) == packet(18, text("a") + text("b")));
  CHECK(sent(symlink_request("target", "name")) == packet(20, text("target") + text("name")));
}

TEST_CASE("extensions are encoded as OpenSSH reads them") {
  const auto extended = [](const std::string& name, const std::string& body) {
    return packet('\xc8', text(name) + body);
  };
  FileAttrs times;
  times.flags = FileAttrs::kTimes;
  CHECK(sent(posix_rename_request("a", "b")) ==
        extended("posix-rename@openssh.com", text("a") + text("b")));
  CHECK(sent(hardlink_request("a", "b")) ==
        extended("hardlink@openssh.com", text("a") + text("b")));
  CHECK(sent(fsync_request("h")) == extended("fsync@openssh.com", text("h")));
  CHECK(fsync_request("h").slow);
  CHECK(sent(fstatvfs_request("h")) == extended("fstatvfs@openssh.com", text("h")));
  CHECK(sent(lsetstat_request("l", times)) ==
        extended("lsetstat@openssh.com", text("l") + u32(8) + u32(0) + u32(0)));
  CHECK(sent(limits_request()) == extended("limits@openssh.com", ""));
  CHECK(sent(copy_data_request("h", 1, 2, "i", 3)) ==
        extended("copy-data",
                 text("h") + u32(0) + u32(1) + u32(0) + u32(2) + text("i") + u32(0) + u32(3)));
}

TEST_CASE("what is written is referred to, not copied, and sent whole") {
  const auto bytes = std::make_shared<const std::string>("0123456789");
  const Request request = write_request("h", 0x100000002, bytes, 3, 4);
  CHECK(request.bytes == bytes);
  CHECK(request.body.size() == 4 + 1 + 8 + 4);
  CHECK(sent(request) == packet(6, text("h") + u32(1) + u32(2) + text("3456")));
}

TEST_CASE("the extensions that a server offers are known by name and version") {
  const auto offered = [](const std::string& pairs) {
    return parse_version("\2" + u32(3) + pairs)->extensions;
  };
  CHECK(offered("") == Extensions{});
  CHECK(offered(text("posix-rename@openssh.com") + text("2")) == Extensions{});
  const Extensions some =
      offered(text("x") + text("1") + text("posix-rename@openssh.com") + text("1") +
              text("fstatvfs@openssh.com") + text("2") + text("copy-data") + text("1"));
  CHECK(some.posix_rename);
  CHECK(some.fstatvfs);
  CHECK(some.copy_data);
  CHECK(!some.hardlink);
  const auto limits = parse_limits(std::string(7, '\0') + "\1" + std::string(7, '\0') + "\2" +
                                   std::string(7, '\0') + "\3" + std::string(8, '\0'));
  REQUIRE(limits);
  CHECK(limits->packet == 1);
  CHECK(limits->read == 2);
  CHECK(limits->write == 3);
  CHECK(!parse_limits(std::string(31, '\0')));
}

TEST_CASE("a stream is cut into packets wherever it is broken") {
  const std::string stream = text("one") + text("") + text("no");
  for (const size_t step : {1u, 2u, 3u, 5u, 100u}) {
    INFO(step);
    PacketCutter cutter;
    // An empty packet has no type: none can be so short.
    CHECK(cut(cutter, stream, step) == std::vector<std::string>{"one", "bad"});
  }
  PacketCutter cutter;
  std::string many;
  std::vector<std::string> expected;
  for (size_t i = 1; i < 3000; ++i) {
    expected.emplace_back(i % 700 + 1, static_cast<char>(i));
    many += text(expected.back());
  }
  CHECK(cut(cutter, many, 999) == expected);
  CHECK(cut(cutter, u32(kMaxPacket + 1), 4) == std::vector<std::string>{"bad"});
}

TEST_CASE("names are decoded with their attributes") {
  const auto names = parse_names(u32(2) + name_entry("a") + name_entry("bcd"));
  REQUIRE(names);
  REQUIRE(names->entries.size() == 2);
  CHECK(names->name(names->entries[0]) == "a");
  CHECK(names->name(names->entries[1]) == "bcd");
  CHECK(names->entries[1].attrs.permissions == 0100644);
  CHECK(names->entries[1].attrs.mtime == 12);
  CHECK(!names->entries[1].attrs.has(FileAttrs::kSize));
}

TEST_CASE("every truncated answer is refused") {
  const std::string body = u32(2) + name_entry("a") + name_entry("bcd");
  for (size_t length = 0; length < body.size(); ++length) {
    INFO(length);
    CHECK(!parse_names(body.substr(0, length)));
  }
  const std::string attrs =
      u32(0x8000000f) + std::string(8 + 8 + 4 + 8, '\1') + u32(1) + text("name") + text("value");
  CHECK(parse_attrs(attrs));
  for (size_t length = 0; length < attrs.size(); ++length) {
    INFO(length);
    CHECK(!parse_attrs(attrs.substr(0, length)));
  }
  CHECK(!parse_handle(text("handle").substr(0, 8)));
  CHECK(!parse_handle(text(std::string(257, 'h'))));
  CHECK(!parse_status("\0\0"));
  CHECK(!parse_statvfs(std::string(87, '\0')));
}

TEST_CASE(
    "counts and lengths that promise more than there is are refused before any room is made") {
  CHECK(!parse_names(u32(0xffffffff) + name_entry("a")));
  CHECK(!parse_names(u32(2) + name_entry("a")));
  CHECK(!parse_names(u32(1) + u32(0xfffffff0) + "abc"));
  CHECK(!parse_attrs(u32(FileAttrs::kExtendedPairs) + u32(0xffffffff)));
  CHECK(!parse_data(u32(0x7fffffff) + "abc"));
}

TEST_CASE("a version is read with whatever extensions follow it") {
  CHECK(parse_version("\2" + u32(3))->version == 3u);
  CHECK(parse_version("\2" + u32(4) + text("x") + text(""))->version == 4u);
  CHECK(!parse_version("\2" + u32(3) + text("x")));
  CHECK(!parse_version("\3" + u32(3)));
}

TEST_CASE("statuses become errnos") {
  CHECK(errno_of(StatusCode::kNoSuchFile) == ENOENT);
  CHECK(errno_of(StatusCode::kPermissionDenied) == EACCES);
  CHECK(errno_of(StatusCode::kUnsupported) == ENOSYS);
  CHECK(errno_of(StatusCode::kFailure) == EIO);
  CHECK(errno_of(static_cast<StatusCode>(4711)) == EIO);
}

TEST_CASE("inode numbers follow from the path, whether it is looked up or listed") {
  CHECK(inode_of("a/b/c") == child_inode(child_inode(child_inode(inode_of(""), "a"), "b"), "c"));
  CHECK(inode_of("a/b") != inode_of("ab"));
  CHECK(inode_of("a/b") != inode_of("b/a"));
  CHECK(inode_of("a") > 1);
}

TEST_CASE("a young directory has a change token that never comes again") {
  FileAttrs attrs;
  attrs.flags = FileAttrs::kTimes;
  attrs.mtime = 1000;
  CHECK(change_token(attrs, 1010) == change_token(attrs, 2000));
  CHECK(change_token(attrs, 1001) != change_token(attrs, 1001));
  CHECK(change_token(attrs, 1001) != change_token(attrs, 1010));
  CHECK(change_token(attrs, 900) != change_token(attrs, 900));  // from the future
  attrs.mtime = 1001;
  CHECK(change_token(attrs, 2000) !=
        change_token({.flags = FileAttrs::kTimes, .mtime = 1000}, 2000));
  CHECK(change_token({}, 2000) != change_token({}, 2000));  // not told
}

TEST_CASE("the READDIR window follows the round trip") {
  using std::chrono::milliseconds;
  ReaddirWindow window;
  CHECK(window.size() == ReaddirWindow::kLeast);
  // A far server that is never busy: doubled every round trip, to the bound.
  for (uint32_t replies = 0; replies < 2 * ReaddirWindow::kMost; ++replies) {
    window.on_reply(milliseconds(100), milliseconds(100), true);
  }
  CHECK(window.size() == ReaddirWindow::kMost);
  // Replies that come far too late: down, but never below what tells the end.
  for (int replies = 0; replies < 100'000; ++replies) {
    window.on_reply(milliseconds(900), milliseconds(100), true);
  }
  CHECK(window.size() < 16);
  CHECK(window.size() >= ReaddirWindow::kLeast);
  // Not its own bound kept requests back: no reason to grow.
  const uint32_t size = window.size();
  for (int replies = 0; replies < 100; ++replies) {
    window.on_reply(milliseconds(100), milliseconds(100), false);
  }
  CHECK(window.size() == size);
}

TEST_CASE("the READDIR window begins with what a large directory will need") {
  using std::chrono::milliseconds;
  ReaddirWindow small, near, far;
  small.expect(0, milliseconds(100));
  near.expect(10'000, milliseconds(0));
  far.expect(10'000, milliseconds(100));
  CHECK(small.size() == ReaddirWindow::kLeast);
  CHECK(near.size() > small.size());
  CHECK(far.size() > 2 * near.size());
  CHECK(far.size() <= ReaddirWindow::kMost);
}

}  // namespace
}  // namespace fusefs::sftp
