// Sockets to a server: names into addresses, and connections with a deadline.
//
// Thread-safety:  all functions may be called from any thread. resolve() blocks as long as the
//                 system's resolver does.
// Errors:         errnos; resolve() tells in `text` what the resolver says.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/result.h"

namespace fusefs::nfs {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

enum class SourcePort : uint8_t {
  kReserved,  // below 1024 where we may; servers often insist
  kAny,
};

// The addresses of a host, in the system's order of preference.
std::vector<Address> resolve(const std::string& host, uint16_t port, std::string* text);

// A connected, non-blocking socket. `wake` is a descriptor that ends the wait early when it becomes
// readable (EINTR); -1: none.
cache::Result<int> connect_socket(const Address& address, SourcePort source,
                                  cache::TimePoint deadline, int wake);

// Milliseconds for poll(2) until then, at least 0, rounded up.
int poll_timeout(cache::TimePoint until, cache::TimePoint now);

// Runs `body` on a thread with a stack of that size, and waits for it.
void run_on_stack(size_t stack_bytes, const std::function<void()>& body);

}  // namespace fusefs::nfs
