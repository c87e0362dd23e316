// The SFTP protocol, version 3, as bytes (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for
// the extensions, and for the order of SYMLINK's arguments).
//
// Purpose:        requests to bytes, bytes to replies. Knows no connection and no time.
// Copies:         what a WRITE carries is not copied before it is put behind the other bytes to be
//                 sent: its request refers to it.
// Thread-safety:  pure functions, and value types of one thread.
// Errors:         nothing that a server sends is trusted: every decoder says 'false' or 'nothing'
//                 for what does not fit in its packet, and reads no byte beyond it. Counts are
//                 compared with the bytes that are there before anything is reserved.
// Bounds:         packets of at most kMaxPacket bytes, as OpenSSH has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fusefs::sftp {

constexpr uint32_t kProtocolVersion = 3;
constexpr uint32_t kMaxPacket = 256 << 10;  // bytes behind the length field

enum class PacketType : uint8_t {
  kInit = 1,
  kVersion = 2,
  kOpen = 3,
  kClose = 4,
  kRead = 5,
  kWrite = 6,
  kLstat = 7,
  kFstat = 8,
  kSetstat = 9,
  kFsetstat = 10,
  kOpendir = 11,
  kReaddir = 12,
  kRemove = 13,
  kMkdir = 14,
  kRmdir = 15,
  kRealpath = 16,
  kStat = 17,
  kRename = 18,
  kReadlink = 19,
  kSymlink = 20,
  kStatus = 101,
  kHandle = 102,
  kData = 103,
  kName = 104,
  kAttrs = 105,
  kExtended = 200,
  kExtendedReply = 201,
};

enum class StatusCode : uint32_t {
  kOk = 0,
  kEof = 1,
  kNoSuchFile = 2,
  kPermissionDenied = 3,
  kFailure = 4,
  kBadMessage = 5,
  kNoConnection = 6,
  kConnectionLost = 7,
  kUnsupported = 8,
};

// The errno for a status other than kOk and kEof; EIO for those that tell nothing.
int errno_of(StatusCode code);

// Attributes as the wire has them: those whose flag is clear were not told.
struct FileAttrs {
  static constexpr uint32_t kSize = 1, kUidGid = 2, kPermissions = 4, kTimes = 8;
  static constexpr uint32_t kExtendedPairs = 0x80000000;
  uint32_t flags = 0;
  uint32_t uid = 0, gid = 0;
  uint32_t permissions = 0;  // with the type, as in st_mode
  uint32_t atime = 0, mtime = 0;
  uint64_t size = 0;

  [[nodiscard]] bool has(uint32_t flag) const { return (flags & flag) != 0; }
  bool operator==(const FileAttrs&) const = default;
};

// ---- Requests -----------------------------------------------------------------------------------

// A request without its number, which the connection gives when it sends it.
struct Request {
  PacketType type = PacketType::kInit;
  std::string body;  // what follows the number
  // And what follows that, of WRITE: a part of bytes that several requests share.
  std::shared_ptr<const std::string> bytes;
  size_t from = 0, count = 0;
  // The server may be long over it, and says nothing to anybody meanwhile (FSYNC, COPY-DATA).
  bool slow = false;
};

// How to open (SSH_FXF_*).
constexpr uint32_t kOpenRead = 1;
constexpr uint32_t kOpenWrite = 2;
constexpr uint32_t kOpenCreate = 8;
constexpr uint32_t kOpenTruncate = 16;
constexpr uint32_t kOpenExclusive = 32;

Request opendir_request(std::string_view path);
Request readdir_request(std::string_view handle);
Request lstat_request(std::string_view path);
Request stat_request(std::string_view path);
Request readlink_request(std::string_view path);
Request realpath_request(std::string_view path);
// Of `attrs` a file that is made gets what is told.
Request open_request(std::string_view path, uint32_t flags, const FileAttrs& attrs = {});
Request read_request(std::string_view handle, uint64_t offset, uint32_t length);
// Of `bytes` those from `from`, `count` of them.
Request write_request(std::string_view handle, uint64_t offset,
                      std::shared_ptr<const std::string> bytes, size_t from, size_t count);
