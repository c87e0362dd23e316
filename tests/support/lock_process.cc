#include "tests/support/lock_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "tests/support/temp_dir.h"

namespace test {
namespace {

// The process's own; there is one a process.
char* process_mapping = nullptr;

struct flock native_range(int type, const LockRange& range) {
  struct flock native {};
  native.l_type = static_cast<short>(type);
  native.l_whence = SEEK_SET;
  native.l_start = range.start;
  native.l_len = range.length;
  return native;
}

int lock_by(int fd, LockCall call, int type) {
  if (call == LockCall::kFlock) return flock(fd, type == F_UNLCK ? LOCK_UN : LOCK_EX);
  struct flock native = native_range(type, {});
  return fcntl(fd, F_SETLKW, &native);
}

}  // namespace

enum class LockProcess::What : uint8_t {
  kOpen,
  kClose,
  kFcntl,
  kFlock,
  kRead,
  kWrite,
  kTruncate,
  kSize,
  kMap,
  kLoad,
  kStore,
};

struct LockProcess::Order {
  What what = What::kClose;
  int fd = -1;
  int number = 0;  // flags, a command, or an operation
  struct flock lock {};
  uint64_t offset = 0;
  size_t size = 0;
  std::array<char, kLargestText> text{};

  void set_text(const std::string& given) {
    if (given.size() >= text.size()) throw std::runtime_error("too much text for a LockProcess");
    size = given.size();
    std::copy(given.begin(), given.end(), text.begin());
  }
};

struct LockProcess::Answer {
  int64_t result = 0;
  int error = 0;
  struct flock lock {};
  std::array<char, kLargestText> text{};

  [[nodiscard]] std::string as_text() const {
    if (result < 0) return "errno " + std::to_string(error);
    return {text.data(), static_cast<size_t>(result)};
  }
};

// ---- In that process ----------------------------------------------------------------------------

LockProcess::Answer LockProcess::obey(const Order& order) {
  Answer answer;
  answer.lock = order.lock;
  const auto offset = static_cast<off_t>(order.offset);
  struct stat status {};
  switch (order.what) {
    case What::kOpen:
      answer.result = ::open(order.text.data(), order.number | O_CLOEXEC, 0644);
      break;
    case What::kClose:
      answer.result = ::close(order.fd);
      break;
    case What::kFcntl:
      answer.result = fcntl(order.fd, order.number, &answer.lock);
      break;
    case What::kFlock:
      answer.result = flock(order.fd, order.number);
      break;
    case What::kRead:
      answer.result = pread(order.fd, answer.text.data(), order.size, offset);
      break;
    case What::kWrite:
      answer.result = pwrite(order.fd, order.text.data(), order.size, offset);
      break;
    case What::kTruncate:
      answer.result = ftruncate(order.fd, offset);
      break;
    case What::kSize:
      answer.result = fstat(order.fd, &status) == 0 ? status.st_size : -1;
      break;
    case What::kMap: {
      if (process_mapping != nullptr) munmap(process_mapping, kLargestText);
      void* const mapped =
          mmap(nullptr, kLargestText, PROT_READ | PROT_WRITE, MAP_SHARED, order.fd, 0);
      process_mapping = mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
      answer.result = mapped == MAP_FAILED ? -1 : 0;
      break;
    }
    case What::kLoad:
      std::memcpy(answer.text.data(), process_mapping, order.size);
      answer.result = static_cast<int64_t>(order.size);
      break;
    case What::kStore:
      std::memcpy(process_mapping, order.text.data(), order.size);
      break;
  }
  answer.error = answer.result < 0 ? errno : 0;
  return answer;
}

int LockProcess::serve(int socket) {
  // Those of the test's framework would report the end of this process as a failure.
  for (const int number : {SIGTERM, SIGINT}) ::signal(number, SIG_DFL);
  struct sigaction interrupts {};
  interrupts.sa_handler = [](int /*number*/) {};  // and no SA_RESTART
  sigaction(SIGUSR1, &interrupts, nullptr);
  struct sigaction restarts = interrupts;
  restarts.sa_flags = SA_RESTART;
  sigaction(SIGUSR2, &restarts, nullptr);
  const auto order = std::make_unique<Order>();
  for (;;) {
    const ssize_t got = recv(socket, order.get(), sizeof(Order), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != sizeof(Order)) return 0;
    const auto answer = std::make_unique<Answer>(obey(*order));
    while (::send(socket, answer.get(), sizeof(Answer), MSG_NOSIGNAL) < 0) {
      if (errno != EINTR) return 1;
    }
  }
}

// ---- In the test's ------------------------------------------------------------------------------

LockProcess::LockProcess() {
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets_.data()) != 0) {
    throw std::runtime_error("no sockets");
  }
  child_ = std::make_unique<Child>([sockets = sockets_] {
    ::close(sockets[0]);
    return serve(sockets[1]);
  });
  ::close(sockets_[1]);
}

