// Side: one of two file systems to which the same is done.
//
// Purpose:        does operations below a directory of its own, tells what came of each.
// Ownership:      its open files, closed with it.
// Thread-safety:  one thread.
#pragma once

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/files/op.h"

namespace files {

struct Look {
  int error = 0;
  struct stat attr {};
};

struct Outcome {
  int64_t result = 0;  // -1: `error` is the errno
  int error = 0;
  std::string data;         // what was read; names and types, sorted; a link's target
  std::vector<Look> looks;  // of the path, of the other path, of the open file
};

class Side {
 public:
  // `direct`: O_DIRECT is passed on.
  Side(std::string root, bool direct) : root_(std::move(root)), direct_(direct) {}
  ~Side();
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  Outcome run(const Op& op);

  // Attributes of an open file; EBADF where nothing is open there.
  [[nodiscard]] Look look_at_slot(unsigned slot) const;
  // Closes the files that have no name any more.
  void close_nameless();
  void close_all();
  [[nodiscard]] std::string path(const std::string& name) const { return root_ + "/" + name; }

 private:
  void do_open_file(const Op& op, Outcome* outcome);
  void do_data(const Op& op, Outcome* outcome);
  void do_read(const Op& op, Outcome* outcome) const;
  void do_map(const Op& op, Outcome* outcome) const;
  void do_copy(const Op& op, Outcome* outcome) const;
  void do_name(const Op& op, Outcome* outcome) const;
  void do_attribute(const Op& op, Outcome* outcome) const;
  void do_xattr(const Op& op, Outcome* outcome) const;
  void do_directory(const Op& op, Outcome* outcome);
  void settle_times(const Op& op) const;
  int64_t write_all(const Op& op) const;
  int64_t close_slot(unsigned slot);

  const std::string root_;
  const bool direct_;
  std::array<int, kSlots> slots_ = {-1, -1, -1, -1, -1, -1};
  std::array<bool, kSlots> direct_slots_{};
  int held_ = -1;
};

// Names and types of a directory's entries without '.' and '..', sorted, a line each; what is
// there twice is there twice. Returns 0 or an errno.
int list_directory(int fd, size_t buffer, std::string* lines);

}  // namespace files