Request close_request(std::string_view handle);
Request fstat_request(std::string_view handle);
Request setstat_request(std::string_view path, const FileAttrs& attrs);
Request fsetstat_request(std::string_view handle, const FileAttrs& attrs);
Request remove_request(std::string_view path);
Request mkdir_request(std::string_view path, const FileAttrs& attrs);
Request rmdir_request(std::string_view path);
Request rename_request(std::string_view from, std::string_view to);  // `to` may not be there
Request symlink_request(std::string_view target, std::string_view path);
// Extensions: only for servers that offer them (Extensions).
Request statvfs_request(std::string_view path);
Request fstatvfs_request(std::string_view handle);
Request posix_rename_request(std::string_view from, std::string_view to);
Request hardlink_request(std::string_view path, std::string_view link);
Request fsync_request(std::string_view handle);
Request lsetstat_request(std::string_view path, const FileAttrs& attrs);  // of links themselves
Request limits_request();
// `length` is not 0, which would mean 'up to the end'.
Request copy_data_request(std::string_view from, uint64_t from_offset, uint64_t length,
                          std::string_view to, uint64_t to_offset);

// Appends whole packets, length field included.
void append_init(std::string* out);
// All of it but the bytes, which are to follow.
void append_head(const Request& request, uint32_t id, std::string* out);

// ---- Replies ------------------------------------------------------------------------------------

// Takes values off the front of a packet. After a failure it stays failed, and gives zeros.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}
  uint8_t u8();
  uint32_t u32();
  uint64_t u64();
  std::string_view string();
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] size_t left() const { return rest_.size(); }

 private:
  std::string_view take(size_t count);
  std::string_view rest_;
  bool failed_ = false;
};

// Cuts a stream of bytes into packets. What it hands out is valid until bytes are added.
class PacketCutter {
 public:
  // Room for at least `count` more bytes, to be filled from outside; then added(n <= count).
  char* room(size_t count);
  void added(size_t count);

  enum class Next : uint8_t { kPacket, kIncomplete, kBad };  // kBad: no packet can be so long
  Next next(std::string_view* packet);

  void clear();

 private:
  std::vector<char> buffer_;
  size_t begin_ = 0;  // of what has not been handed out
  size_t end_ = 0;    // of what has been added
};

// What a server offers beside the draft, in the versions of it that we know.
struct Extensions {
  bool posix_rename = false, hardlink = false, fsync = false, lsetstat = false, limits = false;
  bool fstatvfs = false, copy_data = false;
  bool operator==(const Extensions&) const = default;
};

// What a whole packet tells; the extensions behind the version must be well-formed.
struct ServerVersion {
  uint32_t version = 0;
  Extensions extensions;
};
std::optional<ServerVersion> parse_version(std::string_view packet);

// A reply's head, and what follows. Nothing for what is no reply.
struct Reply {
  PacketType type = PacketType::kStatus;
  uint32_t id = 0;
  std::string_view body;
};
std::optional<Reply> parse_reply(std::string_view packet);

// Of a reply's body. Nothing for what is malformed.
std::optional<StatusCode> parse_status(std::string_view body);
std::optional<std::string_view> parse_handle(std::string_view body);  // at most 256 bytes
std::optional<std::string_view> parse_data(std::string_view body);
std::optional<FileAttrs> parse_attrs(std::string_view body);

// Names of one reply, packed.
struct Names {
  struct Entry {
    uint32_t offset = 0;  // into `bytes`
    uint32_t length = 0;
    FileAttrs attrs;
  };
  std::string bytes;
  std::vector<Entry> entries;

  [[nodiscard]] std::string_view name(const Entry& entry) const {
    return std::string_view(bytes).substr(entry.offset, entry.length);
  }
};
std::optional<Names> parse_names(std::string_view body);

struct Statvfs {
  uint64_t block_size = 0, fragment_size = 0;
  uint64_t blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
  uint64_t filesystem = 0;
  uint64_t flags = 0;
  uint64_t name_max = 0;

  static constexpr uint64_t kReadOnly = 1;
};
std::optional<Statvfs> parse_statvfs(std::string_view body);

// What a server says it takes, bytes; 0: it does not say.
struct Limits {
  uint64_t packet = 0, read = 0, write = 0;
};
std::optional<Limits> parse_limits(std::string_view body);

}  // namespace fusefs::sftp
