#include "fusefs/backends/sftp/sftp_url.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace fusefs::sftp {
namespace {

constexpr std::string_view kForm = "write sftp://[user@]host[:port]/path";

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Nothing for a '%' without two digits, and for NUL.
std::optional<std::string> decode(std::string_view encoded) {
  std::string text;
  for (size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      text.push_back(encoded[i]);
      continue;
    }
    const int high = i + 2 < encoded.size() ? hex_digit(encoded[i + 1]) : -1;
    const int low = i + 2 < encoded.size() ? hex_digit(encoded[i + 2]) : -1;
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    text.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return text;
}

// What must be encoded so that decode() gives it back, and a terminal shows it.
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
    const auto host = decode(text.substr(1, end - 1));
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
  const auto path = decode(text);
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
    *error_text = std::string("'").append(shown).append("' ").append(wrong);
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
    const auto decoded = decode(user);
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
