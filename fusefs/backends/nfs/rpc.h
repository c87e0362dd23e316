// RpcContext: one RPC connection, as libnfs' raw interface has it. The only file that calls
// libnfs' contexts; the protocols' structures (nfsc/libnfs-raw-*.h) are used by the codecs, too.
//
// Purpose:        hides what differs between libnfs' versions (6 renames *_async to *_task) and
// what
//                 it does badly: reconnecting (switched off: a broken connection is thrown away),
//                 sockets (ours are handed to it), and which calls it forgets.
// Ownership:      owns the socket and libnfs' context. A reply function is called at most once,
// from
//                 service(), and never after the context is destroyed: whoever waits keeps a list.
// Thread-safety:  none: libnfs 4.0 has no locks. One thread makes, uses and destroys a context. It
//                 needs kDecoderStack: libnfs decodes a listing by recursion, up to 260 bytes of
//                 stack an entry, and an entry may be 24 bytes of a record of up to kMaxRecord.
// Errors:         RpcStatus with every reply; service() is false once the connection is of no use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "fusefs/backends/backend.h"

struct rpc_context;

namespace fusefs::nfs {

// What libnfs drops the connection for: a record beyond it. Replies are asked for with room for
// headers.
constexpr uint32_t kMaxRecord = 1'052'672;
constexpr uint32_t kMaxReplyBytes = 1u << 20;
constexpr size_t kDecoderStack = size_t{32} << 20;

// The calls that are made, by program.
enum class Procedure : uint8_t {
  kPortmapGetport,
  kMountMount,
  kMountExport,
  kNull3,
  kGetattr3,
  kLookup3,
  kAccess3,
  kReadlink3,
  kRead3,
  kReaddir3,
  kReaddirplus3,
  kFsstat3,
  kFsinfo3,
  kCompound4,
};

enum class RpcStatus : uint8_t {
  kAnswered,  // the procedure ran: `result` is its result structure
  kRefused,   // the server refused the call: `text` says why
  kLost,      // the connection broke
};

// `result` lives as long as the function runs.
using RpcReply = std::function<void(RpcStatus status, const void* result, const char* text)>;

enum class Security : uint8_t { kSys, kNone };

class RpcContext {
 public:
  // Takes over a connected, non-blocking socket.
  RpcContext(int socket, Security security);
  ~RpcContext();
  RpcContext(const RpcContext&) = delete;
  RpcContext& operator=(const RpcContext&) = delete;

  // Encodes and queues a call on behalf of `caller`; null: this process itself. `arguments` is the
  // procedure's argument structure, used during the call only. False: no memory, or arguments that
  // can't be encoded; `reply` will not be called.
  bool call(Procedure procedure, const void* arguments, const CallerPtr& caller, RpcReply reply);

  [[nodiscard]] int socket() const { return socket_; }
  // What to poll the socket for.
  [[nodiscard]] short events() const;
  // Does what the events allow. False: the connection is broken; destroy the context.
  bool service(short revents);

 private:
  struct Waiter;
  static void on_reply(rpc_context* rpc, int status, void* data, void* private_data);
  bool authenticate(const CallerPtr& caller);
  int send(Procedure procedure, const void* arguments, Waiter* waiter);
  void drop(Waiter* waiter);

  int socket_;
  const Security security_;
  rpc_context* rpc_;
  Waiter* waiters_ = nullptr;  // a list of those whose reply has not come
  bool destroying_ = false;
  bool authenticated_ = false;
  CallerPtr caller_;  // the one that the context's credentials are of
};

}  // namespace fusefs::nfs
