#include "fusefs/backends/local/act_as.h"

#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace fusefs::local {
namespace {

struct Capabilities {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};  // 0: this thread
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

  bool read() { return ::syscall(SYS_capget, &header, data) == 0; }
  void write() { static_cast<void>(::syscall(SYS_capset, &header, data)); }
};

// An id that can't be set leaves the present one: that is how both tell.
uid_t present_fsuid() { return static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))); }
gid_t present_fsgid() { return static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))); }

}  // namespace

ActAs::ActAs(const CallerPtr& caller) {
  if (caller == nullptr || ::geteuid() != 0) return;
  if (caller->uid == ::geteuid() && caller->gid == ::getegid()) return;
  Capabilities before;
  const bool known = before.read();
  changed_ = true;
  ::setfsgid(caller->gid);
  ::setfsuid(caller->uid);
  if (known) before.write();
  if (present_fsuid() != caller->uid || present_fsgid() != caller->gid) {
    status_ = cache::Status::error(EPERM);
  }
}

ActAs::~ActAs() {
  if (!changed_) return;
  ::setfsuid(::geteuid());
  ::setfsgid(::getegid());
}

}  // namespace fusefs::local