LockProcess::~LockProcess() {
  child_.reset();
  ::close(sockets_[0]);
}

void LockProcess::send(const Order& order) {
  if (::send(sockets_[0], &order, sizeof(Order), MSG_NOSIGNAL) != sizeof(Order)) {
    throw std::runtime_error("a process that was to lock something is gone");
  }
}

bool LockProcess::answered() const {
  pollfd readable = {.fd = sockets_[0], .events = POLLIN, .revents = 0};
  return poll(&readable, 1, 0) > 0;
}

LockProcess::Answer LockProcess::receive() {
  constexpr auto kMilliseconds =
      static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(kPatience).count());
  pollfd readable = {.fd = sockets_[0], .events = POLLIN, .revents = 0};
  Answer answer;
  if (poll(&readable, 1, kMilliseconds) <= 0 ||
      recv(sockets_[0], &answer, sizeof(Answer), 0) != sizeof(Answer)) {
    throw std::runtime_error("no answer from a process that was to lock something");
  }
  return answer;
}

LockProcess::Answer LockProcess::call(const Order& order) {
  send(order);
  return receive();
}

int LockProcess::open(const std::string& path, int flags) {
  Order order;
  order.what = What::kOpen;
  order.number = flags;
  order.set_text(path);
  const Answer answer = call(order);
  if (answer.result < 0) throw std::runtime_error(path + ": " + std::strerror(answer.error));
  return static_cast<int>(answer.result);
}

int LockProcess::close(int fd) {
  Order order;
  order.what = What::kClose;
  order.fd = fd;
  return call(order).error;
}

int LockProcess::lock(int fd, int type, const LockRange& range, int command) {
  Order order;
  order.what = What::kFcntl;
  order.fd = fd;
  order.number = command;
  order.lock = native_range(type, range);
  return call(order).error;
}

struct flock LockProcess::blocker(int fd, int type, const LockRange& range, int command) {
  Order order;
  order.what = What::kFcntl;
  order.fd = fd;
  order.number = command;
  order.lock = native_range(type, range);
  const Answer answer = call(order);
  if (answer.result < 0) {
    throw std::runtime_error("F_GETLK: " + std::string(std::strerror(answer.error)));
  }
  return answer.lock;
}

std::string LockProcess::locked_by_others(int fd, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    const int type = blocker(fd, F_WRLCK, {.start = i, .length = 1}).l_type;
    text += type == F_WRLCK ? 'w' : type == F_RDLCK ? 'r' : '-';
  }
  return text;
}

int LockProcess::lock_file(int fd, int operation) {
  begin_wait_for_file(fd, operation);
  return finish();
}

int LockProcess::wait_for(int fd, LockCall call) {
  return call == LockCall::kFlock ? lock_file(fd, LOCK_EX) : lock(fd, F_WRLCK, {}, F_SETLKW);
}

int LockProcess::give_up(int fd, LockCall call) {
  return call == LockCall::kFlock ? lock_file(fd, LOCK_UN) : unlock(fd);
}

std::string LockProcess::read(int fd, size_t bytes, uint64_t offset) {
  Order order;
  order.what = What::kRead;
  order.fd = fd;
  order.size = std::min(bytes, kLargestText);
  order.offset = offset;
  return call(order).as_text();
}

int LockProcess::write(int fd, const std::string& bytes, uint64_t offset) {
  Order order;
  order.what = What::kWrite;
  order.fd = fd;
  order.offset = offset;
  order.set_text(bytes);
  const Answer answer = call(order);
  if (answer.error != 0) return answer.error;
  return answer.result == static_cast<int64_t>(bytes.size()) ? 0 : EIO;
}

