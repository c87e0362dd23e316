// TreeRoot: opens what lies under one directory, and nothing else.
//
// Purpose:        the only place where a path becomes a descriptor. A path is relative to the
//                 root, its components separated by single slashes; "" and "." are the root
//                 itself. No symbolic link on the way is followed, so a tree that changes under
//                 us, or was built to deceive, can't lead outside the root.
// Ownership:      owns the root's descriptor; what it opens belongs to the caller. Nothing is kept
//                 per object: a tree may have millions.
// Thread-safety:  open_root() comes before everything else; after it, all members may be called
//                 from any thread.
// Errors:         ESTALE: the path no longer leads to an object under the root (gone, a parent
//                 replaced by a link or a file); others as open(2) gives them.
#pragma once

#include <string>
#include <string_view>

#include "cache/base/result.h"
#include "fusefs/backends/local/unique_fd.h"

namespace fusefs::local {

// How paths are resolved: by openat2 with RESOLVE_BENEATH, or one component after another where
// the kernel (before 5.6) or a sandbox has no openat2. kAuto tries the first and falls back.
enum class Resolver { kAuto, kOpenat2, kWalk };

class TreeRoot {
 public:
  explicit TreeRoot(Resolver resolver = Resolver::kAuto) : resolver_(resolver) {}

  // Opens the root itself; symbolic links in `path` are followed, the user wrote it.
  cache::Status open_root(const std::string& path);
  [[nodiscard]] bool is_open() const { return root_.valid(); }

  // A descriptor for the object's name only (O_PATH): for stat, links, attributes.
  [[nodiscard]] cache::Result<UniqueFd> open_path(const std::string& path) const;
  // With `flags` of open(2), for reading; O_CLOEXEC and O_NOFOLLOW are added.
  [[nodiscard]] cache::Result<UniqueFd> open(const std::string& path, int flags) const;

 private:
  [[nodiscard]] cache::Result<UniqueFd> open_beneath(const std::string& path, int flags) const;
  [[nodiscard]] cache::Result<UniqueFd> walk(const std::string& path, int flags) const;

  Resolver resolver_;  // constant after open_root()
  UniqueFd root_;      // constant after open_root()
};

// A component that may be appended to a path: not empty, not "." or "..", no slash, no NUL.
// 0, or the errno that a lookup of such a name gives.
int check_component(std::string_view name);

// `directory`/`name`, where either form of the root's path stands for nothing.
std::string join_path(const std::string& directory, std::string_view name);

bool is_root_path(std::string_view path);

}  // namespace fusefs::local
