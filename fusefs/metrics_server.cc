#include "fusefs/metrics_server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <list>
#include <string_view>
#include <system_error>
#include <utility>

namespace fusefs {
namespace {

constexpr size_t kMostClients = 16;
constexpr unsigned kAcceptedAtMost = 2 * kMostClients;  // before the oldest have noticed
constexpr size_t kClientBytes = size_t{16} << 10;       // of a request's header
constexpr std::chrono::seconds kClientTime{10};

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress socket_address(const ListenAddress& address) {
  SocketAddress result;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    result.size = sizeof v4;
    std::memcpy(&result.storage, &v4, sizeof v4);
  } else if (inet_pton(AF_INET6, address.host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    result.size = sizeof v6;
    std::memcpy(&result.storage, &v6, sizeof v6);
  }
  return result;
}

std::string shown(const ListenAddress& address, uint16_t port) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(port);
}

std::string explain(const ListenAddress& address, int error_number) {
  const std::string option = "metrics=" + shown(address, address.port) + ": ";
  switch (error_number) {
    case EADDRINUSE:
      return option + "the port is taken; choose another, or 0 for any that is free";
    case EADDRNOTAVAIL:
      return option + "this machine has no such address; try 127.0.0.1";
    case EACCES:
      return option + "ports below 1024 are root's; choose another";
    default:
      return option + "can't listen there: " + std::generic_category().message(error_number);
  }
}

// A socket that listens, and its port; -1 with errno.
int open_listener(const ListenAddress& address, uint16_t* port) {
  SocketAddress to = socket_address(address);
  Fd fd(socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return -1;
  const int on = 1;
  // A port whose last server has just ended is free. Not one that is being served: SO_REUSEPORT
  // would do that.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), to.get(), to.size) != 0 || ::listen(fd.get(), kAcceptedAtMost) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&to.storage), &to.size) != 0) {
    return -1;
  }
  *port = ntohs(to.storage.ss_family == AF_INET
                    ? reinterpret_cast<const sockaddr_in*>(&to.storage)->sin_port
                    : reinterpret_cast<const sockaddr_in6*>(&to.storage)->sin6_port);
  return fd.release();
}

MHD_Result answer(MHD_Connection* connection, unsigned status, std::string_view text,
                  const char* type) {
  // libmicrohttpd does not write to what it copies.
  MHD_Response* const response = MHD_create_response_from_buffer(
      text.size(), const_cast<char*>(text.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
    MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  }
  const MHD_Result result = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return result;
}

constexpr const char* kPlain = "text/plain; charset=utf-8";
constexpr const char* kExposition = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace

// libmicrohttpd's daemon, driven by our thread: so it knows all its clients' ages.
class MetricsServer::Http {
 public:
  ~Http() {
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);  // closes the listener
  }

  // Takes the listener.
  bool open(int listener) {
    Fd owned(listener);
    daemon_ = MHD_start_daemon(MHD_USE_EPOLL, 0, nullptr, nullptr, &Http::respond, this,  //
                               MHD_OPTION_LISTEN_SOCKET, listener,                        //
                               MHD_OPTION_CONNECTION_LIMIT, kAcceptedAtMost,              //
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, kClientBytes,          //
                               MHD_OPTION_NOTIFY_CONNECTION, &Http::note_connection, this,
                               MHD_OPTION_END);
    if (daemon_ == nullptr) return false;
    owned.release();
    return stop_.get() >= 0;
  }

  void run(const Text& text) {
    text_ = &text;
    const int epoll = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    std::array<pollfd, 2> ready = {pollfd{.fd = epoll, .events = POLLIN, .revents = 0},
                                   pollfd{.fd = stop_.get(), .events = POLLIN, .revents = 0}};
    while (true) {
      poll(ready.data(), ready.size(), patience());
      if (ready[1].revents != 0) return;
      MHD_run(daemon_);
      drop_old();
    }
  }

  void wake() { eventfd_write(stop_.get(), 1); }

 private:
  struct Client {
    int fd;
    std::chrono::steady_clock::time_point since;
  };

  static MHD_Result respond(void* self, MHD_Connection* connection, const char* url,
                            const char* method, const char* /*version*/, const char* /*data*/,
                            size_t* /*size*/, void** /*request*/) {
    const std::string_view asked(method);
    if (asked != MHD_HTTP_METHOD_GET && asked != MHD_HTTP_METHOD_HEAD) {
      return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n", kPlain);
    }
    if (std::string_view(url) != "/metrics") {
      return answer(connection, MHD_HTTP_NOT_FOUND, "try /metrics\n", kPlain);
    }
    try {
      return answer(connection, MHD_HTTP_OK, (*static_cast<Http*>(self)->text_)(), kExposition);
    } catch (const std::exception&) {
      return answer(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n", kPlain);
    }
  }

  static void note_connection(void* self, MHD_Connection* connection, void** /*context*/,
                              MHD_ConnectionNotificationCode what) {
    auto& clients = static_cast<Http*>(self)->clients_;
    const int fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
      clients.remove_if([fd](const Client& client) { return client.fd == fd; });
      return;
    }
    clients.push_back({fd, std::chrono::steady_clock::now()});
    if (clients.size() > kMostClients) drop_oldest(clients);
  }

  // libmicrohttpd finds it ended, and closes it. One that has been dropped stays in the list until
  // then, but is dropped once only.
  static void drop_oldest(std::list<Client>& clients) {
    const size_t surplus = clients.size() - kMostClients;
    shutdown(std::next(clients.begin(), static_cast<ptrdiff_t>(surplus) - 1)->fd, SHUT_RDWR);
  }

  void drop_old() {
    const auto oldest = std::chrono::steady_clock::now() - kClientTime;
    for (const Client& client : clients_) {
      if (client.since <= oldest) shutdown(client.fd, SHUT_RDWR);
    }
  }

  // How long nothing needs to be done; milliseconds.
  int patience() {
    constexpr int kMost = 1000;
    MHD_UNSIGNED_LONG_LONG wanted = kMost;
    const bool told = MHD_get_timeout(daemon_, &wanted) == MHD_YES;
    if (told) return static_cast<int>(std::min<MHD_UNSIGNED_LONG_LONG>(wanted, kMost));
    return clients_.empty() ? -1 : kMost;
  }

  MHD_Daemon* daemon_ = nullptr;
  const Fd stop_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  const Text* text_ = nullptr;
  std::list<Client> clients_;  // the oldest first
};

std::unique_ptr<MetricsServer> MetricsServer::listen(const ListenAddress& address,
                                                     std::string* error) {
  uint16_t port = 0;
  const int listener = open_listener(address, &port);
  if (listener < 0) {
    *error = explain(address, errno);
    return nullptr;
  }
  auto http = std::make_unique<Http>();
  if (!http->open(listener)) {
    *error = explain(address, ENOMEM);
    return nullptr;
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(http), address, port));
}

MetricsServer::MetricsServer(std::unique_ptr<Http> http, const ListenAddress& address,
                             uint16_t port)
    : port_(port), url_("http://" + shown(address, port) + "/metrics"), http_(std::move(http)) {}

MetricsServer::~MetricsServer() { stop(); }

void MetricsServer::start(Text text) {
  thread_ = std::thread([this, text = std::move(text)] { http_->run(text); });
}

void MetricsServer::stop() {
  if (thread_.joinable()) {
    http_->wake();
    thread_.join();
  }
  http_.reset();
}

}  // namespace fusefs
