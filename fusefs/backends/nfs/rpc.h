// RpcContext: one RPC connection, as libnfs' raw interface has it. The only file that calls
// libnfs' contexts; the protocols' structures (nfsc/libnfs-raw-*.h) are used by the codecs, too.
//
// Purpose:        hides what differs between libnfs' versions (6 renames *_async to *_task) and
//                 what it does badly: reconnecting (a broken connection is thrown away), which
//                 calls it forgets, and reading where a server's lengths lead it. So the server's
//                 socket stays here; libnfs has one end of a pair of sockets, by which it gets
//                 replies that were checked (reply_check.h):
//                   server <- outgoing_ <- pair <- libnfs   calls; their numbers are noted
//                   server -> record_ -> check -> pair -> libnfs   replies
//                 Listings of version 3 go from record_ to whoever asked, as they came: libnfs
//                 takes a dozen allocations an entry, and the next request of a listing waits for
//                 the last cookie of this one. libnfs is told that these calls failed.
//                 Calls that change something (call_raw()) libnfs never sees: who makes them writes
//                 and reads their bytes, so that what is written is not copied once more, and no
//                 answer's lengths need to be believed.
// Ownership:      owns the sockets and libnfs' context. A reply function is called at most once,
//                 from service(), and never after the context is destroyed: whoever waits keeps a
//                 list.
// Thread-safety:  none: libnfs 4.0 has no locks. One thread makes, uses and destroys a context. It
//                 needs kDecoderStack: libnfs decodes version 4's listings by recursion, up to 260
//                 bytes of stack an entry, and an entry may be 24 bytes of a record of up to
//                 kMaxRecord.
// Errors:         RpcStatus with every reply; service() is false once the connection is of no use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

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

// A procedure of the NFS program, by its numbers.
struct RawProcedure {
  uint32_t version = 3;
  uint32_t number = 0;
};

// `result` lives as long as the function runs. Of kReaddir3, kReaddirplus3 and raw calls it is a
// std::string_view of the results' bytes, unchecked.
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
  // The same with arguments that are encoded already.
  bool call_raw(RawProcedure procedure, std::string_view arguments, const CallerPtr& caller,
                RpcReply reply);

  [[nodiscard]] int socket() const { return socket_; }
  // What to poll the socket for.
  [[nodiscard]] short events() const;
  // Bytes of calls that the socket has not taken yet.
  [[nodiscard]] size_t unsent() const { return outgoing_.size() - sent_; }
  // Does what the events allow. False: the connection is broken; destroy the context.
  bool service(short revents);

 private:
  struct Waiter;
  struct Asked {
    Procedure procedure = Procedure::kNull3;
    Waiter* waiter = nullptr;
  };
  enum class Progress : uint8_t { kSome, kNone, kBroken };

  bool take_calls();
  bool note_calls();
  bool send_outgoing();
  bool receive();
  Progress receive_some();
  bool take_record();
  bool take_listing(const Asked& asked, uint32_t xid, std::string_view record);
  bool take_raw(Waiter* waiter, std::string_view record);
  Waiter* new_waiter(RpcReply reply);
  [[nodiscard]] std::string credentials(const CallerPtr& caller) const;
  bool give_to_libnfs(std::string_view record);
  static void on_reply(rpc_context* rpc, int status, void* data, void* private_data);
  bool authenticate(const CallerPtr& caller);
  int send_call(Procedure procedure, const void* arguments, Waiter* waiter);
  void drop(Waiter* waiter);

  const int socket_;
  int pair_ = -1;  // our end
  int pair_of_libnfs_ = -1;
  const Security security_;
  rpc_context* rpc_;
  Waiter* waiters_ = nullptr;  // a list of those whose reply has not come
  bool destroying_ = false;
  bool broken_ = false;  // what was queued can't be told apart
  bool authenticated_ = false;
  CallerPtr caller_;  // the one that the context's credentials are of

  std::string outgoing_;       // calls, with their marks
  size_t noted_ = 0;           // of it: calls whose numbers are in asked_
  size_t sent_ = 0;            // of it
  Waiter* calling_ = nullptr;  // whose call is being encoded
  std::unordered_map<uint32_t, Asked> asked_;
  uint32_t raw_xid_;    // of the last raw call
  std::string mark_;    // of the fragment that is coming, up to 4 bytes
  size_t missing_ = 0;  // of that fragment
  bool last_ = false;   // ... ends the record
  std::string record_;
};

}  // namespace fusefs::nfs
