#include "fusefs/backends/sftp/sftp_client.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "cache/base/clock.h"

namespace fusefs::sftp {
namespace {

using cache::MutexLock;
using cache::steady_now;
using cache::TimePoint;

constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kMaxSaid = 30;  // lines
constexpr auto kRelaxed = std::memory_order_relaxed;

// Of a line that ssh prints around the news, such as the frame of '@'.
bool is_decoration(const std::string& line) {
  return line.find_first_not_of("@ ") == std::string::npos || line.starts_with("Warning: ") ||
         line.starts_with("** ");
}

bool opens_handle(PacketType type) {
  return type == PacketType::kOpen || type == PacketType::kOpendir;
}

}  // namespace

SftpClient::SftpClient(std::vector<std::string> words, std::string shown)
    : words_(std::move(words)),
      shown_(std::move(shown)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CACHE_CHECK(wake_ >= 0);
}

SftpClient::~SftpClient() {
  stop();
  ::close(wake_);
}

Status SftpClient::connect(std::string* words) {
  CACHE_CHECK(!thread_.joinable());
  thread_ = std::thread([this] { run(); });
  MutexLock lock(mutex_);
  const TimePoint deadline = steady_now() + kFirstConnection + SshChild::kPatience;
  while (!first_over_ && first_.wait_until(mutex_, deadline)) {
  }
  if (first_over_ && first_failure_.empty()) return {};
  *words = first_over_ ? first_failure_ : "no answer";
  return Status::error(ENOTCONN);
}

void SftpClient::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake();
  }
  if (thread_.joinable()) thread_.join();
}

void SftpClient::post(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (stopping_) return;
  posts_.push_back(std::move(job));
  if (posts_.size() == 1) wake();
}

// Full means that it is awake anyway.
void SftpClient::wake() {
  const uint64_t one = 1;
  if (::write(wake_, &one, sizeof one) < 0) CACHE_CHECK(errno == EAGAIN);
}

// ---- The turn -----------------------------------------------------------------------------------

void SftpClient::run_or_post(std::function<void()> job) {
  if (!borrow_turn()) return post(std::move(job));
  const TimePoint tick = next_tick_;
  job();
  flush();
  // The loop waits for something else now.
  const bool changed = !out_.empty() || next_tick_ < tick;
  return_turn();
  if (changed) wake();
}

bool SftpClient::borrow_turn() {
  Turn free = Turn::kFree;
  if (!turn_.compare_exchange_strong(free, Turn::kLent, std::memory_order_acquire, kRelaxed)) {
    return false;
  }
  {
    MutexLock lock(mutex_);
    if (!stopping_ && posts_.empty()) return true;
  }
  return_turn();
  return false;
}

void SftpClient::return_turn() {
  turn_.store(Turn::kFree, std::memory_order_release);
  turn_.notify_one();
}

void SftpClient::take_turn_back() {
  Turn free = Turn::kFree;
  while (!turn_.compare_exchange_strong(free, Turn::kLoop, std::memory_order_acquire, kRelaxed)) {
    turn_.wait(Turn::kLent, std::memory_order_acquire);
    free = Turn::kFree;
  }
}

BackendCounters SftpClient::counters() const {
  BackendCounters counters;
  counters.requests = requests_.load(kRelaxed);
  counters.inflight = inflight_.load(kRelaxed);
  counters.inflight_peak = inflight_peak_.load(kRelaxed);
  counters.errors = errors_.load(kRelaxed);
  return counters;
}

// ---- The loop -----------------------------------------------------------------------------------

void SftpClient::run() {
  // The daemon's signals are for its other threads.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), "sftp");
  start_child(steady_now());
  while (run_posts()) {
    const TimePoint until = after_batch_ ? after_batch_() : TimePoint::max();
    flush();
    wait_for_events(std::min(until, next_tick_));
    const TimePoint time = steady_now();
    if (time >= next_tick_) tick(time);
  }
  child_.end();
  // Whatever completions hold goes now, on this thread, with no lock held.
  pending_.clear();
  wire_ids_.clear();
  waiting_.clear();
  std::deque<std::function<void()>> dropped;
  MutexLock lock(mutex_);
  dropped.swap(posts_);
}

// False: it is to end.
bool SftpClient::run_posts() {
  // Jobs may post: theirs run in the next round, after what has arrived meanwhile.
  std::deque<std::function<void()>> jobs;
  {
    MutexLock lock(mutex_);
    if (stopping_) return false;
    jobs.swap(posts_);
  }
  for (const auto& job : jobs) job();
  return true;
}

