// MetricsServer: answers GET /metrics over HTTP, for Prometheus (`-o metrics=`).
//
// Purpose:        bound before anything is mounted, so that a port that is taken is an error then;
//                 serves while the mount does.
// Ownership:      its socket, its thread and libmicrohttpd's state; all gone after stop().
// Thread-safety:  made, started and stopped by one thread. `text` runs on the server's.
// Bounds:         a client has ten seconds in all, and one answer; there are 16 at most, a
//                 seventeenth costs the oldest its connection. One thread waits for all of them,
//                 so none holds up another.
// Errors:         one line in `error`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "fusefs/options.h"

namespace fusefs {

class MetricsServer {
 public:
  using Text = std::function<std::string()>;

  // Null: it can't listen there.
  static std::unique_ptr<MetricsServer> listen(const ListenAddress& address, std::string* error);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // The port, also where 0 was asked for.
  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] const std::string& url() const { return url_; }

  // `text` makes the answer, which is to take no time to speak of.
  void start(Text text);
  void stop();

 private:
  class Http;

  MetricsServer(std::unique_ptr<Http> http, const ListenAddress& address, uint16_t port);

  const uint16_t port_;
  const std::string url_;
  std::unique_ptr<Http> http_;
  std::thread thread_;
};

}  // namespace fusefs
