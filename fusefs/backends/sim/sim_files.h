// Open files of the simulated remote, and changes of their bytes.
//
// Purpose:        what write, commit, truncate, allocate and copy mean there: times move, space
//                 runs out, what is not committed can be lost.
// Handles:        the inode number, and the access mode above it: nothing to keep but how often a
//                 file is open. One that was removed lives until it is closed.
// Thread-safety:  none of its own; the back end's lock protects it and the tree.
// Errors:         EBADF: not open for that; ESTALE: gone; ENOSPC, EFBIG, EISDIR, EINVAL.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/sim/sim_tree.h"

namespace fusefs {

class SimFiles {
 public:
  using Handle = Backend::FileHandle;

  explicit SimFiles(SimTree& tree) : tree_(tree), verifier_(tree.config().seed | 1) {}

  // Of `flags` the access mode and O_TRUNC count.
  [[nodiscard]] Result<Handle> open(const SimNode& node, int flags);
  void close(Handle file) { tree_.close(ino_of(file)); }
  [[nodiscard]] Result<Attr> attr(Handle file) const;
  [[nodiscard]] Result<std::string> read(Handle file, uint64_t offset, uint32_t size) const;
  [[nodiscard]] Result<WriteAnswer> write(Handle file, uint64_t offset, std::string_view bytes,
                                          StableHow how);
  [[nodiscard]] Result<uint64_t> commit(Handle file);
  [[nodiscard]] Result<Nothing> allocate(Handle file, int mode, uint64_t offset, uint64_t length);
  [[nodiscard]] Result<uint64_t> copy(Handle from, uint64_t from_offset, Handle to,
                                      uint64_t to_offset, uint64_t length);
  // Of a file that is open or not.
  [[nodiscard]] Status truncate(const SimNode& node, uint64_t size);
  // The file itself, open or not, named or not.
  [[nodiscard]] Result<SimNode> node_of(Handle file) const;

  // A reboot: what was not committed is gone, and the verifier is another.
  void lose_uncommitted();

 private:
  [[nodiscard]] static uint64_t ino_of(Handle file);
  [[nodiscard]] Result<SimNode> opened(Handle file, int refused_mode) const;
  // ENOSPC where what a write there would store has no room.
  [[nodiscard]] Status check_space(const SimNode& node, uint64_t offset, uint64_t length) const;
  // Changes the content, and counts and stamps the change.
  Status change(const SimNode& node, const std::function<void(SimContent&)>& change_it);

  SimTree& tree_;
  uint64_t verifier_;
};

}  // namespace fusefs
