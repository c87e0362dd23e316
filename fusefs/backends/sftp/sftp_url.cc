#include "fusefs/backends/sftp/sftp_url.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "fusefs/backends/url_text.h"

namespace fusefs::sftp {
namespace {

constexpr std::string_view kForm = "write sftp://[user@]host[:port]/path";

// What must be encoded so that percent_decode() gives it back, and a terminal shows it.
std::string encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte != 0x7f && c != '%' && c != '?' && c != '#') {
      encoded.push_back(c);
    } else {
      encoded.push_back('%');
      encoded.push_back(kDigits[byte >> 4]);
      encoded.push_back(kDigits[byte & 15]);
    }
  }
  return encoded;
}

bool plain_word(std::string_view text) {
  return !text.empty() && text.front() != '-' && std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte > 0x20 && byte != 0x7f;
  });
}

// Takes host and port apart; what is wrong, or nothing.
std::string parse_host(std::string_view text, SftpTarget* target) {
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return "has a '[' without its ']'";
    const auto host = percent_decode(text.substr(1, end - 1));
    if (!host || host->find(':') == std::string::npos) return "has no IPv6 address in its brackets";
    target->host = *host;
    port = text.substr(end + 1);
  } else {
    const size_t colon = text.find(':');
    if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos) {
      return "has an IPv6 address without brackets";
    }
    target->host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon);
  }
  if (target->host.empty()) return "names no host";
  if (!plain_word(target->host) || target->host.find('@') != std::string::npos) {
    return "names a host that can't be one";
  }
  if (port.empty() || port == ":") return "";
  const auto number = port.front() == ':' ? parse_port(port.substr(1)) : std::nullopt;
  if (!number) return "has a port that is not a number from 1 to 65535";
  target->port = *number;
  return "";
}

std::string parse_path(std::string_view text, SftpTarget* target) {
  const size_t special = text.find_first_of("?#");
  if (special != std::string_view::npos) {
    return text[special] == '?' ? "has a '?'; in a path write it %3F"
                                : "has a '#'; in a path write it %23";
  }
  const auto path = percent_decode(text);
  if (!path)
    return "has a '%' that two hexadecimal digits other than 00 don't follow; write '%' as %25";
  const bool home = text.empty() || text == "/~" || text.starts_with("/~/");
  if (!home) {
    if (text.starts_with("/~")) {
      return "asks for another user's directory, which SFTP can't tell; give the path (or write a"
             " real '~' as %7E)";
    }
    target->path = *path;
    return "";
  }
  const size_t begin = path->find_first_not_of('/', std::min(path->size(), size_t{2}));
  target->path = begin == std::string::npos ? "." : path->substr(begin);
  return "";
}

}  // namespace

std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, wrong] = std::from_chars(text.data(), end, port);
  if (wrong != std::errc() || rest != end || port == 0) return std::nullopt;
  return port;
}

std::optional<SftpTarget> parse_sftp_url(const std::string& source, std::string* error_text) {
  const auto fail = [&](std::string_view shown, const std::string& wrong) {
    *error_text = quote(shown).append(" ").append(wrong);
    if (wrong.find("; ") == std::string::npos) error_text->append("; ").append(kForm);
    return std::nullopt;
  };
  const size_t colon = source.find(':');
  std::string_view rest = std::string_view(source).substr(std::min(colon, source.size() - 1) + 1);
  if (!rest.starts_with("//")) return fail(source, "has no '//' after its scheme");
  rest.remove_prefix(2);
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  SftpTarget target;
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    const std::string_view user = authority.substr(0, at);
    if (user.find(':') != std::string_view::npos) {
      return fail("sftp://...",
                  "has a password, which everybody could read; leave it out: ssh "
                  "asks for it, or better uses a key");
    }
    const auto decoded = percent_decode(user);
    if (!decoded || !plain_word(*decoded)) return fail(source, "names a user that can't be one");
    target.user = *decoded;
    authority.remove_prefix(at + 1);
  }
  std::string wrong = parse_host(authority, &target);
  if (wrong.empty()) wrong = parse_path(rest.substr(slash), &target);
  if (!wrong.empty()) return fail(source, wrong);
  return target;
}

std::string SftpTarget::url() const {
  std::string text = "sftp://";
  if (!user.empty()) text.append(encode(user)).append("@");
  if (host.find(':') != std::string::npos) {
    text.append("[").append(encode(host)).append("]");
  } else {
    text.append(host);
  }
  if (port != 0) text.append(":").append(std::to_string(port));
  if (path == ".") return text.append("/~");
  std::string shown = encode(path);
  if (!path.starts_with('/')) return text.append("/~/").append(shown);
  if (shown.starts_with("/~")) shown.replace(1, 1, "%7E");
  return text.append(shown);
}

}  // namespace fusefs::sftp
