#include "fusefs/backends/sftp/codec.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fusefs::sftp {
namespace {

constexpr size_t kLengthField = 4;
constexpr size_t kMaxHandle = 256;  // the protocol's bound
// The least that an entry of a NAME reply takes: two empty strings and the attributes' flags.
constexpr size_t kMinNameEntry = 12;
constexpr uint32_t kOpenToRead = 1;  // SSH_FXF_READ
constexpr std::string_view kStatvfsName = "statvfs@openssh.com";

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

Request of_string(PacketType type, std::string_view text) {
  Request request{.type = type, .body = {}};
  put_string(text, &request.body);
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

Request open_request(std::string_view path) {
  Request request = of_string(PacketType::kOpen, path);
  put_u32(kOpenToRead, &request.body);
  put_u32(0, &request.body);  // no attributes
  return request;
}

Request read_request(std::string_view handle, uint64_t offset, uint32_t length) {
  Request request = of_string(PacketType::kRead, handle);
  put_u64(offset, &request.body);
  put_u32(length, &request.body);
  return request;
}

Request statvfs_request(std::string_view path) {
  Request request = of_string(PacketType::kExtended, kStatvfsName);
  put_string(path, &request.body);
  return request;
}

void append_init(std::string* out) {
  put_u32(5, out);
  out->push_back(static_cast<char>(PacketType::kInit));
  put_u32(kProtocolVersion, out);
}

void append_request(const Request& request, uint32_t id, std::string* out) {
  put_u32(static_cast<uint32_t>(5 + request.body.size()), out);
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

std::optional<uint32_t> parse_version(std::string_view packet) {
  WireReader reader(packet);
  if (reader.u8() != static_cast<uint8_t>(PacketType::kVersion)) return std::nullopt;
  const uint32_t version = reader.u32();
  while (!reader.failed() && reader.left() > 0) {
    reader.string();  // a name
    reader.string();  // and what belongs to it
  }
  if (reader.failed()) return std::nullopt;
  return version;
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
  reader.u64();  // filesystem id
  reader.u64();  // flags
  statvfs.name_max = reader.u64();
  if (reader.failed()) return std::nullopt;
  return statvfs;
}

}  // namespace fusefs::sftp
