// Checks replies before libnfs decodes them.
//
// Purpose:        libnfs 4.0 adds a length that a server sent to its position before it compares,
//                 so that a wrong one makes it read anywhere. Here every reply is walked first, by
//                 a reader that can't leave it: only those whose every length lies inside are
//                 decoded. Listings of version 3 libnfs does not decode at all (rpc.h).
// Thread-safety:  pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fusefs/backends/nfs/rpc.h"

namespace fusefs::nfs {

// What a call asks, by the header that libnfs has written (RFC 5531, 9).
struct CallHeader {
  uint32_t xid = 0;
  std::optional<Procedure> procedure;  // nothing: none that we make
};
// `record` without its mark.
CallHeader read_call_header(std::string_view record);

enum class ReplyVerdict : uint8_t {
  kSound,      // to be decoded
  kBadResult,  // the header is right, what follows is not that procedure's result
  kBadHeader,  // this is no reply
};
ReplyVerdict check_reply(std::string_view record, Procedure procedure);

// What follows the header, where the call was accepted and has not failed there.
std::optional<std::string_view> results_of(std::string_view record);

// What a refusal says, as text; false: the record is none.
bool refusal_of(std::string_view record, std::string* text);

// The number by which a reply names its call; nothing: too short to be one.
std::optional<uint32_t> reply_xid(std::string_view record);

// A well-formed reply to that call, which says that the server failed (SYSTEM_ERR).
std::string failed_reply(uint32_t xid);

}  // namespace fusefs::nfs
