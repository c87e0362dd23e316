// make_backend(): from what the user wrote to a back end.
//
// A source is a URL of a scheme we know, or a path. A path that begins with a word and a colon
// would read as a URL, so it is written './word:rest'.

#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/local/local_backend.h"
#include "fusefs/backends/sftp/sftp_backend.h"
#include "fusefs/backends/sftp/sftp_options.h"
#include "fusefs/backends/sim/sim_backend.h"
#include "fusefs/backends/url_text.h"
#ifdef COOKIEFS_NFS
#include "fusefs/backends/nfs/nfs_backend.h"
#endif

namespace fusefs {
namespace {

constexpr std::string_view kKnownSources =
#ifdef COOKIEFS_NFS
    "nfs://host/export, "
#endif
    "sftp://host/path, sim:KEY=VALUE,..., file:///path or a path";

// The scheme before the first colon (RFC 3986, 3.1) in lower case; nothing for a path.
std::optional<std::string> scheme_of(std::string_view source) {
  const size_t colon = source.find(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::string scheme;
  for (const char c : source.substr(0, colon)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool inner = std::isdigit(byte) != 0 || c == '+' || c == '-' || c == '.';
    if (std::isalpha(byte) == 0 && !(inner && !scheme.empty())) return std::nullopt;
    scheme.push_back(static_cast<char>(std::tolower(byte)));
  }
  return scheme;
}

// Percent-decoded. Nothing, and a line, for what no path can be.
std::optional<std::string> decode_path(std::string_view encoded, const std::string& source,
                                       std::string* error_text) {
  const size_t special = encoded.find_first_of("?#");
  std::optional<std::string> path = percent_decode(encoded.substr(0, special));
  if (!path.has_value()) {
    *error_text = quote(source) + " has a '%' that two hexadecimal digits other than 00 don't" +
                  " follow; in a file URL write '%' as %25";
  } else if (special != std::string_view::npos) {
    *error_text = quote(source) + " has a " + quote(encoded.substr(special, 1)) +
                  "; in a file URL write it " + (encoded[special] == '?' ? "%3F" : "%23");
    path.reset();
  }
  return path;
}

std::unique_ptr<Backend> make_from_file_url(const std::string& source, std::string_view rest,
                                            std::string* error_text) {
  std::string_view encoded = rest;
  if (encoded.substr(0, 2) == "//") {
    encoded.remove_prefix(2);
    const std::string_view host = encoded.substr(0, encoded.find('/'));
    if (!host.empty() && host != "localhost") {
      *error_text = quote(source) + " names the host " + quote(host) +
                    "; a file URL is of this machine: file:///path, with three slashes";
      return nullptr;
    }
    encoded.remove_prefix(host.size());
  }
  if (encoded.empty() || encoded.front() != '/') {
    *error_text = quote(source) + " has no absolute path; write file:///path";
    return nullptr;
  }
  std::optional<std::string> path = decode_path(encoded, source, error_text);
  if (!path.has_value()) return nullptr;
  return make_local_backend(std::move(*path), error_text);
}

// A relative path is taken from where the program was started: a daemon moves to '/'.
std::unique_ptr<Backend> make_from_path(const std::string& path, std::string* error_text) {
  if (path.front() == '/') return make_local_backend(path, error_text);
  char* const here = ::getcwd(nullptr, 0);
  if (here == nullptr) {
    *error_text = quote(path) + " is relative to a working directory that can't be told (" +
                  std::strerror(errno) + "); give an absolute path";
    return nullptr;
  }
  std::string absolute(here);
  ::free(here);
  if (absolute.back() != '/') absolute.push_back('/');
  return make_local_backend(absolute + path, error_text);
}

std::string unknown_scheme_error(const std::string& source, const std::string& scheme,
                                 std::string_view rest) {
  if (scheme == "nfs") {
    return quote(source) + ": " + scheme + ": was left out of this build; use " +
           std::string(kKnownSources);
  }
  std::string text = quote(source) + ": " + quote(scheme + ":") + " is not a known source; use " +
                     std::string(kKnownSources);
  if (rest.substr(0, 2) != "//") text += " (" + quote("./" + source) + " if a path is meant)";
  return text;
}

}  // namespace

BackendOptionSpecs backend_option_specs(const std::string& source) {
  const std::optional<std::string> scheme = scheme_of(source);
#ifdef COOKIEFS_NFS
  if (scheme == "nfs") return nfs_options();
#endif
  if (scheme == "sftp") return sftp::sftp_option_specs();
  return {};  // neither sim nor local has any
}

std::unique_ptr<Backend> make_backend(const std::string& source, const BackendOptions& options,
                                      std::string* error_text) {
  for (const BackendOption& option : options) {
    *error_text = wrong_option(backend_option_specs(source), option);
    if (!error_text->empty()) return nullptr;
  }
  if (source.empty()) {
    *error_text = "no source given; use " + std::string(kKnownSources);
    return nullptr;
  }
  const std::optional<std::string> scheme = scheme_of(source);
  if (!scheme.has_value()) return make_from_path(source, error_text);
  const std::string_view rest = std::string_view(source).substr(scheme->size() + 1);
  if (*scheme == "sftp") return make_sftp_backend(source, options, error_text);
  if (*scheme == "sim") return make_sim_backend(rest, error_text);
#ifdef COOKIEFS_NFS
  if (*scheme == "nfs") return make_nfs_backend(rest, options, error_text);
#endif
  if (*scheme == "file") return make_from_file_url(source, rest, error_text);
  *error_text = unknown_scheme_error(source, *scheme, rest);
  return nullptr;
}

}  // namespace fusefs
