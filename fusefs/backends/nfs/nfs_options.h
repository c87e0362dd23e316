// Options of NFS mounts: from a URL's query and from -o, by the names that nfs(5) has for them.
//
// Purpose:        the table that the command line is checked against, and the parsed form.
// Precedence:     -o goes before the URL; the last of two that contradict each other counts.
// Thread-safety:  pure functions.
// Errors:         one line that says what is wrong and what would be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fusefs/backends/backend_options.h"
#include "fusefs/backends/nfs/nfs_client.h"

namespace fusefs::nfs {

struct NfsOptions {
  uint32_t version = 3;
  uint16_t port = 0;       // 0: v3 asks the port mapper, v4 takes 2049
  uint16_t mountport = 0;  // v3 only; 0: asks the port mapper
  uint32_t nconnect = 4;
  ClientOptions::Patience patience = ClientOptions::Patience::kHard;
  std::chrono::milliseconds timeo{10000};
  uint32_t retrans = 2;
  SourcePort source_port = SourcePort::kReserved;
  Security security = Security::kSys;
  uint32_t rsize = 1u << 20;
  uint32_t wsize = 1u << 20;
  // The identity that all requests have. Not set: each has its caller's.
  bool squash = false;
  std::optional<uint32_t> uid, gid;

  [[nodiscard]] bool one_identity() const { return squash || uid || gid; }
};

BackendOptionSpecs nfs_option_specs();

// Applies options that fit the table.
void apply_options(const BackendOptions& given, NfsOptions* options);

}  // namespace fusefs::nfs
