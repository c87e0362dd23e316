// A forked child that a test watches: by pid, with a deadline, never left behind.
//
// Purpose:        runs a function, or a program, in a process of its own.
// Ownership:      the destructor kills and reaps a child that still runs; a test that is killed
//                 takes its children with it (SIGTERM, so that a daemon unmounts).
// Thread-safety:  one thread, which should be the test's first: its end is what children notice.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace test {

constexpr std::chrono::seconds kPatience{60};  // for what takes less than a second by itself

// True as soon as the condition is; false after the patience. For conditions outside the process,
// which nobody can be woken by.
bool wait_until(const std::function<bool()>& condition, std::chrono::seconds patience = kPatience);

class Child {
 public:
  // The function's result is the exit status. It must not use Catch2.
  explicit Child(const std::function<int()>& body);
  // stderr goes to the end of that file.
  Child(const std::vector<std::string>& command, const std::string& stderr_path);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  // The wait status, once it has ended; nothing when it has not within the patience.
  std::optional<int> wait(std::chrono::milliseconds patience = kPatience);
  bool running() { return !wait(std::chrono::milliseconds(0)); }

 private:
  pid_t pid_ = -1;
  int pidfd_ = -1;
  std::optional<int> status_;
};

}  // namespace test
