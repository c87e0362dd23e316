// Session: one mount, from fuse_session_new to the end of its loop.
//
// Purpose:        binds a back end, the page cache and the inode table to libfuse's low-level loop.
// Ownership:      owns all of them; destroyed in the order: loop ended, requests answered, inodes
//                 (and their directories) evicted, back end, page cache.
// Thread-safety:  constructed, mounted, run and destroyed by one thread; stop() from any thread and
//                 from signal handlers of libfuse.
// Errors:         one line in `error` that says what is wrong and what would be right.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cache/base/clock.h"
#include "fusefs/backends/backend.h"
#include "fusefs/options.h"

namespace fusefs {

class SessionImpl;

class Session {
 public:
  // `root` is what Backend::connect() answered.
  Session(const Options& options, std::unique_ptr<Backend> backend, const LookupAnswer& root);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Where Prometheus finds the metrics; empty where `metrics=` was not given. After mount().
  [[nodiscard]] std::string metrics_url() const;

  // Mounts; true when the kernel has the mount (INIT follows in run()).
  bool mount(std::string* error);
  // Serves until unmounted or stopped by SIGINT, SIGTERM or SIGHUP. Returns the exit status.
  // `ready` is called once, when INIT has been answered.
  int run(const std::function<void()>& ready);

 private:
  std::unique_ptr<SessionImpl> impl_;
};

}  // namespace fusefs