void SftpClient::wait_for_events(TimePoint until) {
  std::array<pollfd, 4> events{};
  events[0] = {.fd = wake_, .events = POLLIN, .revents = 0};
  const auto socket_events = static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT);
  events[1] = {.fd = child_.socket(), .events = socket_events, .revents = 0};
  events[2] = {.fd = child_.messages(), .events = POLLIN, .revents = 0};
  events[3] = {.fd = child_.pidfd(), .events = POLLIN, .revents = 0};
  cache::Duration left{0};
  {
    MutexLock lock(mutex_);
    if (posts_.empty() && !stopping_)
      left = std::clamp<cache::Duration>(until - steady_now(), left, kTick);
  }
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  const timespec patience = {.tv_sec = 0, .tv_nsec = static_cast<long>(nanoseconds)};
  turn_.store(Turn::kFree, std::memory_order_release);
  const int ready = ::ppoll(events.data(), events.size(), &patience, nullptr);
  take_turn_back();
  if (ready <= 0) return;
  uint64_t ignored = 0;
  if (events[0].revents != 0 && ::read(wake_, &ignored, sizeof ignored) < 0) {
    CACHE_CHECK(errno == EAGAIN);
  }
  // Its last words come before the news of its end.
  if (events[2].revents != 0) take_messages();
  if (events[1].revents != 0 && child_.running()) on_socket_readable();
  if (events[3].revents != 0 && child_.running()) lose("it closed the connection");
}

