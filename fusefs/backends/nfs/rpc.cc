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
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <random>
#include <utility>
#include <vector>

#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/reply_check.h"
#include "fusefs/backends/nfs/xdr_reader.h"
#include "fusefs/backends/nfs/xdr_writer.h"

namespace fusefs::nfs {
namespace {

constexpr uint32_t kLengthBits = 0x7fffffff;  // of a fragment's mark; the other: the last one
constexpr size_t kMaxGroups = 16;  // AUTH_SYS has room for no more (RFC 5531, appendix A)

Caller self() {
  Caller caller{.uid = geteuid(), .gid = getegid(), .groups = {}};
  caller.groups.resize(static_cast<size_t>(std::max(getgroups(0, nullptr), 0)));
  const int count = getgroups(static_cast<int>(caller.groups.size()), caller.groups.data());
  caller.groups.resize(static_cast<size_t>(std::max(count, 0)));
  return caller;
}

std::string host_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return host.data();
}

}  // namespace

struct RpcContext::Waiter {
  RpcContext* context;
  RpcReply reply;
  uint32_t xid;  // once it is known
  bool raw;
  Waiter* before;
  Waiter* after;
};

RpcContext::RpcContext(int socket, Security security)
    : socket_(socket),
      security_(security),
      rpc_(rpc_init_context()),
      raw_xid_(std::random_device()()) {
  std::array<int, 2> pair = {-1, -1};
  constexpr int kKind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (rpc_ == nullptr || socketpair(AF_UNIX, kKind, 0, pair.data()) != 0) {
    if (rpc_ != nullptr) rpc_destroy_context(rpc_);
    close(socket_);
    throw std::bad_alloc();
  }
  pair_ = pair[0];
  pair_of_libnfs_ = pair[1];
  const int bytes = static_cast<int>(kMaxRecord);
  setsockopt(pair_, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  rpc_set_fd(rpc_, pair_of_libnfs_);
}

RpcContext::~RpcContext() {
  destroying_ = true;
  // The sockets are ours: libnfs closes its own on some ways out and forgets it on others.
  rpc_set_fd(rpc_, -1);
  rpc_destroy_context(rpc_);
  close(pair_of_libnfs_);
  close(pair_);
  close(socket_);
  while (waiters_ != nullptr) drop(waiters_);
}

void RpcContext::drop(Waiter* waiter) {
  (waiter->before != nullptr ? waiter->before->after : waiters_) = waiter->after;
  if (waiter->after != nullptr) waiter->after->before = waiter->before;
  const auto asked = asked_.find(waiter->xid);
  if (asked != asked_.end() && asked->second.waiter == waiter) asked_.erase(asked);
  delete waiter;
}

// ---- Between the server and libnfs
// ---------------------------------------------------------------

short RpcContext::events() const {
  return static_cast<short>(POLLIN | (sent_ < outgoing_.size() ? POLLOUT : 0));
}

bool RpcContext::service(short revents) {
  if (broken_ || (revents & (POLLNVAL | POLLERR)) != 0) return false;
  if ((revents & POLLOUT) != 0 && !send_outgoing()) return false;
  return (revents & (POLLIN | POLLHUP)) == 0 || receive();
}

// What libnfs has queued, into outgoing_.
bool RpcContext::take_calls() {
  while ((rpc_which_events(rpc_) & POLLOUT) != 0) {
    if (rpc_service(rpc_, POLLOUT) != 0) return false;
    std::array<char, 16384> buffer;
    for (;;) {
      const ssize_t got = recv(pair_, buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      outgoing_.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  return note_calls();
}

bool RpcContext::note_calls() {
  constexpr size_t kMark = 4;
  while (outgoing_.size() >= noted_ + kMark) {
    const std::string_view rest = std::string_view(outgoing_).substr(noted_);
    const size_t length = XdrReader(rest).u32() & kLengthBits;
    if (rest.size() < kMark + length) break;
    const CallHeader header = read_call_header(rest.substr(kMark, length));
    if (!header.procedure || asked_.count(header.xid) != 0) return false;
    if (calling_ != nullptr) calling_->xid = header.xid;
    asked_[header.xid] = {.procedure = *header.procedure,
                          .waiter = std::exchange(calling_, nullptr)};
    noted_ += kMark + length;
  }
  return true;
}

bool RpcContext::send_outgoing() {
  while (sent_ < outgoing_.size()) {
    const ssize_t sent =
        send(socket_, outgoing_.data() + sent_, outgoing_.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    sent_ += static_cast<size_t>(sent);
  }
  outgoing_.clear();
  noted_ = sent_ = 0;
  return true;
}

bool RpcContext::receive() {
  for (;;) {
    const Progress progress = receive_some();
    if (progress != Progress::kSome) return progress == Progress::kNone;
    if (mark_.size() == 4 && missing_ == 0) {
      mark_.clear();
      if (last_ && !take_record()) return false;
    }
  }
}

// A part of a mark or of a fragment (RFC 5531, 11).
RpcContext::Progress RpcContext::receive_some() {
  constexpr size_t kMark = 4;
  const bool marking = mark_.size() < kMark;
  std::string& into = marking ? mark_ : record_;
  const size_t had = into.size();
  // Not all of a long fragment at once: resize() writes what recv() writes again.
  constexpr size_t kStep = size_t{256} << 10;
  const size_t wanted = marking ? kMark - had : std::min(missing_, kStep);
  into.resize(had + wanted);
  const ssize_t got = recv(socket_, into.data() + had, wanted, 0);
  const int error = errno;
  into.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) return error == EAGAIN || error == EINTR ? Progress::kNone : Progress::kBroken;
  if (got == 0) return Progress::kBroken;
  if (!marking) {
    missing_ -= static_cast<size_t>(got);
  } else if (mark_.size() == kMark) {
    const uint32_t mark = XdrReader(mark_).u32();
    last_ = (mark & ~kLengthBits) != 0;
    missing_ = mark & kLengthBits;
    if (missing_ == 0 || record_.size() + missing_ > kMaxRecord) return Progress::kBroken;
  }
  return Progress::kSome;
}

bool RpcContext::take_record() {
  const std::string record = std::exchange(record_, {});
  const auto xid = reply_xid(record);
  if (!xid) return false;
  const auto asked = asked_.find(*xid);
  if (asked == asked_.end()) return true;  // an answer to nobody's question
  const Asked call = asked->second;
  asked_.erase(asked);
  if (call.waiter != nullptr && call.waiter->raw) return take_raw(call.waiter, record);
  switch (check_reply(record, call.procedure)) {
    case ReplyVerdict::kSound:
      if (call.procedure == Procedure::kReaddir3 || call.procedure == Procedure::kReaddirplus3) {
        return take_listing(call, *xid, record);
      }
      return give_to_libnfs(record);
    case ReplyVerdict::kBadResult:
      return give_to_libnfs(failed_reply(*xid));
    case ReplyVerdict::kBadHeader:
      return false;
  }
  return false;
}

bool RpcContext::take_listing(const Asked& asked, uint32_t xid, std::string_view record) {
  if (asked.waiter == nullptr) return false;
  const auto results = results_of(record);
  if (!results) return give_to_libnfs(record);  // refused: it says why
  const RpcReply reply = std::exchange(asked.waiter->reply, nullptr);
  if (!give_to_libnfs(failed_reply(xid))) return false;
  reply(RpcStatus::kAnswered, &*results, "");
  return true;
}

bool RpcContext::take_raw(Waiter* waiter, std::string_view record) {
  const RpcReply reply = std::move(waiter->reply);
  drop(waiter);
  std::string refusal;
  if (const auto results = results_of(record)) {
    reply(RpcStatus::kAnswered, &*results, "");
  } else if (refusal_of(record, &refusal)) {
    reply(RpcStatus::kRefused, nullptr, refusal.c_str());
  } else {
    reply(RpcStatus::kLost, nullptr, "that was no reply");
    return false;
  }
  return true;
}

// libnfs reads what the pair holds; a record that is larger goes in turns.
bool RpcContext::give_to_libnfs(std::string_view record) {
  const auto mark = static_cast<uint32_t>(record.size()) | ~kLengthBits;
  XdrWriter marked;
  marked.reserve(sizeof mark + record.size());
  const std::string& bytes = marked.u32(mark).raw(record).bytes();
  size_t given = 0;
  for (;;) {
    if (given < bytes.size()) {
      const ssize_t sent = send(pair_, bytes.data() + given, bytes.size() - given, MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (sent > 0) given += static_cast<size_t>(sent);
    }
    int unread = 0;
    if (ioctl(pair_of_libnfs_, FIONREAD, &unread) != 0) return false;
    if (unread == 0 && given == bytes.size()) return true;
    if (rpc_service(rpc_, POLLIN) != 0 || rpc_get_fd(rpc_) != pair_of_libnfs_) return false;
    int after = 0;
    if (ioctl(pair_of_libnfs_, FIONREAD, &after) != 0 || after >= unread) return false;
  }
}

// ---- Calls --------------------------------------------------------------------------------------

void RpcContext::on_reply(rpc_context* /*rpc*/, int status, void* data, void* private_data) {
  auto* const waiter = static_cast<Waiter*>(private_data);
  RpcContext& context = *waiter->context;
  if (context.destroying_) return;  // the destructor drops it
  const RpcReply reply = std::move(waiter->reply);
  context.drop(waiter);
  if (!reply) return;  // it has been answered
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
  AUTH* const auth =
      security_ == Security::kNone
          ? libnfs_authnone_create()
          : libnfs_authunix_create(host_name().c_str(), who.uid, who.gid,
                                   static_cast<uint32_t>(groups.size()), groups.data());
  if (auth == nullptr) return false;
  rpc_set_auth(rpc_, auth);  // destroys the one before
  caller_ = caller;
  authenticated_ = true;
  return true;
}

int RpcContext::send_call(Procedure procedure, const void* arguments, Waiter* waiter) {
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
  Waiter* const waiter = new_waiter(std::move(reply));
  if (send_call(procedure, arguments, waiter) != 0) {
    drop(waiter);
    return false;
  }
  // Where the connection is of no use any more, service() will tell.
  calling_ = waiter;
  broken_ = !take_calls() || broken_;
  calling_ = nullptr;
  return true;
}

RpcContext::Waiter* RpcContext::new_waiter(RpcReply reply) {
  auto* const waiter = new Waiter{.context = this,
                                  .reply = std::move(reply),
                                  .xid = 0,
                                  .raw = false,
                                  .before = nullptr,
                                  .after = waiters_};
  if (waiters_ != nullptr) waiters_->before = waiter;
  waiters_ = waiter;
  return waiter;
}

// RFC 5531, 8.2 and appendix A: credentials and an empty verifier.
std::string RpcContext::credentials(const CallerPtr& caller) const {
  XdrWriter out;
  if (security_ == Security::kNone) return out.u32(0).opaque({}).u32(0).opaque({}).bytes();
  const Caller who = caller ? *caller : self();
  const size_t groups = std::min(who.groups.size(), kMaxGroups);
  XdrWriter body;
  body.u32(0).opaque(host_name()).u32(who.uid).u32(who.gid).u32(static_cast<uint32_t>(groups));
  for (size_t i = 0; i < groups; ++i) body.u32(who.groups[i]);
  return out.u32(1).opaque(body.bytes()).u32(0).opaque({}).bytes();
}

bool RpcContext::call_raw(RawProcedure procedure, std::string_view arguments,
                          const CallerPtr& caller, RpcReply reply) {
  constexpr uint32_t kCall = 0, kRpcVersion = 2;
  // libnfs counts its own calls, from another place; should the two meet, the connection is made
  // anew (broken_).
  do ++raw_xid_;
  while (asked_.count(raw_xid_) != 0);
  XdrWriter header;
  header.u32(raw_xid_).u32(kCall).u32(kRpcVersion).u32(kNfsProgram).u32(procedure.version);
  header.u32(procedure.number).raw(credentials(caller));
  const size_t length = header.bytes().size() + arguments.size();
  if (length > kLengthBits) return false;
  Waiter* const waiter = new_waiter(std::move(reply));
  waiter->raw = true;
  waiter->xid = raw_xid_;
  asked_[raw_xid_] = {.procedure = Procedure::kNull3, .waiter = waiter};
  outgoing_.append(XdrWriter().u32(static_cast<uint32_t>(length) | ~kLengthBits).bytes());
  outgoing_.append(header.bytes()).append(arguments);
  noted_ = outgoing_.size();
  return true;
}

}  // namespace fusefs::nfs
