// LyingServer: just enough of an NFS version 3 server to say anything.
//
// Purpose:        a server that breaks its promises, by the byte. Mount, GETATTR, FSINFO, LOOKUP
//                 and ACCESS are answered rightly: there is one directory, the root. What READDIR
//                 and READDIRPLUS answer is the test's, and so is what changes are answered.
// Ownership:      its sockets and its thread, gone with the destructor.
// Thread-safety:  the constructor's functions run on the server's thread; requests() from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "fusefs/backends/nfs/xdr_writer.h"

namespace test {

using fusefs::nfs::XdrWriter;

// One READDIR or READDIRPLUS.
struct ListQuestion {
  uint64_t cookie = 0;
  bool plus = false;
  uint32_t xid = 0;
  uint64_t number = 0;  // of listing requests before it
};

// What goes back: a result to be wrapped as it should be, or a whole record as it stands.
struct Lie {
  enum class Kind : uint8_t { kResult, kRecord, kRaw, kHangUp, kSilence };
  Kind kind = Kind::kResult;
  std::string bytes;
};

class LyingServer {
 public:
  using Answer = std::function<Lie(const ListQuestion& question)>;

  // The result of a procedure that changes something.
  using ChangeAnswer = std::function<std::string(uint32_t procedure)>;

  explicit LyingServer(Answer answer, ChangeAnswer change_answer = nullptr);
  ~LyingServer();
  LyingServer(const LyingServer&) = delete;
  LyingServer& operator=(const LyingServer&) = delete;

  // With these options, or none: "soft,timeo=5".
  [[nodiscard]] std::string url() const;
  [[nodiscard]] uint64_t requests() const { return requests_.load(); }

  // Parts of answers.
  static std::string attributes(uint32_t type, uint64_t fileid);  // a fattr3
  static std::string dir_wcc();                                   // wcc_data of the root
  // status, attributes, verifier: what comes before the first entry.
  static std::string list_header();
  static std::string entry(const std::string& name, uint64_t fileid, uint64_t cookie, bool plus);
  static std::string list_end(bool eof);
  static std::string accepted(uint32_t xid, const std::string& result);  // an RPC reply

 private:
  struct Peer;
  void run();
  bool serve(Peer& peer);
  bool take_record(int fd, const std::string& call);
  Lie answer_call(const std::string& call, uint32_t xid);

  const Answer answer_;
  const ChangeAnswer change_answer_;
  int listener_ = -1;
  int wake_ = -1;
  uint16_t port_ = 0;
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> listings_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace test
