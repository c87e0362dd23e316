// SftpRename: names that are moved.
//
// Purpose:        as sftp_changes.h says it of the other changes: sent once, with a look at both
//                 directories before and after and at both names before, in one round trip.
// Replacing:      posix-rename@openssh.com puts the new in the old one's place at once. SFTP's own
//                 RENAME replaces nothing: it is what RENAME_NOREPLACE takes (OpenSSH moves a file
//                 by link(2) and unlink(2), so nothing can come in between; of all else it looks
//                 first, following links: one that leads nowhere is replaced). A server without
//                 posix-rename is asked to RENAME, and where a name is in the way, to remove that
//                 and RENAME again: then there is a moment without either, and a server that dies
//                 in it leaves none.
// What is open:   and streams of what lies below the name go on under the new name (SftpFiles), or
//                 are begun anew (SftpListing).
// Lost connections: where the old name is gone and the new one there, it has happened; else it is
//                 sent again.
// Ownership:      refers to the parts that it is made of, which the back end owns.
// Thread-safety:  the client's loop only. Completions run on it.
// Errors:         as rename(2) has them, where looks tell; EXDEV: two file systems on the server;
//                 EINVAL: RENAME_EXCHANGE, or into what is moved.
#pragma once

#include <memory>
#include <vector>

#include "fusefs/backends/sftp/sftp_changes.h"

namespace fusefs::sftp {

class SftpRename {
 public:
  using Done = std::function<void(Result<RenamedAnswer>)>;
  struct Name {
    ObjectId parent, id;
  };

  explicit SftpRename(const TreeParts& parts) : parts_(parts) {}

  void rename(const Name& from, const Name& to, uint32_t flags, Done done);

 private:
  struct Renaming {
    Name from, to;
    bool replace = true;
    bool at_once = false;  // by posix-rename
    uint32_t attempts = 0;
    Done done;
    [[nodiscard]] bool one_directory() const { return from.parent == to.parent; }
  };
  using RenamingPtr = std::shared_ptr<Renaming>;

  void start(const RenamingPtr& renaming);
  // In a group, after whatever else it has.
  void add_directories(const Renaming& renaming, std::vector<Request>* requests) const;
  void add_names(const Renaming& renaming, std::vector<Request>* requests) const;
  void on_answer(const RenamingPtr& renaming, const GroupAnswer& answer);
  void succeed(const RenamingPtr& renaming, const RenamedAnswer& answer);
  [[nodiscard]] RenamedAnswer renamed_answer(const Renaming& renaming, const GroupAnswer& answer,
                                             size_t after);

  void explain(const RenamingPtr& renaming, const GroupAnswer& answer);
  void remove_and_rename(const RenamingPtr& renaming, bool directory);
  void on_removed_and_renamed(const RenamingPtr& renaming, bool directory,
                              const GroupAnswer& answer);
  void look(const RenamingPtr& renaming);

  const TreeParts parts_;
};

}  // namespace fusefs::sftp
