// SFTP sources: sftp://[user@]host[:port][/path]
//
//   sftp://host/srv/data     an absolute path
//   sftp://host/~/data       below the login's own directory; also sftp://host/~ and sftp://host
//   sftp://[fe80::1%25eth0]:2222/   an IPv6 address in brackets, its zone behind %25 (RFC 6874)
//
// User and path are percent-decoded. A path that begins with a real '~' is written /%7E.
// Host and user go to ssh as its own arguments, so aliases of ssh_config work as hosts; what ssh
// would take for an option is refused.
//
// Errors:         one line that says what is wrong and what would be right. No secrets: a password
//                 in a URL is refused, and not shown.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fusefs::sftp {

struct SftpTarget {
  std::string user;   // empty: as ssh finds it
  std::string host;   // no brackets
  uint16_t port = 0;  // 0: as ssh finds it
  std::string path;   // absolute, or relative to the login's directory; "." is that itself

  // The source again, as it may be shown.
  [[nodiscard]] std::string url() const;
};

// `source` is the whole URL.
std::optional<SftpTarget> parse_sftp_url(const std::string& source, std::string* error_text);

// A port from 1 to 65535 in plain digits.
std::optional<uint16_t> parse_port(std::string_view text);

}  // namespace fusefs::sftp
