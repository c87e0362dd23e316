#include "fusefs/backends/nfs/nfs_url.h"

#include <vector>

#include "fusefs/backends/nfs/nfs_options.h"
#include "fusefs/backends/url_text.h"

namespace fusefs::nfs {
namespace {

constexpr std::string_view kShape = "write nfs://HOST/EXPORT[/DIRECTORY]";

// Without empty parts and '.'; nothing where a part is '..'.
std::optional<std::string> clean_path(std::string_view path) {
  std::string clean;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return std::nullopt;
    clean.append(1, '/').append(part);
  }
  return clean.empty() ? "/" : clean;
}

// HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT.
bool split_authority(std::string_view authority, NfsUrl* url, std::string* port) {
  std::string_view host = authority;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return false;
    host = authority.substr(1, end - 1);
    authority.remove_prefix(end + 1);
    if (!authority.empty() && authority.front() != ':') return false;
    if (!authority.empty()) *port = authority.substr(1);
  } else if (const size_t colon = authority.find(':'); colon != std::string_view::npos) {
    host = authority.substr(0, colon);
    *port = authority.substr(colon + 1);
  }
  const std::optional<std::string> decoded = percent_decode(host);
  if (!decoded || decoded->empty()) return false;
  url->host = *decoded;
  return true;
}

std::string take_query(std::string_view query, NfsUrl* url) {
  while (!query.empty()) {
    const size_t end = query.find('&');
    const std::string_view item = query.substr(0, end);
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    if (item.empty()) continue;
    const size_t equals = item.find('=');
    BackendOption option{.name = std::string(item.substr(0, equals)), .value = {}};
    if (equals != std::string_view::npos) {
      option.value = percent_decode(item.substr(equals + 1));
      if (!option.value) return quote(item) + " is not percent-encoded rightly";
    }
    std::string wrong = wrong_option(nfs_option_specs(), option);
    if (!wrong.empty()) return wrong;
    url->options.push_back(std::move(option));
  }
  return "";
}

}  // namespace

std::optional<NfsUrl> parse_nfs_url(std::string_view rest, std::string* error_text) {
  const std::string source = quote(std::string("nfs:").append(rest));
  const auto wrong = [&](std::string_view what) {
    *error_text = source + std::string(what) + "; " + std::string(kShape);
    return std::nullopt;
  };
  if (!rest.starts_with("//")) return wrong(" names no host");
  rest.remove_prefix(2);
  if (rest.find('#') != std::string_view::npos) return wrong(" has a '#', which is written %23");
  const size_t mark = rest.find('?');
  const std::string_view query = mark == std::string_view::npos ? "" : rest.substr(mark + 1);
  rest = rest.substr(0, mark);
  const size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return wrong(" names no export");
  NfsUrl url;
  std::string port;
  if (!split_authority(rest.substr(0, slash), &url, &port)) return wrong(" names no host");
  const std::optional<std::string> decoded = percent_decode(rest.substr(slash));
  if (!decoded) return wrong(" has a '%' that two hexadecimal digits other than 00 don't follow");
  const std::optional<std::string> path = clean_path(*decoded);
  if (!path) return wrong(" has a '..' in its path");
  url.path = *path;
  if (!port.empty()) url.options.push_back({.name = "port", .value = port});
  std::string bad = port.empty() ? "" : wrong_option(nfs_option_specs(), url.options.back());
  if (bad.empty()) bad = take_query(query, &url);
  if (bad.empty()) return url;
  *error_text = source + ": " + bad;
  return std::nullopt;
}

std::string url_text(const NfsUrl& url) {
  const bool bracket = url.host.find(':') != std::string::npos;
  return "nfs://" + (bracket ? "[" + url.host + "]" : url.host) + url.path;
}

}  // namespace fusefs::nfs
