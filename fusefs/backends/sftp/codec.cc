#include "fusefs/backends/sftp/codec.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace fusefs::sftp {
namespace {

constexpr size_t kLengthField = 4;
constexpr size_t kMaxHandle = 256;  // the protocol's bound
// The least that an entry of a NAME reply takes: two empty strings and the attributes' flags.
constexpr size_t kMinNameEntry = 12;

// An extension that we use, and in which version of it.
struct KnownExtension {
  std::string_view name, version;
  bool Extensions::*offered;
};
constexpr KnownExtension kKnownExtensions[] = {
    {"posix-rename@openssh.com", "1", &Extensions::posix_rename},
    {"hardlink@openssh.com", "1", &Extensions::hardlink},
    {"fsync@openssh.com", "1", &Extensions::fsync},
    {"lsetstat@openssh.com", "1", &Extensions::lsetstat},
    {"limits@openssh.com", "1", &Extensions::limits},
    {"fstatvfs@openssh.com", "2", &Extensions::fstatvfs},
    {"copy-data", "1", &Extensions::copy_data},
};

void put_u32(uint32_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

void put_u64(uint64_t value, std::string* out) {
  put_u32(static_cast<uint32_t>(value >> 32), out);
  put_u32(static_cast<uint32_t>(value), out);
}

void put_string(std::string_view text, std::string* out) {
  put_u32(static_cast<uint32_t>(text.size()), out);
  out->append(text);
}

void put_attrs(const FileAttrs& attrs, std::string* out) {
  put_u32(attrs.flags & ~FileAttrs::kExtendedPairs, out);
  if (attrs.has(FileAttrs::kSize)) put_u64(attrs.size, out);
  if (attrs.has(FileAttrs::kUidGid)) {
    put_u32(attrs.uid, out);
    put_u32(attrs.gid, out);
  }
  if (attrs.has(FileAttrs::kPermissions)) put_u32(attrs.permissions, out);
  if (attrs.has(FileAttrs::kTimes)) {
    put_u32(attrs.atime, out);
    put_u32(attrs.mtime, out);
  }
}

Request of_string(PacketType type, std::string_view text) {
  Request request;
  request.type = type;
  put_string(text, &request.body);
  return request;
}

Request of_strings(PacketType type, std::string_view one, std::string_view two) {
  Request request = of_string(type, one);
  put_string(two, &request.body);
  return request;
}

Request of_attrs(PacketType type, std::string_view text, const FileAttrs& attrs) {
  Request request = of_string(type, text);
  put_attrs(attrs, &request.body);
  return request;
}

FileAttrs take_attrs(WireReader& reader) {
  FileAttrs attrs;
  attrs.flags = reader.u32();
  if (attrs.has(FileAttrs::kSize)) attrs.size = reader.u64();
  if (attrs.has(FileAttrs::kUidGid)) {
    attrs.uid = reader.u32();
    attrs.gid = reader.u32();
  }
  if (attrs.has(FileAttrs::kPermissions)) attrs.permissions = reader.u32();
  if (attrs.has(FileAttrs::kTimes)) {
    attrs.atime = reader.u32();
    attrs.mtime = reader.u32();
  }
  if (attrs.has(FileAttrs::kExtendedPairs)) {
    const uint32_t pairs = reader.u32();
    for (uint32_t i = 0; i < pairs && !reader.failed(); ++i) {
      reader.string();
      reader.string();
    }
  }
  return attrs;
}

}  // namespace

int errno_of(StatusCode code) {
  switch (code) {
    case StatusCode::kNoSuchFile:
      return ENOENT;
    case StatusCode::kPermissionDenied:
      return EACCES;
    case StatusCode::kBadMessage:
      return EINVAL;  // OpenSSH's word for EINVAL and ENAMETOOLONG
    case StatusCode::kNoConnection:
    case StatusCode::kConnectionLost:
      return ENOTCONN;
    case StatusCode::kUnsupported:
      return ENOSYS;
    default:
      return EIO;
  }
}

// ---- Requests -----------------------------------------------------------------------------------

Request opendir_request(std::string_view path) { return of_string(PacketType::kOpendir, path); }
Request readdir_request(std::string_view handle) { return of_string(PacketType::kReaddir, handle); }
Request lstat_request(std::string_view path) { return of_string(PacketType::kLstat, path); }
Request stat_request(std::string_view path) { return of_string(PacketType::kStat, path); }
Request readlink_request(std::string_view path) { return of_string(PacketType::kReadlink, path); }
Request realpath_request(std::string_view path) { return of_string(PacketType::kRealpath, path); }
Request close_request(std::string_view handle) { return of_string(PacketType::kClose, handle); }

Request fstat_request(std::string_view handle) { return of_string(PacketType::kFstat, handle); }
Request remove_request(std::string_view path) { return of_string(PacketType::kRemove, path); }
Request rmdir_request(std::string_view path) { return of_string(PacketType::kRmdir, path); }

Request open_request(std::string_view path, uint32_t flags, const FileAttrs& attrs) {
  Request request = of_string(PacketType::kOpen, path);
  put_u32(flags, &request.body);
  put_attrs(attrs, &request.body);
  return request;
}

Request read_request(std::string_view handle, uint64_t offset, uint32_t length) {
  Request request = of_string(PacketType::kRead, handle);
  put_u64(offset, &request.body);
  put_u32(length, &request.body);
  return request;
}

Request write_request(std::string_view handle, uint64_t offset,
                      std::shared_ptr<const std::string> bytes, size_t from, size_t count) {
  Request request = of_string(PacketType::kWrite, handle);
  put_u64(offset, &request.body);
  put_u32(static_cast<uint32_t>(count), &request.body);
  request.bytes = std::move(bytes);
  request.from = from;
  request.count = count;
  return request;
}

Request setstat_request(std::string_view path, const FileAttrs& attrs) {
  return of_attrs(PacketType::kSetstat, path, attrs);
}

Request fsetstat_request(std::string_view handle, const FileAttrs& attrs) {
  return of_attrs(PacketType::kFsetstat, handle, attrs);
}

Request mkdir_request(std::string_view path, const FileAttrs& attrs) {
  return of_attrs(PacketType::kMkdir, path, attrs);
}

Request rename_request(std::string_view from, std::string_view to) {
  return of_strings(PacketType::kRename, from, to);
}

// The draft has it the other way round; OpenSSH's order is what servers follow.
Request symlink_request(std::string_view target, std::string_view path) {
  return of_strings(PacketType::kSymlink, target, path);
}

Request statvfs_request(std::string_view path) {
  return of_strings(PacketType::kExtended, "statvfs@openssh.com", path);
}

Request fstatvfs_request(std::string_view handle) {
  return of_strings(PacketType::kExtended, "fstatvfs@openssh.com", handle);
}

Request posix_rename_request(std::string_view from, std::string_view to) {
  Request request = of_strings(PacketType::kExtended, "posix-rename@openssh.com", from);
  put_string(to, &request.body);
  return request;
}

Request hardlink_request(std::string_view path, std::string_view link) {
  Request request = of_strings(PacketType::kExtended, "hardlink@openssh.com", path);
  put_string(link, &request.body);
  return request;
}

Request fsync_request(std::string_view handle) {
  Request request = of_strings(PacketType::kExtended, "fsync@openssh.com", handle);
  request.slow = true;
  return request;
}

Request lsetstat_request(std::string_view path, const FileAttrs& attrs) {
  Request request = of_strings(PacketType::kExtended, "lsetstat@openssh.com", path);
  put_attrs(attrs, &request.body);
  return request;
}

Request limits_request() { return of_string(PacketType::kExtended, "limits@openssh.com"); }

Request copy_data_request(std::string_view from, uint64_t from_offset, uint64_t length,
                          std::string_view to, uint64_t to_offset) {
  Request request = of_strings(PacketType::kExtended, "copy-data", from);
  put_u64(from_offset, &request.body);
  put_u64(length, &request.body);
  put_string(to, &request.body);
  put_u64(to_offset, &request.body);
  request.slow = true;
  return request;
}

void append_init(std::string* out) {
  put_u32(5, out);
  out->push_back(static_cast<char>(PacketType::kInit));
  put_u32(kProtocolVersion, out);
}

void append_head(const Request& request, uint32_t id, std::string* out) {
  put_u32(static_cast<uint32_t>(5 + request.body.size() + request.count), out);
  out->push_back(static_cast<char>(request.type));
  put_u32(id, out);
  out->append(request.body);
}

// ---- Replies ------------------------------------------------------------------------------------

std::string_view WireReader::take(size_t count) {
  if (failed_ || count > rest_.size()) {
    failed_ = true;
    rest_ = {};
    return {};
  }
  const std::string_view taken = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return taken;
}

uint8_t WireReader::u8() {
  const std::string_view bytes = take(1);
  return bytes.empty() ? 0 : static_cast<uint8_t>(bytes[0]);
}

uint32_t WireReader::u32() {
  uint32_t value = 0;
  for (const char byte : take(4)) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

uint64_t WireReader::u64() {
  const uint64_t high = u32();
  return high << 32 | u32();
}

std::string_view WireReader::string() {
  const uint32_t length = u32();
  return take(length);
}

char* PacketCutter::room(size_t count) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (buffer_.size() - end_ < count && begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < count) buffer_.resize(end_ + count);
  return buffer_.data() + end_;
}

void PacketCutter::added(size_t count) { end_ += std::min(count, buffer_.size() - end_); }

PacketCutter::Next PacketCutter::next(std::string_view* packet) {
  const std::string_view rest(buffer_.data() + begin_, end_ - begin_);
  if (rest.size() < kLengthField) return Next::kIncomplete;
  const uint32_t length = WireReader(rest).u32();
  if (length == 0 || length > kMaxPacket) return Next::kBad;
  if (rest.size() - kLengthField < length) return Next::kIncomplete;
  *packet = rest.substr(kLengthField, length);
  begin_ += kLengthField + length;
  return Next::kPacket;
}

void PacketCutter::clear() {
  buffer_.clear();
  buffer_.shrink_to_fit();
  begin_ = end_ = 0;
}

std::optional<ServerVersion> parse_version(std::string_view packet) {
  WireReader reader(packet);
  if (reader.u8() != static_cast<uint8_t>(PacketType::kVersion)) return std::nullopt;
  ServerVersion told;
  told.version = reader.u32();
  while (!reader.failed() && reader.left() > 0) {
    const std::string_view name = reader.string();
    const std::string_view version = reader.string();
    for (const KnownExtension& known : kKnownExtensions) {
      if (name == known.name && version == known.version) told.extensions.*known.offered = true;
    }
  }
  if (reader.failed()) return std::nullopt;
  return told;
}

std::optional<Reply> parse_reply(std::string_view packet) {
  WireReader reader(packet);
  Reply reply;
  reply.type = static_cast<PacketType>(reader.u8());
  reply.id = reader.u32();
  if (reader.failed()) return std::nullopt;
  switch (reply.type) {
    case PacketType::kStatus:
    case PacketType::kHandle:
    case PacketType::kData:
    case PacketType::kName:
    case PacketType::kAttrs:
    case PacketType::kExtendedReply:
      reply.body = packet.substr(packet.size() - reader.left());
      return reply;
    default:
      return std::nullopt;
  }
}

std::optional<StatusCode> parse_status(std::string_view body) {
  // Old servers send neither message nor language; both are for people and not looked at.
  WireReader reader(body);
  const uint32_t code = reader.u32();
  if (reader.failed()) return std::nullopt;
  return static_cast<StatusCode>(code);
}

std::optional<std::string_view> parse_handle(std::string_view body) {
  WireReader reader(body);
  const std::string_view handle = reader.string();
  if (reader.failed() || handle.size() > kMaxHandle) return std::nullopt;
  return handle;
}

std::optional<std::string_view> parse_data(std::string_view body) {
  WireReader reader(body);
  const std::string_view data = reader.string();
  if (reader.failed()) return std::nullopt;
  return data;
}

std::optional<FileAttrs> parse_attrs(std::string_view body) {
  WireReader reader(body);
  const FileAttrs attrs = take_attrs(reader);
  if (reader.failed()) return std::nullopt;
  return attrs;
}

std::optional<Names> parse_names(std::string_view body) {
  WireReader reader(body);
  const uint32_t count = reader.u32();
  if (reader.failed() || count > reader.left() / kMinNameEntry) return std::nullopt;
  Names names;
  names.entries.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    const std::string_view name = reader.string();
    reader.string();  // as `ls -l` would print it: for people
    const FileAttrs attrs = take_attrs(reader);
    if (reader.failed()) return std::nullopt;
    names.entries.push_back({.offset = static_cast<uint32_t>(names.bytes.size()),
                             .length = static_cast<uint32_t>(name.size()),
                             .attrs = attrs});
    names.bytes.append(name);
  }
  return names;
}

std::optional<Statvfs> parse_statvfs(std::string_view body) {
  WireReader reader(body);
  Statvfs statvfs;
  statvfs.block_size = reader.u64();
  statvfs.fragment_size = reader.u64();
  statvfs.blocks = reader.u64();
  statvfs.blocks_free = reader.u64();
  statvfs.blocks_available = reader.u64();
  statvfs.files = reader.u64();
  statvfs.files_free = reader.u64();
  reader.u64();  // files available
  statvfs.filesystem = reader.u64();
  statvfs.flags = reader.u64();
  statvfs.name_max = reader.u64();
  if (reader.failed()) return std::nullopt;
  return statvfs;
}

std::optional<Limits> parse_limits(std::string_view body) {
  WireReader reader(body);
  Limits limits;
  limits.packet = reader.u64();
  limits.read = reader.u64();
  limits.write = reader.u64();
  reader.u64();  // open handles
  if (reader.failed()) return std::nullopt;
  return limits;
}

}  // namespace fusefs::sftp
