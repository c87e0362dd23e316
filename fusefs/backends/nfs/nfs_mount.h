// The way to an export, before anything is mounted: port mapper (RFC 1833) and mount protocol
// (RFC 1813, appendix I).
//
// Purpose:        the server's ports and the handle of the longest part of the path that it lets us
//                 mount; what is left of the path is looked up from there.
// Thread-safety:  any thread; blocks, until `deadline` at most (and the system's resolver's time).
// Errors:         one line that says what is wrong and what would be right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fusefs/backends/nfs/nfs_options.h"
#include "fusefs/backends/nfs/nfs_protocol.h"
#include "fusefs/backends/nfs/nfs_url.h"

namespace fusefs::nfs {

struct Mounted {
  uint16_t port = 0;               // of NFS itself
  Handle root;                     // v3: of `exported`; v4: empty, its root needs no mounting
  std::string exported = "/";      // what was mounted
  std::vector<std::string> below;  // names that lead from there to the path
};

Result<Mounted> find_export(const NfsUrl& url, const NfsOptions& options, const CallerPtr& caller,
                            cache::TimePoint deadline, std::string* error_text);

// The names of a path's parts.
std::vector<std::string> path_parts(const std::string& path);

// "'host' port 2049 refuses connections; is an NFS server running there?" and the like.
std::string connect_error(const std::string& host, uint16_t port, int error);

}  // namespace fusefs::nfs
