#include "fusefs/backends/nfs/rpc.h"

#include <grp.h>
#include <nfsc/libnfs-zdr.h>
// The above first: the others need its types.
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-nfs4.h>
#include <nfsc/libnfs-raw-portmap.h>
#include <nfsc/libnfs.h>
// The above first.
#include <nfsc/libnfs-raw.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <new>
#include <utility>
#include <vector>

namespace fusefs::nfs {
namespace {

constexpr size_t kMaxGroups = 16;  // AUTH_SYS has room for no more (RFC 5531, appendix A)

Caller self() {
  Caller caller{.uid = geteuid(), .gid = getegid(), .groups = {}};
  caller.groups.resize(static_cast<size_t>(std::max(getgroups(0, nullptr), 0)));
  const int count = getgroups(static_cast<int>(caller.groups.size()), caller.groups.data());
  caller.groups.resize(static_cast<size_t>(std::max(count, 0)));
  return caller;
}

}  // namespace

struct RpcContext::Waiter {
  RpcContext* context;
  RpcReply reply;
  Waiter* before;
  Waiter* after;
};

RpcContext::RpcContext(int socket, Security security)
    : socket_(socket), security_(security), rpc_(rpc_init_context()) {
  if (rpc_ == nullptr) {
    close(socket_);
    throw std::bad_alloc();
  }
  rpc_set_fd(rpc_, socket_);
}

RpcContext::~RpcContext() {
  destroying_ = true;
  // The socket is ours: libnfs closes it on some ways out and forgets it on others.
  rpc_set_fd(rpc_, -1);
  rpc_destroy_context(rpc_);
  close(socket_);
  while (waiters_ != nullptr) drop(waiters_);
}

void RpcContext::drop(Waiter* waiter) {
  (waiter->before != nullptr ? waiter->before->after : waiters_) = waiter->after;
  if (waiter->after != nullptr) waiter->after->before = waiter->before;
  delete waiter;
}

short RpcContext::events() const { return static_cast<short>(rpc_which_events(rpc_)); }

bool RpcContext::service(short revents) {
  if ((revents & POLLNVAL) != 0) return false;
  return rpc_service(rpc_, revents) == 0 && rpc_get_fd(rpc_) == socket_;
}

void RpcContext::on_reply(rpc_context* /*rpc*/, int status, void* data, void* private_data) {
  auto* const waiter = static_cast<Waiter*>(private_data);
  RpcContext& context = *waiter->context;
  if (context.destroying_) return;  // the destructor drops it
  const RpcReply reply = std::move(waiter->reply);
  context.drop(waiter);
  if (status == RPC_STATUS_SUCCESS && data != nullptr) {
    reply(RpcStatus::kAnswered, data, "");
  } else if (status == RPC_STATUS_ERROR && data != nullptr) {
    reply(RpcStatus::kRefused, nullptr, static_cast<const char*>(data));
  } else {
    reply(RpcStatus::kLost, nullptr, "the connection broke");
  }
}

bool RpcContext::authenticate(const CallerPtr& caller) {
  if (authenticated_ && (caller == caller_ || (caller && caller_ && *caller == *caller_))) {
    return true;
  }
  const Caller who = caller ? *caller : self();
  std::vector<uint32_t> groups(
      who.groups.begin(),
      who.groups.begin() + static_cast<std::ptrdiff_t>(std::min(who.groups.size(), kMaxGroups)));
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  AUTH* const auth =
      security_ == Security::kNone
          ? libnfs_authnone_create()
          : libnfs_authunix_create(host.data(), who.uid, who.gid,
                                   static_cast<uint32_t>(groups.size()), groups.data());
  if (auth == nullptr) return false;
  rpc_set_auth(rpc_, auth);  // destroys the one before
  caller_ = caller;
  authenticated_ = true;
  return true;
}

int RpcContext::send(Procedure procedure, const void* arguments, Waiter* waiter) {
  // libnfs takes arguments that it does not change by pointers to what is not const.
  void* const args = const_cast<void*>(arguments);  // NOLINT
  switch (procedure) {
    case Procedure::kPortmapGetport: {
      const auto* const mapping = static_cast<const pmap2_mapping*>(arguments);
      return rpc_pmap2_getport_async(rpc_, static_cast<int>(mapping->prog),
                                     static_cast<int>(mapping->vers),
                                     static_cast<int>(mapping->prot), on_reply, waiter);
    }
    case Procedure::kMountMount:
      return rpc_mount3_mnt_async(rpc_, on_reply, static_cast<char*>(args), waiter);
    case Procedure::kMountExport:
      return rpc_mount3_export_async(rpc_, on_reply, waiter);
    case Procedure::kNull3:
      return rpc_nfs3_null_async(rpc_, on_reply, waiter);
    case Procedure::kGetattr3:
      return rpc_nfs3_getattr_async(rpc_, on_reply, static_cast<GETATTR3args*>(args), waiter);
    case Procedure::kLookup3:
      return rpc_nfs3_lookup_async(rpc_, on_reply, static_cast<LOOKUP3args*>(args), waiter);
    case Procedure::kAccess3:
      return rpc_nfs3_access_async(rpc_, on_reply, static_cast<ACCESS3args*>(args), waiter);
    case Procedure::kReadlink3:
      return rpc_nfs3_readlink_async(rpc_, on_reply, static_cast<READLINK3args*>(args), waiter);
    case Procedure::kRead3:
      return rpc_nfs3_read_async(rpc_, on_reply, static_cast<READ3args*>(args), waiter);
    case Procedure::kReaddir3:
      return rpc_nfs3_readdir_async(rpc_, on_reply, static_cast<READDIR3args*>(args), waiter);
    case Procedure::kReaddirplus3:
      return rpc_nfs3_readdirplus_async(rpc_, on_reply, static_cast<READDIRPLUS3args*>(args),
                                        waiter);
    case Procedure::kFsstat3:
      return rpc_nfs3_fsstat_async(rpc_, on_reply, static_cast<FSSTAT3args*>(args), waiter);
    case Procedure::kFsinfo3:
      return rpc_nfs3_fsinfo_async(rpc_, on_reply, static_cast<FSINFO3args*>(args), waiter);
    case Procedure::kCompound4:
      return rpc_nfs4_compound_async(rpc_, on_reply, static_cast<COMPOUND4args*>(args), waiter);
  }
  return -1;
}

bool RpcContext::call(Procedure procedure, const void* arguments, const CallerPtr& caller,
                      RpcReply reply) {
  if (!authenticate(caller)) return false;
  auto* const waiter =
      new Waiter{.context = this, .reply = std::move(reply), .before = nullptr, .after = waiters_};
  if (waiters_ != nullptr) waiters_->before = waiter;
  waiters_ = waiter;
  if (send(procedure, arguments, waiter) == 0) return true;
  drop(waiter);
  return false;
}

}  // namespace fusefs::nfs
