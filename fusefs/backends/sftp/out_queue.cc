#include "fusefs/backends/sftp/out_queue.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <initializer_list>

namespace fusefs::sftp {
namespace {

constexpr size_t kMostParts = 64;               // a call
constexpr size_t kFullHead = size_t{16} << 10;  // bytes

}  // namespace

// Where the next request goes: behind the last one, unless that one's bytes come first.
std::string& OutQueue::head() {
  if (pieces_.empty() || pieces_.back().count > 0 || pieces_.back().head.size() >= kFullHead) {
    pieces_.emplace_back();
  }
  return pieces_.back().head;
}

void OutQueue::add_init() { append_init(&head()); }

void OutQueue::add(const Request& request, uint32_t id) {
  append_head(request, id, &head());
  if (request.count == 0) return;
  Piece& piece = pieces_.back();
  piece.bytes = request.bytes;
  piece.from = request.from;
  piece.count = request.count;
}

void OutQueue::clear() {
  pieces_.clear();
  sent_ = 0;
}

void OutQueue::send_to(int socket) {
  while (!pieces_.empty()) {
    std::array<iovec, kMostParts> parts;
    size_t count = 0;
    size_t skip = sent_;
    for (const Piece& piece : pieces_) {
      if (count + 2 > parts.size()) break;
      for (std::string_view part : {std::string_view(piece.head), piece.payload()}) {
        const size_t skipped = std::min(skip, part.size());
        skip -= skipped;
        part.remove_prefix(skipped);
        if (!part.empty()) parts[count++] = {const_cast<char*>(part.data()), part.size()};
      }
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return;  // full, or closed
    sent_ += static_cast<size_t>(sent);
    while (!pieces_.empty() && sent_ >= pieces_.front().size()) {
      sent_ -= pieces_.front().size();
      pieces_.pop_front();
    }
  }
}

}  // namespace fusefs::sftp
