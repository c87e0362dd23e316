// The SFTP protocol, version 3, as bytes (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for
// statvfs@openssh.com).
//
// Purpose:        requests to bytes, bytes to replies. Knows no connection and no time.
// Thread-safety:  pure functions, and value types of one thread.
// Errors:         nothing that a server sends is trusted: every decoder says 'false' or 'nothing'
//                 for what does not fit in its packet, and reads no byte beyond it. Counts are
//                 compared with the bytes that are there before anything is reserved.
// Bounds:         packets of at most kMaxPacket bytes, as OpenSSH has it.
#pragma once

#include <cstddef>
#include <cstdint>
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
  kLstat = 7,
  kOpendir = 11,
  kReaddir = 12,
  kRealpath = 16,
  kStat = 17,
  kReadlink = 19,
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
};

Request opendir_request(std::string_view path);
Request readdir_request(std::string_view handle);
Request lstat_request(std::string_view path);
Request stat_request(std::string_view path);
Request readlink_request(std::string_view path);
Request realpath_request(std::string_view path);
Request open_request(std::string_view path);  // to read
Request read_request(std::string_view handle, uint64_t offset, uint32_t length);
Request close_request(std::string_view handle);
Request statvfs_request(std::string_view path);

// Appends whole packets, length field included.
void append_init(std::string* out);
void append_request(const Request& request, uint32_t id, std::string* out);

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

// The version that a whole packet tells; the extensions behind it must be well-formed.
std::optional<uint32_t> parse_version(std::string_view packet);

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
  uint64_t name_max = 0;
};
std::optional<Statvfs> parse_statvfs(std::string_view body);

}  // namespace fusefs::sftp
