// Death tests: whether a piece of code aborts, tried in a child process.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace test {

// CACHE_CHECK aborts in every build; CACHE_DCHECK and lock ranks only where this is true.
#if !defined(NDEBUG) || defined(CACHE_DCHECKS)
constexpr bool kDebugChecks = true;
#else
constexpr bool kDebugChecks = false;
#endif

template <typename Body>
bool aborts(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    std::signal(SIGABRT, SIG_DFL);
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    body();
    _exit(0);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
         WTERMSIG(status) == SIGABRT;
}

}  // namespace test
