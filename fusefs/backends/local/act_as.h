// ActAs: this thread makes objects as a caller while it lives.
//
// Purpose:        what is made belongs to the caller from its first moment: there is no time at
//                 which another owner could be seen, and no later chown that could be misled.
// How:            setfsuid(2) and setfsgid(2) of the thread alone. The capabilities that the kernel
//                 takes away with them are put back: who may do what was decided before, by the
//                 mount.
// When:           the daemon is root and the caller is another; else it does nothing, and what is
//                 made is the daemon's.
// Thread-safety:  begins and ends on one thread.
#pragma once

#include "fusefs/backends/backend.h"

namespace fusefs::local {

class ActAs {
 public:
  explicit ActAs(const CallerPtr& caller);
  ~ActAs();
  ActAs(const ActAs&) = delete;
  ActAs& operator=(const ActAs&) = delete;

  // EPERM: the caller is nobody that the system knows (a user namespace without it).
  [[nodiscard]] cache::Status status() const { return status_; }

 private:
  bool changed_ = false;
  cache::Status status_;
};

}  // namespace fusefs::local
