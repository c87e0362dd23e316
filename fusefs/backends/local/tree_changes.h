// TreeChanges: everything that changes the tree under the root.
//
// Purpose:        makes, links, removes, renames objects and sets their attributes, each in one
//                 call of the kernel's on descriptors that were opened beneath the root: a tree
//                 that changes meanwhile can't lead outside.
// Owners:         what is made belongs to the caller where the daemon is root (act_as.h).
// Ownership:      refers to the root, which outlives it; it keeps no state.
// Thread-safety:  all members may be called from any thread. They block on the disk.
// Errors:         ESTALE: an id that leads nowhere; ENOENT, EEXIST, ...: the name; EINVAL and
//                 ENAMETOOLONG for names that no file can have.
#pragma once

#include <string>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/local/tree_root.h"
#include "fusefs/backends/local/unique_fd.h"

namespace fusefs::local {

// The name of an open descriptor's object: following it can't be raced by a rename.
std::string proc_path(const UniqueFd& fd);

struct CreatedFile {
  MadeAnswer made;
  UniqueFd fd;
};

class TreeChanges {
 public:
  explicit TreeChanges(const TreeRoot& root) : root_(root) {}

  // Opens a regular file; of `flags` the access mode and O_TRUNC count. ESTALE, EISDIR; EINVAL for
  // what is neither a file nor a directory.
  [[nodiscard]] cache::Result<UniqueFd> open(const ObjectId& id, int flags) const;
  // As Backend::create().
  [[nodiscard]] cache::Result<CreatedFile> create(const CallerPtr& caller, const ObjectId& parent,
                                                  const std::string& name, uint32_t mode,
                                                  int flags) const;
  [[nodiscard]] cache::Result<MadeAnswer> mkdir(const CallerPtr& caller, const ObjectId& parent,
                                                const std::string& name, uint32_t mode) const;
  [[nodiscard]] cache::Result<MadeAnswer> mknod(const CallerPtr& caller, const ObjectId& parent,
                                                const std::string& name, uint32_t mode,
                                                uint64_t rdev) const;
  [[nodiscard]] cache::Result<MadeAnswer> symlink(const CallerPtr& caller, const ObjectId& parent,
                                                  const std::string& name,
                                                  const std::string& target) const;
  [[nodiscard]] cache::Result<MadeAnswer> link(const ObjectId& id, const ObjectId& parent,
                                               const std::string& name) const;
  // `flags` of unlinkat(2): AT_REMOVEDIR for a directory.
  [[nodiscard]] cache::Result<DirChange> remove(const ObjectId& parent, const std::string& name,
                                                int flags) const;
  [[nodiscard]] cache::Result<RenamedAnswer> rename(const ObjectId& from_parent,
                                                    const std::string& from_name,
                                                    const ObjectId& to_parent,
                                                    const std::string& to_name,
                                                    uint32_t flags) const;
  // `file`: an open descriptor of the object, or null.
  [[nodiscard]] cache::Result<Attr> setattr(const ObjectId& id, const UniqueFd* file,
                                            const SetAttr& set) const;
  [[nodiscard]] cache::Result<Nothing> setxattr(const ObjectId& id, const std::string& name,
                                                const std::string& value, int flags) const;
  [[nodiscard]] cache::Result<Nothing> removexattr(const ObjectId& id,
                                                   const std::string& name) const;

 private:
  // A directory in which a name is about to change, and its token before that.
  struct Place {
    UniqueFd directory;
    std::string name;
    ObjectId id;  // that the name has
    uint64_t before = 0;
  };
  [[nodiscard]] cache::Result<Place> place(const ObjectId& parent, const std::string& name) const;
  // Runs `make(directory, name)` as the caller: 0, or -1 and errno.
  template <typename Make>
  [[nodiscard]] cache::Result<MadeAnswer> make(const CallerPtr& caller, const ObjectId& parent,
                                               const std::string& name, uint32_t mode,
                                               Make make_it) const;

  const TreeRoot& root_;
};

}  // namespace fusefs::local