// One read a round: what it brought is put to use before the next.
void SftpClient::on_socket_readable() {
  ssize_t got;
  do {
    got = ::recv(child_.socket(), cutter_.room(kReadBytes), kReadBytes, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return lose("it closed the connection");
  cutter_.added(static_cast<size_t>(got));
  heard_at_ = steady_now();
  take_packets();
}

void SftpClient::take_packets() {
  std::string_view packet;
  for (;;) {
    switch (cutter_.next(&packet)) {
      case PacketCutter::Next::kIncomplete:
        return;
      case PacketCutter::Next::kBad:
        return lose("what it sends is not SFTP (a shell's start-up file that prints?)", true);
      case PacketCutter::Next::kPacket:
        break;
    }
    take_packet(packet);
    if (state_ == State::kDown) return;
  }
}

void SftpClient::take_packet(std::string_view packet) {
  if (state_ == State::kStarting) return on_version(packet);
  const std::optional<Reply> reply = parse_reply(packet);
  const auto found = reply ? pending_.find(reply->id) : pending_.end();
  if (found == pending_.end()) {
    return lose(reply ? "it answered what nobody had asked" : "it sent what is no answer", true);
  }
  Pending pending = std::move(found->second);
  pending_.erase(found);
  wire_ids_.erase(pending.key);
  unanswered_ -= pending.request.count;
  note_inflight();
  Answer answer{.error = 0, .type = reply->type, .body = reply->body, .latency = {}};
  answer.latency = heard_at_ - pending.sent;
  if (least_latency_ == cache::Duration{} || answer.latency < least_latency_) {
    least_latency_ = answer.latency;
  }
  if (pending.done) {
    pending.done(answer);
  } else {
    close_late_handle(pending, *reply);
  }
}

void SftpClient::close_late_handle(const Pending& pending, const Reply& reply) {
  if (!opens_handle(pending.request.type) || reply.type != PacketType::kHandle) return;
  const auto handle = parse_handle(reply.body);
  if (handle) submit(close_request(*handle), connection_, [](const Answer&) {});
}

void SftpClient::on_version(std::string_view packet) {
  const std::optional<ServerVersion> told = parse_version(packet);
  if (!told || told->version < kProtocolVersion) {
    return lose(told ? "its SFTP is older than version 3" : "what it sends is not SFTP", true);
  }
  state_ = State::kUp;
  ++connection_;
  if (std::exchange(outage_told_, false)) spdlog::info("{}: connected again", shown_);
  extensions_ = told->extensions;
  // Before all else: who opens a file knows them then.
  if (extensions_.limits) ask_limits();
  if (first_connection_) end_first_connection({});
  send_waiting();
}

void SftpClient::ask_limits() {
  submit(limits_request(), connection_, [this](const Answer& answer) {
    const bool told = answer.error == 0 && answer.type == PacketType::kExtendedReply;
    const auto limits = told ? parse_limits(answer.body) : std::nullopt;
    if (!limits) return;
    read_length_ = length_within(limits->read);
    write_length_ = length_within(limits->write);
  });
}

uint32_t SftpClient::length_within(uint64_t told) {
  if (told == 0) return kUsualLength;
  return static_cast<uint32_t>(std::clamp<uint64_t>(told, kLeastLength, kMostLength));
}

void SftpClient::take_messages() {
  if (child_.messages() < 0) return;
  std::vector<std::string> lines;
  child_.read_messages(&lines);
  for (std::string& line : lines) {
    // Answers to what was asked on the terminal ('try again') belong there too.
    if (first_connection_ && ::isatty(STDERR_FILENO) == 1)
      std::fprintf(stderr, "%s\n", line.c_str());
    if (!first_connection_) spdlog::warn("{}: {}", shown_, line);
    said_.push_back(std::move(line));
    if (said_.size() > kMaxSaid) said_.pop_front();
  }
}

// ---- Ups and downs ------------------------------------------------------------------------------

void SftpClient::start_child(TimePoint time) {
  started_at_ = heard_at_ = time;
  said_.clear();
  cutter_.clear();
  least_latency_ = {};
  extensions_ = {};
  read_length_ = write_length_ = kUsualLength;
  const auto terminal = first_connection_ ? SshChild::Terminal::kKeep : SshChild::Terminal::kNone;
  const Status started = child_.start(words_, terminal);
  if (!started.ok()) {
    return lose(std::string("it can't be started: ") + ::strerrordesc_np(started.error_number()));
  }
  state_ = State::kStarting;
  out_.add_init();
}

void SftpClient::lose(const std::string& why, bool nonsense) {
  take_messages();
  const std::string text = failure_text(why);
  const bool was_up = state_ == State::kUp;
  state_ = State::kDown;
  child_.end();
  out_.clear();
  errors_.fetch_add(1, kRelaxed);
  // A connection that has worked is tried again at once.
  back_off_ = was_up && !nonsense ? std::chrono::milliseconds(0)
                                  : std::clamp(back_off_ * 2, kFirstBackOff, kMaxBackOff);
  retry_at_ = steady_now() + back_off_;
  if (first_connection_) return end_first_connection(text);
  if (!std::exchange(outage_told_, true)) spdlog::warn("{}: connection lost: {}", shown_, text);

  settle_lost(nonsense);
}

// What was under way is sent again with the next connection, or is lost. Whoever hears of a loss
// may cancel others.
void SftpClient::settle_lost(bool nonsense) {
  for (auto& [id, pending] : pending_) {
    if (pending.done) settling_.push_back(std::move(pending));
  }
  pending_.clear();
  wire_ids_.clear();
  unanswered_ = 0;
  note_inflight();
  std::sort(settling_.begin(), settling_.end(),
            [](const Pending& a, const Pending& b) { return a.key < b.key; });
  std::deque<Pending> again;
  while (!settling_.empty()) {
    Pending pending = std::move(settling_.front());
    settling_.pop_front();
    ++pending.lost;
    if (nonsense) ++pending.nonsense;
    if (pending.nonsense >= kMaxNonsense) {
      finish(std::move(pending), EPROTO);
    } else if (pending.connection != kAnyConnection || pending.lost >= kMaxLost) {
      finish(std::move(pending), nonsense ? EBADMSG : ECONNRESET);
    } else {
      again.push_back(std::move(pending));
    }
  }
  waiting_.insert(waiting_.begin(), std::make_move_iterator(again.begin()),
                  std::make_move_iterator(again.end()));
}

void SftpClient::end_first_connection(const std::string& failure) {
  first_connection_ = false;
  MutexLock lock(mutex_);
  first_over_ = true;
  first_failure_ = failure;
  first_.notify_all();
}

// What ssh said in the end, with the place of a key that offends; else what we saw.
std::string SftpClient::failure_text(const std::string& why) const {
  std::string text;
  for (const std::string& line : said_) {
    const bool last = &line == &said_.back();
    if (is_decoration(line) || (!last && !line.starts_with("Offending "))) continue;
    text.append(text.empty() ? "" : "; ").append(line);
  }
  return text.empty() ? why : text;
}

void SftpClient::tick(TimePoint time) {
  next_tick_ = time + kTick;
  const bool starting = state_ == State::kStarting;
  if (starting && time - started_at_ > (first_connection_ ? kFirstConnection : kNextConnection)) {
    lose("no answer");
  }
  if (state_ == State::kUp) watch_silence(time);
  give_up_late(time);
  if (state_ == State::kUp && !waiting_.empty()) send_waiting();  // stale ones
  if (state_ == State::kDown && !waiting_.empty() && time >= retry_at_) start_child(time);
  if (on_tick_) on_tick_(time);
}

void SftpClient::watch_silence(TimePoint time) {
  std::chrono::seconds silence = kSilence;
  bool asked_long_ago = false;
  for (const auto& [id, pending] : pending_) {
    if (pending.request.slow) silence = kSilenceWhenSlow;
    asked_long_ago |= time - pending.sent > kSilence;
  }
  silence = std::max(silence, std::min(kSilence + time_to_send(), kSilenceWhenSlow));
  if (asked_long_ago && time - heard_at_ > silence) {
    lose("no sign of life for " + std::to_string(silence.count()) + " s");
  }
}

// How long what was sent and not answered may be on its way.
std::chrono::seconds SftpClient::time_to_send() const {
  return std::chrono::seconds(unanswered_ / kSlowestLine);
}

void SftpClient::give_up_late(TimePoint time) {
  for (auto& [id, pending] : pending_) {
    // The entry stays: its number may still be answered.
    if (!pending.done || time < pending.deadline) continue;
    Pending& late = settling_.emplace_back();
    late.key = pending.key;
    late.done = std::exchange(pending.done, nullptr);
  }
  const auto waits = [&](const Pending& pending) { return time < pending.deadline; };
  const auto split = std::stable_partition(waiting_.begin(), waiting_.end(), waits);
  settling_.insert(settling_.end(), std::make_move_iterator(split),
                   std::make_move_iterator(waiting_.end()));
  waiting_.erase(split, waiting_.end());
  while (!settling_.empty()) {
    Pending late = std::move(settling_.front());
    settling_.pop_front();
    finish(std::move(late), ETIMEDOUT);
  }
}

void SftpClient::finish(Pending&& pending, int error) {
  errors_.fetch_add(1, kRelaxed);
  if (pending.done) pending.done({.error = error, .type = {}, .body = {}, .latency = {}});
}

// ---- Requests -----------------------------------------------------------------------------------

SftpClient::RequestKey SftpClient::submit(Request request, uint64_t connection, Done done) {
  Pending pending;
  pending.key = ++last_key_;
  pending.request = std::move(request);
  pending.connection = connection;
  pending.done = std::move(done);
  pending.deadline = steady_now() + kRequestPatience + time_to_send();
  const RequestKey key = pending.key;
  const bool stale =
      connection != kAnyConnection && connection != kOneConnection && connection != connection_;
  if (state_ == State::kUp && !stale) {
    send(std::move(pending));
  } else {
    waiting_.push_back(std::move(pending));
    const TimePoint time = steady_now();
    // The tick fails it, or starts the child.
    if (stale || (state_ == State::kDown && time >= retry_at_)) next_tick_ = time;
  }
  return key;
}

void SftpClient::cancel(RequestKey key) {
  if (const auto sent = wire_ids_.find(key); sent != wire_ids_.end()) {
    pending_.at(sent->second).done = nullptr;
  }
  const auto is_it = [&](const Pending& pending) { return pending.key == key; };
  std::erase_if(waiting_, is_it);
  std::erase_if(settling_, is_it);
}

void SftpClient::send(Pending&& pending) {
  do {
    ++last_wire_id_;
  } while (pending_.count(last_wire_id_) != 0);
  out_.add(pending.request, last_wire_id_);
  pending.sent = steady_now();
  unanswered_ += pending.request.count;
  wire_ids_.emplace(pending.key, last_wire_id_);
  pending_.emplace(last_wire_id_, std::move(pending));
  requests_.fetch_add(1, kRelaxed);
  note_inflight();
}

void SftpClient::send_waiting() {
  settling_.swap(waiting_);
  while (!settling_.empty()) {
    Pending pending = std::move(settling_.front());
    settling_.pop_front();
    const bool any = pending.connection == kAnyConnection || pending.connection == kOneConnection;
    if (!any && pending.connection != connection_) {
      finish(std::move(pending), ECONNRESET);  // its handle went with the last connection
    } else {
      send(std::move(pending));
    }
  }
}

void SftpClient::flush() {
  if (child_.socket() >= 0) out_.send_to(child_.socket());
}

void SftpClient::note_inflight() {
  const uint64_t count = pending_.size();
  inflight_.store(count, kRelaxed);
  if (count > inflight_peak_.load(kRelaxed)) inflight_peak_.store(count, kRelaxed);
}

}  // namespace fusefs::sftp
