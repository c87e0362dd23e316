#include "fusefs/backends/nfs/nfs_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>

#include "cache/base/clock.h"

namespace fusefs::nfs {

using cache::steady_now;
using cache::TimePoint;

namespace {

constexpr std::chrono::milliseconds kLookAround(250);  // how often an idle connection does

int make_wake_fd() {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "no eventfd");
  return fd;
}

// Which errno a refusal of the RPC layer is.
int refusal_error(std::string_view text) {
  const bool credentials = text.find("auth") != std::string_view::npos ||
                           text.find("AUTH") != std::string_view::npos ||
                           text.find("cred") != std::string_view::npos;
  return credentials ? EACCES : EIO;
}

}  // namespace

Connection::Connection(Client& client, size_t number)
    : client_(client),
      number_(number),
      wake_fd_(make_wake_fd()),
      random_(static_cast<uint32_t>(std::random_device()())) {}

Connection::~Connection() {
  thread_.reset();  // joins
  rpc_.reset();
  close(wake_fd_);
}

void Connection::start() {
  thread_ = std::make_unique<Thread>(kDecoderStack, [this] { run(); });
}

void Connection::wake() {
  const uint64_t one = 1;
  // A full counter has woken already.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

void Connection::drain_wake() const {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake_fd_, &count, sizeof count);
}

void Connection::sleep_until(TimePoint until) {
  while (!client_.stopping()) {
    const TimePoint now = steady_now();
    if (now >= until) return;
    pollfd polled = {.fd = wake_fd_, .events = POLLIN, .revents = 0};
    if (poll(&polled, 1, poll_timeout(until, now)) > 0) drain_wake();
  }
}

void Connection::run() {
  while (!client_.stopping()) {
    if (rpc_ == nullptr && !reconnect()) continue;
    serve();
  }
  rpc_.reset();
  sent_.clear();
}

void Connection::back_off() {
  const auto longest = std::min<std::chrono::milliseconds>(
      kFirstBackOff * (int64_t{1} << std::min(failures_, 10u)), kLongestBackOff);
  ++failures_;
  std::uniform_int_distribution<int64_t> chance(longest.count() * 3 / 4, longest.count());
  next_attempt_ = steady_now() + std::chrono::milliseconds(chance(random_));
}

bool Connection::reconnect() {
  sleep_until(next_attempt_);
  if (client_.stopping()) return false;
  const ClientOptions& options = client_.options();
  // Names are asked for again when no known address has worked: servers move.
  if (addresses_.empty() || (next_address_ > 0 && next_address_ % addresses_.size() == 0)) {
    std::string text;
    std::vector<Address> found = resolve(options.host, options.port, &text);
    if (!found.empty()) addresses_ = std::move(found);
  }
  if (addresses_.empty()) {
    back_off();
    client_.disconnected(number_, EHOSTUNREACH);
    return false;
  }
  const Address& address = addresses_[next_address_ % addresses_.size()];
  const auto deadline = steady_now() + std::min<cache::Duration>(kConnectDeadline, options.timeo);
  const auto socket = connect_socket(address, options.source, deadline, wake_fd_);
  if (!socket.ok()) {
    drain_wake();
    if (socket.error_number() == EINTR) return false;
    ++next_address_;
    back_off();
    client_.disconnected(number_, socket.error_number());
    return false;
  }
  rpc_ = std::make_unique<RpcContext>(socket.value(), options.security);
  answered_ = false;
  client_.connected(number_);
  return true;
}

void Connection::go_down(int error) {
  rpc_.reset();  // no reply comes from here on
  std::vector<Sent> lost;
  lost.reserve(sent_.size());
  for (auto& [key, sent] : sent_) lost.push_back(std::move(sent));
  sent_.clear();
  std::sort(lost.begin(), lost.end(), [](const Sent& a, const Sent& b) { return a.when < b.when; });
  std::vector<CallPtr> calls;
  calls.reserve(lost.size());
  for (Sent& sent : lost) calls.push_back(std::move(sent.call));
  if (answered_) failures_ = 0;
  back_off();
  client_.disconnected(number_, error);
  client_.requeue(calls, number_);
}

void Connection::send_queued() {
  // A few at a time: while large writes wait for the line, other connections may have more room.
  constexpr size_t kStep = 8;
  while (sent_.size() < Client::kWindow && rpc_->unsent() < kMaxUnsent) {
    std::vector<CallPtr> calls =
        client_.take_queued(std::min(kStep, Client::kWindow - sent_.size()), number_);
    if (calls.empty()) return;
    send_calls(calls);
  }
}

void Connection::send_calls(std::vector<CallPtr>& calls) {
  for (CallPtr& call : calls) {
    bool queued = false;
    try {
      queued =
          call->send(*rpc_, [this, call](RpcStatus status, const void* result, const char* text) {
            on_reply(call, status, result, text);
          });
    } catch (const std::bad_alloc&) {
      queued = false;
    }
    if (queued) {
      const Call* const key = call.get();
      sent_[key] = {.call = std::move(call), .when = steady_now()};
    } else {
      client_.answered(call, ENOMEM, number_);
    }
  }
}

void Connection::on_reply(const CallPtr& call, RpcStatus status, const void* result,
                          const char* text) {
  if (status == RpcStatus::kLost) return;  // go_down() has it
  const auto found = sent_.find(call.get());
  if (found == sent_.end()) return;
  const auto took = steady_now() - found->second.when;
  sent_.erase(found);
  answered_ = true;
  failures_ = 0;
  if (call->weight() == Call::Weight::kLight) client_.note_round_trip(took);
  int outcome = EIO;
  if (status == RpcStatus::kAnswered) {
    try {
      outcome = call->take(result);
    } catch (const std::bad_alloc&) {
      outcome = ENOMEM;
    }
  } else {
    outcome = refusal_error(text);
    spdlog::debug("nfs: server {} refused a call: {}", client_.options().host, text);
  }
  client_.answered(call, outcome, number_);
}

bool Connection::stalled(TimePoint now) const {
  if (sent_.empty()) return false;
  const TimePoint oldest =
      std::min_element(sent_.begin(), sent_.end(), [](const auto& a, const auto& b) {
        return a.second.when < b.second.when;
      })->second.when;
  const auto timeo = client_.options().timeo;
  if (now - oldest < timeo) return false;
  if (now - oldest >= kPatience * timeo) return true;
  // A slow line may take longer than timeo for one large answer, as long as something comes.
  tcp_info info{};
  socklen_t length = sizeof info;
  if (getsockopt(rpc_->socket(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return true;
  return std::chrono::milliseconds(info.tcpi_last_data_recv) >= timeo;
}

void Connection::serve() {
  send_queued();
  std::array<pollfd, 2> polled = {
      pollfd{.fd = rpc_->socket(), .events = rpc_->events(), .revents = 0},
      pollfd{.fd = wake_fd_, .events = POLLIN, .revents = 0}};
  const int ready = poll(polled.data(), polled.size(), static_cast<int>(kLookAround.count()));
  if (client_.stopping()) return;
  if (ready > 0 && polled[1].revents != 0) drain_wake();
  if (!rpc_->service(ready > 0 ? polled[0].revents : short{0})) return go_down(ECONNRESET);
  if (stalled(steady_now())) go_down(ETIMEDOUT);
}

}  // namespace fusefs::nfs
