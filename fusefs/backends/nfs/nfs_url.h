// nfs://HOST[:PORT]/EXPORT[/DIRECTORY][?OPTION=VALUE&...]: the source of an NFS mount.
//
// Purpose:        host and path, percent-decoded; the query's options as if they stood behind -o.
// Thread-safety:  pure functions.
// Errors:         one line that says what is wrong and what would be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fusefs/backends/backend_options.h"

namespace fusefs::nfs {

struct NfsUrl {
  std::string host;  // a name or an address, IPv6 without brackets
  std::string path;  // begins with '/', has neither '.', '..' nor empty parts
  BackendOptions options;
};

// `rest` is what follows "nfs:".
std::optional<NfsUrl> parse_nfs_url(std::string_view rest, std::string* error_text);

// As a user would write it, without options: nfs://host/path.
std::string url_text(const NfsUrl& url);

}  // namespace fusefs::nfs
