// What became of directories' change tokens by changes of ours.
//
// Purpose:        tells of each change whether anybody else had changed the directory since the
//                 last token, as far as times in whole seconds can tell (see sftp_attr.h).
// What is proven: a directory that was old (kYoung) before our change and has the time that its
//                 token was made of: nobody else changed it since. One that was young: its time
//                 and size are what they were right after our own last change, or when we made it.
//                 Another's change within that same second that left the size as it was is not seen
//                 then. It is seen later: the token that a change of ours gives never comes again,
//                 so whoever compares it with what the server tells lists the directory anew.
// What is promised: the outcome of making a file where we have just made another one: the token it
//                 leads to, and attributes as that one got them. Whether that is how it was is
//                 known when the server has answered.
// Thread-safety:  the client's loop only.
// Bounds:         kMost directories; where there are more, all are forgotten.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/sftp/codec.h"

namespace fusefs::sftp {

class DirTokens {
 public:
  static constexpr size_t kMost = 4096;

  // A change of ours was made between these two looks at the directory.
  DirChange note(const ObjectId& directory, const FileAttrs& before, const FileAttrs& after,
                 int64_t wall_seconds);
  // A file was made in it, with that mode asked for.
  void note_child(const ObjectId& directory, uint32_t mode, const FileAttrs& attrs);
  struct Promise {
    DirChange change;
    FileAttrs attrs;  // of the file
  };
  // Nothing: not enough is known.
  std::optional<Promise> promise(const ObjectId& directory, uint32_t mode, int64_t wall_seconds);
  // What was promised has been done between these looks. False: so has something of somebody else.
  bool keep_promise(const ObjectId& directory, const FileAttrs& before, const FileAttrs& after,
                    const Promise& promise);
  // It was just made by us, and given that token.
  void note_made(const ObjectId& directory, const FileAttrs& attrs, uint64_t token);
  // Directories that have gone, or are others now: `from` and what was below it.
  void forget(const ObjectId& from);

 private:
  void keep(const ObjectId& directory, const FileAttrs& attrs, uint64_t token);

  struct Last {
    uint32_t mtime = 0;
    uint64_t size = 0;
    uint64_t token = 0;
    uint64_t promised = 0;  // the last token: `token`, or what leads on from it
    std::optional<FileAttrs> child = {};
    uint32_t child_mode = 0;  // as asked for
  };
  std::unordered_map<ObjectId, Last> last_;  // after the last change of ours
};

}  // namespace fusefs::sftp
