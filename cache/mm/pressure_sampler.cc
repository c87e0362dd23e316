#include "cache/mm/pressure_sampler.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cache/base/check.h"

namespace cache {
namespace {

using Version = MemoryCgroup::Version;

constexpr size_t kMaxFile = 1 << 20;  // mountinfo of a busy host is the longest

// From none to some: no growth is seen; a counter that went back (another cgroup) has not grown.
uint64_t growth(const std::optional<uint64_t>& before, const std::optional<uint64_t>& now) {
  if (!before.has_value() || !now.has_value() || *now < *before) return 0;
  return *now - *before;
}

bool write_text(int fd, const std::string& text) {
  // PSI wants the terminating zero to be sent along.
  return ::write(fd, text.c_str(), text.size() + 1) == static_cast<ssize_t>(text.size() + 1);
}

}  // namespace

SystemPressureSampler::SystemPressureSampler(const Clock& clock, std::string root)
    : clock_(clock), root_(std::move(root)), wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CACHE_CHECK(wake_fd_ >= 0);
  follow_cgroup();
  last_ = read_totals();
}

SystemPressureSampler::~SystemPressureSampler() {
  close_sources();
  ::close(wake_fd_);
}

std::string SystemPressureSampler::read_file(const std::string& path) const {
  const int fd = ::open((root_ + path).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string text;
  char buffer[4096];
  while (text.size() < kMaxFile) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  ::close(fd);
  return text;
}

void SystemPressureSampler::follow_cgroup() {
  std::string text = read_file("/proc/self/cgroup");
  if (text == cgroup_text_) return;
  cgroup_text_ = std::move(text);
  cgroup_ = find_memory_cgroup(cgroup_text_, read_file("/proc/self/mountinfo"));
  last_ = Totals();
  if (root_.empty()) listen_anew();
}

std::optional<MemoryRoom> SystemPressureSampler::group_room(const std::string& directory) const {
  const bool v2 = cgroup_->version == Version::kV2;
  auto limit = parse_bytes(read_file(directory + (v2 ? "/memory.max" : "/memory.limit_in_bytes")));
  if (v2) {
    const auto high = parse_bytes(read_file(directory + "/memory.high"));
    if (high.has_value()) limit = std::min(limit.value_or(*high), *high);
  }
  if (limit.value_or(0) == 0) return std::nullopt;
  const auto usage =
      parse_bytes(read_file(directory + (v2 ? "/memory.current" : "/memory.usage_in_bytes")));
  if (!usage.has_value()) return std::nullopt;
  const uint64_t idle = keyed_value(read_file(directory + "/memory.stat"),
                                    v2 ? "inactive_file" : "total_inactive_file")
                            .value_or(0);
  const uint64_t used = *usage - std::min(*usage, idle);
  return MemoryRoom{*limit, *limit - std::min(*limit, used)};
}

SystemPressureSampler::Totals SystemPressureSampler::read_totals() const {
  Totals totals;
  totals.at = clock_.now();
  totals.stalled_machine = parse_psi_some_total(read_file("/proc/pressure/memory"));
  if (!cgroup_.has_value()) return totals;
  const auto add = [](std::optional<uint64_t>* sum, const std::optional<uint64_t>& value) {
    if (value.has_value()) *sum = sum->value_or(0) + *value;
  };
  for (const std::string& directory : cgroup_->directories) {
    if (cgroup_->version == Version::kV2) {
      // Of this level's own limit; 'memory.events' would count what befell groups below it.
      const std::string events = read_file(directory + "/memory.events.local");
      add(&totals.held, keyed_value(events, "high"));
      add(&totals.held, keyed_value(events, "max"));
      add(&totals.killed, keyed_value(events, "oom_kill"));
    } else {
      add(&totals.held, parse_bytes(read_file(directory + "/memory.failcnt")));
      add(&totals.killed, keyed_value(read_file(directory + "/memory.oom_control"), "oom_kill"));
    }
  }
  totals.stalled_group =
      parse_psi_some_total(read_file(cgroup_->directories.front() + "/memory.pressure"));
  return totals;
}

PressureSample SystemPressureSampler::sample() {
  follow_cgroup();
  PressureSample sample;
  if (const auto machine = parse_meminfo(read_file("/proc/meminfo"))) {
    sample.rooms.push_back(*machine);
  }
  if (cgroup_.has_value()) {
    for (const std::string& directory : cgroup_->directories) {
      if (const auto room = group_room(directory)) sample.rooms.push_back(*room);
    }
  }
  const Totals now = read_totals();
  sample.held_at_limit = growth(last_.held, now.held) > 0;
  sample.killed = growth(last_.killed, now.killed) > 0;
  const auto passed = std::chrono::duration<double, std::micro>(now.at - last_.at).count();
  if ((now.stalled_machine.has_value() || now.stalled_group.has_value()) && passed > 0) {
    const uint64_t stalled = std::max(growth(last_.stalled_machine, now.stalled_machine),
                                      growth(last_.stalled_group, now.stalled_group));
    sample.stalled_percent = std::min(100.0, 100.0 * static_cast<double>(stalled) / passed);
  }
  last_ = now;
  return sample;
}

void SystemPressureSampler::close_sources() {
  for (const Source& source : sources_) {
    if (source.fd >= 0) ::close(source.fd);
  }
  sources_.clear();
}

void SystemPressureSampler::listen_anew() {
  close_sources();
  add_trigger("/proc/pressure/memory");
  if (!cgroup_.has_value()) return;
  const std::string& own = cgroup_->directories.front();
  if (cgroup_->version == Version::kV2) {
    add_trigger(own + "/memory.pressure");
    for (const std::string& directory : cgroup_->directories) {
      add_events_file(directory + "/memory.events.local");
    }
  } else {
    add_pressure_level(own);
  }
}

void SystemPressureSampler::add_trigger(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  // Stalled for a tenth of a second within one. Without privileges (kernel 6.5 on) the window
  // must be a multiple of two seconds.
  if (write_text(fd, "some 100000 1000000") || write_text(fd, "some 200000 2000000")) {
    sources_.push_back({fd, Source::Kind::kTrigger});
  } else {
    ::close(fd);
  }
}

void SystemPressureSampler::add_events_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  sources_.push_back({fd, Source::Kind::kEventsFile});
  settle(&sources_.back(), POLLPRI);  // armed by reading
}