int LockProcess::truncate(int fd, uint64_t size) {
  Order order;
  order.what = What::kTruncate;
  order.fd = fd;
  order.offset = size;
  return call(order).error;
}

off_t LockProcess::size(int fd) {
  Order order;
  order.what = What::kSize;
  order.fd = fd;
  return call(order).result;
}

int LockProcess::map(int fd) {
  Order order;
  order.what = What::kMap;
  order.fd = fd;
  return call(order).error;
}

std::string LockProcess::load(size_t bytes) {
  Order order;
  order.what = What::kLoad;
  order.size = std::min(bytes, kLargestText);
  return call(order).as_text();
}

void LockProcess::store(const std::string& bytes) {
  Order order;
  order.what = What::kStore;
  order.set_text(bytes);
  call(order);
}

void LockProcess::begin_wait(int fd, int type, const LockRange& range, int command) {
  Order order;
  order.what = What::kFcntl;
  order.fd = fd;
  order.number = command;
  order.lock = native_range(type, range);
  send(order);
}

void LockProcess::begin_wait_for_file(int fd, int operation) {
  Order order;
  order.what = What::kFlock;
  order.fd = fd;
  order.number = operation;
  send(order);
}

bool LockProcess::waits() const {
  const std::string call = text_of("/proc/" + std::to_string(pid()) + "/syscall");
  const auto is = [&call](long number) { return call.starts_with(std::to_string(number) + " "); };
  return is(SYS_fcntl) || is(SYS_flock);
}

int LockProcess::finish() { return receive().error; }

bool LockProcess::kill() {
  child_->signal(SIGKILL);
  return child_->wait().has_value();
}

int Locker::lock_file(int operation) { return process.lock_file(fd, operation | LOCK_NB); }

void Locker::begin_wait(int type, const LockRange& range) {
  process.begin_wait(fd, type, range);
  if (wait_until([this] { return process.waits() || process.answered(); })) return;
  throw std::runtime_error("a process that was to wait for a lock does not");
}

// ---- Counting -----------------------------------------------------------------------------------

namespace {

constexpr size_t kCounterSize = 8;

// One more than what is there.
bool increment(char* text) {
  int number = 0;
  if (std::sscanf(text, "%8d", &number) != 1) return false;
  std::memcpy(text, counter_text(number + 1).data(), kCounterSize);
  return true;
}

// 0, or 10 and more: what `add_one` said, or that the lock was not to be had.
int count_by(int fd, int times, LockCall call, const std::function<int()>& add_one) {
  for (int i = 0; i < times; ++i) {
    if (lock_by(fd, call, F_WRLCK) != 0) return 10;
    if (const int problem = add_one(); problem != 0) return problem;
    if (lock_by(fd, call, F_UNLCK) != 0) return 11;
  }
  return 0;
}

}  // namespace

std::string counter_text(int number) {
  std::string text = std::to_string(number);
  return std::string(kCounterSize - text.size(), '0') + text;
}

int count_under_lock(const std::string& path, int times, LockCall call) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return 1;
  const int problem = count_by(fd, times, call, [fd] {
    std::array<char, kCounterSize + 1> text{};
    if (pread(fd, text.data(), kCounterSize, 0) != kCounterSize) return 12;
    if (!increment(text.data())) return 13;
    return pwrite(fd, text.data(), kCounterSize, 0) == kCounterSize ? 0 : 14;
  });
  return close(fd) == 0 ? problem : 2;
}

int count_mapped_under_lock(const std::string& path, int times, LockCall call) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return 1;
  void* const mapped = mmap(nullptr, kCounterSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return 3;
  const int problem = count_by(fd, times, call, [mapped] {
    std::array<char, kCounterSize + 1> text{};
    std::memcpy(text.data(), mapped, kCounterSize);
    if (!increment(text.data())) return 13;
    std::memcpy(mapped, text.data(), kCounterSize);
    return 0;
  });
  munmap(mapped, kCounterSize);
  return close(fd) == 0 ? problem : 2;
}

}  // namespace test
