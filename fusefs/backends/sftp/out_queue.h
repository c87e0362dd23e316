// OutQueue: what is to be sent to the server and was not taken by the socket yet.
//
// Purpose:        small requests stand together and go in one call; the bytes of a WRITE are sent
//                 from where they are, never copied: the copy, and the memory that it touched
//                 first, was a tenth of the daemon's time.
// Ownership:      shares the bytes of requests until the socket has taken them.
// Thread-safety:  none; the connection's own thread.
// Errors:         send_to() leaves in the queue what could not be sent, for whatever reason;
//                 whoever reads from the socket learns of its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "fusefs/backends/sftp/codec.h"

namespace fusefs::sftp {

class OutQueue {
 public:
  void add_init();
  void add(const Request& request, uint32_t id);
  void clear();
  [[nodiscard]] bool empty() const { return pieces_.empty(); }
  // As much as the socket takes.
  void send_to(int socket);

 private:
  struct Piece {
    std::string head;  // requests; the last one's bytes follow
    std::shared_ptr<const std::string> bytes;
    size_t from = 0, count = 0;

    [[nodiscard]] std::string_view payload() const {
      return bytes ? std::string_view(*bytes).substr(from, count) : std::string_view();
    }
    [[nodiscard]] size_t size() const { return head.size() + count; }
  };

  std::string& head();

  std::deque<Piece> pieces_;
  size_t sent_ = 0;  // bytes of the first piece
};

}  // namespace fusefs::sftp
