// Ganesha: a real NFS server (nfs-ganesha) of a test's own, on loopback.
//
// Purpose:        NFS versions 3 and 4.0 with the ways in which servers differ, an export each:
//                   /plain    tmpfs
//                   /small    a tmpfs of its own, with room for 1 MiB
//                   /disk     wherever temporary files lie: usually ext4
//                   /strict   any change makes every cookie and verifier bad (UseCookieVerifier)
//                   /names    no READDIRPLUS
//                   /mem      memory; half of the cookies are at or above 2^63
//                   /closed   open to another machine only
//                   /secure   from ports below 1024 only
//                   /squashed root is nobody
// Ownership:      its process, its configuration and its exports' files, gone with the destructor.
// Thread-safety:  one thread.
// Errors:         exceptions with the end of the server's log.
//
// Needs root, and the packages nfs-ganesha, nfs-ganesha-vfs and nfs-ganesha-mem; the shim that the
// build makes lies beside the test's binary.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include "tests/support/child.h"
#include "tests/support/loopback.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tmpfs.h"

namespace test {

class Ganesha {
 public:
  // What a server does that has started again: grants whatever it is asked for at once, or for ten
  // seconds only what clients say that they had before. Leases last as long, or a minute: clients
  // that do nothing do not notice the restart in time, then.
  enum class Grace : uint8_t { kNone, kTenSeconds, kTenSecondsOfMinute };

  explicit Ganesha(Grace grace = Grace::kNone);
  ~Ganesha();
  Ganesha(const Ganesha&) = delete;
  Ganesha& operator=(const Ganesha&) = delete;

  [[nodiscard]] uint16_t nfs_port() const { return nfs_port_; }
  [[nodiscard]] uint16_t mount_port() const { return mount_port_; }
  // The directory behind an export that has one: plain, small, disk, strict, names, secure,
  // squashed.
  [[nodiscard]] std::string directory(const std::string& name) const;

  // A source for that path, "/plain/sub"; NFS through another port (a proxy's) where one is given.
  [[nodiscard]] std::string url(const std::string& path, uint16_t port = 0,
                                const std::string& version = "3") const;

  void stop();
  // On the same ports, with the same files.
  void start();
  void restart() {
    stop();
    start();
  }

 private:
  void write_config();
  bool try_start();
  [[nodiscard]] std::string log_tail() const;

  const Grace grace_;
  const TempDir disk_;
  const Tmpfs small_{"size=1M"};
  const std::string memory_;  // a directory on tmpfs
  const std::string log_path_;
  uint16_t nfs_port_ = 0;
  uint16_t mount_port_ = 0;
  std::unique_ptr<Child> server_;
  time_t started_ = 0;
};

}  // namespace test
