// Decodes arbitrary bytes as an SFTP server's answers. Under ASan a step past a packet is an error,
// and what is decoded must lie inside what came.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "fusefs/backends/sftp/codec.h"

namespace {

using namespace fusefs::sftp;

void require(bool condition) {
  if (!condition) std::abort();
}

void decode_names(std::string_view body) {
  const auto names = parse_names(body);
  if (!names) return;
  // Nothing can be larger than what it came from.
  require(names->bytes.size() <= body.size());
  require(names->entries.size() <= body.size() / 12);
  for (const Names::Entry& entry : names->entries) {
    require(entry.offset <= names->bytes.size());
    require(entry.length <= names->bytes.size() - entry.offset);
    require(names->name(entry).size() == entry.length);
  }
}

void decode(std::string_view packet) {
  (void)parse_version(packet);
  const auto reply = parse_reply(packet);
  if (!reply) return;
  require(reply->body.size() + 5 == packet.size());
  // As every kind, whatever it says it is.
  decode_names(reply->body);
  if (const auto handle = parse_handle(reply->body)) require(handle->size() <= 256);
  if (const auto data = parse_data(reply->body)) require(data->size() <= reply->body.size());
  (void)parse_status(reply->body);
  (void)parse_attrs(reply->body);
  (void)parse_statvfs(reply->body);
  (void)parse_limits(reply->body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t step = data[0] + size_t{1};  // bytes that arrive together
  PacketCutter cutter;
  for (size_t at = 1; at < size;) {
    const size_t count = std::min(step, size - at);
    std::memcpy(cutter.room(count), data + at, count);
    cutter.added(count);
    at += count;
    std::string_view packet;
    PacketCutter::Next next;
    while ((next = cutter.next(&packet)) == PacketCutter::Next::kPacket) {
      require(!packet.empty() && packet.size() <= kMaxPacket);
      decode(packet);
    }
    if (next == PacketCutter::Next::kBad) break;
  }
  // And as one packet, which needs no luck with the length.
  decode(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
