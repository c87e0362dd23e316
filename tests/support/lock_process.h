// LockProcess: a process that opens, locks, reads and writes files as it is told.
//
// Purpose:        locks belong to processes, so whoever tests them needs several. A call that waits
//                 can be left waiting while others are made in other processes.
// Ownership:      the process, killed and reaped by the destructor; its locks end with it.
// Thread-safety:  one thread, the test's first (Child).
// Errors:         of its calls: an errno, 0 when all is well. Exceptions where a file can't be
//                 opened, and where no answer comes within kPatience.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tests/support/child.h"

namespace test {

// Bytes of a file; `length` 0: to the end, wherever that comes to be.
struct LockRange {
  off_t start = 0;
  off_t length = 0;
};

enum class LockCall : uint8_t { kFcntl, kFlock };

class LockProcess {
 public:
  static constexpr size_t kLargestText = 16'384;

  LockProcess();
  ~LockProcess();
  LockProcess(const LockProcess&) = delete;
  LockProcess& operator=(const LockProcess&) = delete;

  // Descriptors are numbers of that process.
  int open(const std::string& path, int flags = O_RDWR);
  int close(int fd);

  // F_RDLCK, F_WRLCK, F_UNLCK; F_SETLK or F_OFD_SETLK.
  int lock(int fd, int type, const LockRange& range = {}, int command = F_SETLK);
  int unlock(int fd, const LockRange& range = {}) { return lock(fd, F_UNLCK, range); }
  // What is in the way, as F_GETLK or F_OFD_GETLK has it.
  struct flock blocker(int fd, int type, const LockRange& range = {}, int command = F_GETLK);
  // Each of the first bytes as others have locked it: "ww-r".
  std::string locked_by_others(int fd, int bytes);
  int lock_file(int fd, int operation);  // flock(2)
  // F_SETLKW or LOCK_EX, and the end of either.
  int wait_for(int fd, LockCall call);
  int give_up(int fd, LockCall call);

  std::string read(int fd, size_t bytes, uint64_t offset = 0);  // "errno N" where it fails
  int write(int fd, const std::string& bytes, uint64_t offset = 0);
  int truncate(int fd, uint64_t size);
  off_t size(int fd);  // -1 where it fails
  // Maps the file's beginning, shared, and in place of what was mapped before.
  int map(int fd);
  std::string load(size_t bytes);
  void store(const std::string& bytes);

  // F_SETLKW that is left waiting, and what became of it. SIGUSR1 interrupts it; SIGUSR2 does, and
  // it is made again (SA_RESTART).
  void begin_wait(int fd, int type, const LockRange& range = {}, int command = F_SETLKW);
  void begin_wait_for_file(int fd, int operation);  // flock(2)
  [[nodiscard]] bool answered() const;
  [[nodiscard]] bool waits() const;  // it has entered the call, and sleeps there
  int finish();

  [[nodiscard]] pid_t pid() const { return child_->pid(); }
  void signal(int number) const { child_->signal(number); }
  // SIGKILL; true once it is gone, by when its files are closed.
  bool kill();

 private:
  enum class What : uint8_t;
  struct Order;
  struct Answer;

  void send(const Order& order);
  Answer receive();
  Answer call(const Order& order);
  static Answer obey(const Order& order);
  static int serve(int socket);

  std::array<int, 2> sockets_{-1, -1};  // ours, and the child's
  std::unique_ptr<Child> child_;
};

// A process with a file open, as most tests have it.
struct Locker {
  explicit Locker(const std::string& path, int flags = O_RDWR) : fd(process.open(path, flags)) {}

  int lock(int type, const LockRange& range = {}) { return process.lock(fd, type, range); }
  int unlock(const LockRange& range = {}) { return process.unlock(fd, range); }
  // The open file's instead of the process's.
  int lock_open_file(int type, const LockRange& range = {}) {
    return process.lock(fd, type, range, F_OFD_SETLK);
  }
  // flock(2) that does not wait.
  int lock_file(int operation);
  // Begins to wait; an exception where it neither does that nor is answered.
  void begin_wait(int type, const LockRange& range = {});
  std::string others(int bytes) { return process.locked_by_others(fd, bytes); }

  LockProcess process;
  int fd;
};

// For a Child: adds one to the number in a file, so often, each time under a lock that it waits
// for. 0, or which of the calls failed.
int count_under_lock(const std::string& path, int times, LockCall call);
// The same through a shared mapping.
int count_mapped_under_lock(const std::string& path, int times, LockCall call);
// What such a file starts with, and comes to.
std::string counter_text(int number);

}  // namespace test
