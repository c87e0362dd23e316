#include "tests/nfs/lying_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <list>
#include <stdexcept>
#include <vector>

#include "tests/support/loopback.h"

namespace test {
namespace {

constexpr uint32_t kNfsProgram = 100003;
constexpr uint32_t kMountProgram = 100005;
constexpr uint32_t kDirectory = 2;
constexpr uint32_t kFile = 1;
constexpr uint64_t kRootId = 1;
const std::string kRootHandle = "the root";

// SETATTR, WRITE to LINK, COMMIT.
bool changes(uint32_t procedure) {
  return procedure == 2 || (procedure >= 7 && procedure <= 15) || procedure == 21;
}

uint32_t word_at(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4 && i < bytes.size(); ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

void send_all(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<size_t>(n);
  }
}

void send_record(int fd, const std::string& record) {
  send_all(fd,
           XdrWriter().u32(0x80000000u | static_cast<uint32_t>(record.size())).bytes() + record);
}

}  // namespace

struct LyingServer::Peer {
  int fd = -1;
  std::string received;
};

LyingServer::LyingServer(Answer answer, ChangeAnswer change_answer)
    : answer_(std::move(answer)), change_answer_(std::move(change_answer)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  wake_ = eventfd(0, EFD_CLOEXEC);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  const bool listening =
      bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
      listen(listener_, 64) == 0 &&
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  if (!listening) throw std::runtime_error("can't listen");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

LyingServer::~LyingServer() {
  stopping_ = true;
  eventfd_write(wake_, 1);
  thread_.join();
  close(listener_);
  close(wake_);
}

std::string LyingServer::url() const {
  const std::string port = std::to_string(port_);
  return "nfs://127.0.0.1/lies?nfsport=" + port + "&mountport=" + port + "&nconnect=2";
}

void LyingServer::run() {
  std::list<Peer> peers;
  while (!stopping_) {
    std::vector<pollfd> polled = {{.fd = wake_, .events = POLLIN, .revents = 0},
                                  {.fd = listener_, .events = POLLIN, .revents = 0}};
    for (const Peer& peer : peers)
      polled.push_back({.fd = peer.fd, .events = POLLIN, .revents = 0});
    poll(polled.data(), polled.size(), -1);
    size_t i = 2;
    for (auto peer = peers.begin(); peer != peers.end(); ++i) {
      if (polled[i].revents == 0 || serve(*peer)) {
        ++peer;
        continue;
      }
      close(peer->fd);
      peer = peers.erase(peer);
    }
    if (polled[1].revents != 0) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) peers.push_back({.fd = fd, .received = {}});
    }
  }
  for (const Peer& peer : peers) close(peer.fd);
}

bool LyingServer::serve(Peer& peer) {
  char buffer[65536];
  const ssize_t got = recv(peer.fd, buffer, sizeof buffer, 0);
  if (got <= 0) return false;
  peer.received.append(buffer, static_cast<size_t>(got));
  while (peer.received.size() >= 4) {
    const size_t length = word_at(peer.received, 0) & 0x7fffffffu;
    if (peer.received.size() < 4 + length) break;
    const std::string call = peer.received.substr(4, length);
    peer.received.erase(0, 4 + length);
    if (!take_record(peer.fd, call)) return false;
  }
  return true;
}

bool LyingServer::take_record(int fd, const std::string& call) {
  ++requests_;
  const uint32_t xid = word_at(call, 0);
  const Lie lie = answer_call(call, xid);
  switch (lie.kind) {
    case Lie::Kind::kResult:
      send_record(fd, accepted(xid, lie.bytes));
      return true;
    case Lie::Kind::kRecord:
      send_record(fd, lie.bytes);
      return true;
    case Lie::Kind::kRaw:
      send_all(fd, lie.bytes);
      return true;
    case Lie::Kind::kSilence:
      return true;
    case Lie::Kind::kHangUp:
      return false;
  }
  return false;
}

Lie LyingServer::answer_call(const std::string& call, uint32_t xid) {
  const uint32_t program = word_at(call, 12);
  const uint32_t procedure = word_at(call, 20);
  size_t at = 24;
  for (int opaque = 0; opaque < 2; ++opaque) at += 8 + (word_at(call, at + 4) + 3) / 4 * 4;
  const std::string root = attributes(kDirectory, kRootId);
  XdrWriter out;
  if (program == kMountProgram) {
    if (procedure == 1) out.u32(0).opaque(kRootHandle).u32(1).u32(1);
    return {.kind = Lie::Kind::kResult, .bytes = out.bytes()};
  }
  if (program != kNfsProgram) return {.kind = Lie::Kind::kHangUp, .bytes = {}};
  switch (procedure) {
    case 1:  // GETATTR
      return {.kind = Lie::Kind::kResult, .bytes = out.u32(0).raw(root).bytes()};
    case 3:  // LOOKUP: nothing is there
      return {.kind = Lie::Kind::kResult, .bytes = out.u32(2).u32(0).bytes()};
    case 16:    // READDIR
    case 17: {  // READDIRPLUS
      at += 4 + (word_at(call, at) + 3) / 4 * 4;
      const uint64_t cookie = uint64_t{word_at(call, at)} << 32 | word_at(call, at + 4);
      return answer_(
          {.cookie = cookie, .plus = procedure == 17, .xid = xid, .number = listings_++});
    }
    case 19:  // FSINFO
      out.u32(0).u32(0).u32(65536).u32(65536).u32(1).u32(65536).u32(65536).u32(1).u32(65536);
      out.u64(1u << 30).u32(0).u32(1).u32(0);
      return {.kind = Lie::Kind::kResult, .bytes = out.bytes()};
    default:
      if (change_answer_ && changes(procedure)) {
        return {.kind = Lie::Kind::kResult, .bytes = change_answer_(procedure)};
      }
      return {.kind = Lie::Kind::kResult, .bytes = out.u32(10004).u32(0).bytes()};
  }
}

std::string LyingServer::attributes(uint32_t type, uint64_t fileid) {
  XdrWriter out;
  out.u32(type).u32(type == kDirectory ? 0755 : 0644).u32(1).u32(0).u32(0).u64(10).u64(4096);
  out.u32(0).u32(0).u64(7).u64(fileid);
  for (int time = 0; time < 3; ++time) out.u32(1000000000).u32(5);
  return out.bytes();
}

std::string LyingServer::dir_wcc() {
  XdrWriter out;
  out.u32(1).u64(10).u32(1000000000).u32(5).u32(1000000000).u32(5);
  return out.u32(1).raw(attributes(kDirectory, kRootId)).bytes();
}

std::string LyingServer::list_header() {
  return XdrWriter().u32(0).u32(1).raw(attributes(kDirectory, kRootId)).u64(77).bytes();
}

std::string LyingServer::entry(const std::string& name, uint64_t fileid, uint64_t cookie,
                               bool plus) {
  XdrWriter out;
  out.u32(1).u64(fileid).opaque(name).u64(cookie);
  if (plus) {
    out.u32(1).raw(attributes(kFile, fileid)).u32(1).opaque("handle " + std::to_string(fileid));
  }
  return out.bytes();
}

std::string LyingServer::list_end(bool eof) { return XdrWriter().u32(0).u32(eof ? 1 : 0).bytes(); }

std::string LyingServer::accepted(uint32_t xid, const std::string& result) {
  return XdrWriter().u32(xid).u32(1).u32(0).u32(0).u32(0).u32(0).raw(result).bytes();
}

}  // namespace test