void SystemPressureSampler::add_pressure_level(const std::string& directory) {
  const int level = ::open((directory + "/memory.pressure_level").c_str(), O_RDONLY | O_CLOEXEC);
  const int control = ::open((directory + "/cgroup.event_control").c_str(), O_WRONLY | O_CLOEXEC);
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const bool registered =
      level >= 0 && control >= 0 && event >= 0 &&
      write_text(control, std::to_string(event) + " " + std::to_string(level) + " medium");
  if (registered) sources_.push_back({event, Source::Kind::kEventFd});
  if (!registered && event >= 0) ::close(event);
  for (const int fd : {level, control}) {
    if (fd >= 0) ::close(fd);  // the registration lives with the eventfd
  }
}

bool SystemPressureSampler::settle(Source* source, short events) {
  if (events == 0) return false;
  bool alive = (events & (POLLIN | POLLPRI)) != 0;
  if (source->kind == Source::Kind::kEventsFile && alive) {
    char buffer[512];
    alive = ::pread(source->fd, buffer, sizeof(buffer), 0) > 0;  // ENODEV: the cgroup is gone
  } else if (source->kind == Source::Kind::kEventFd && alive) {
    uint64_t count = 0;
    alive = ::read(source->fd, &count, sizeof(count)) == sizeof(count);
  } else if (source->kind == Source::Kind::kTrigger) {
    alive = (events & (POLLERR | POLLHUP | POLLNVAL)) == 0;
  }
  if (alive) return true;
  ::close(source->fd);
  source->fd = -1;  // poll() passes over it
  return false;
}

PressureSampler::Woken SystemPressureSampler::wait(std::chrono::milliseconds timeout,
                                                   Listen listen) {
  std::vector<pollfd> polled = {{wake_fd_, POLLIN, 0}};
  if (listen == Listen::kEvents) {
    for (const Source& source : sources_) {
      const bool eventfd = source.kind == Source::Kind::kEventFd;
      polled.push_back({source.fd, static_cast<short>(eventfd ? POLLIN : POLLPRI), 0});
    }
  }
  // EINTR can't happen: the thread takes no signals. If it does, it is an early time-out.
  if (::poll(polled.data(), polled.size(), static_cast<int>(timeout.count())) <= 0) {
    return Woken::kTimeout;
  }
  if (polled[0].revents != 0) return Woken::kStop;
  bool reported = false;
  for (size_t i = 1; i < polled.size(); ++i) {
    reported |= settle(&sources_[i - 1], polled[i].revents);
  }
  return reported ? Woken::kEvent : Woken::kTimeout;
}

void SystemPressureSampler::wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it is woken already.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof(one));
}

}  // namespace cache
