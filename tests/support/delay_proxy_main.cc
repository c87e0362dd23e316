// delay_proxy: test::DelayProxy as a program, for scripts and measurements.
//
//   delay_proxy TARGET_PORT RTT_MS [LISTEN_PORT]
//
// Says 'listening on PORT' on stdout, then takes commands from stdin, a line each: cut, stall,
// corrupt [ONE_IN], resume, rtt MS, quit; answers each with 'ok' or a line that says what is wrong.
// A closed stdin leaves it running. A signal or `quit` ends it, and so does the end of whoever
// started it. Exit status: 0, 1 failure, 2 usage.

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>

#include "tests/support/delay_proxy.h"

namespace {

constexpr int kExitUsage = 2;
constexpr uint32_t kDefaultOneIn = 1000;

// -1: not a number from 0 to a million.
double number_of(const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  return end == text || *end != '\0' || !(value >= 0) || value > 1e6 ? -1 : value;
}

std::chrono::nanoseconds milliseconds(double count) {
  return std::chrono::nanoseconds(static_cast<int64_t>(count * 1e6));
}

// False: it has been told to end.
bool obey(test::DelayProxy& proxy, const std::string& line) {
  std::istringstream words(line);
  std::string command;
  words >> command;
  if (command == "quit") return false;
  std::string answer = "ok";
  double value = 0;
  if (command == "cut") {
    proxy.cut();
  } else if (command == "stall") {
    proxy.stall();
  } else if (command == "corrupt") {
    proxy.corrupt(words >> value && value >= 1 ? static_cast<uint32_t>(value) : kDefaultOneIn);
  } else if (command == "resume") {
    proxy.resume();
  } else if (command == "rtt" && words >> value && value >= 0) {
    proxy.set_rtt(milliseconds(value));
  } else {
    answer = "not a command: " + line + " (cut, stall, corrupt [N], resume, rtt MS, quit)";
  }
  std::printf("%s\n", answer.c_str());
  std::fflush(stdout);
  return true;
}

int run(int argc, char* argv[]) {
  const double target = argc >= 3 ? number_of(argv[1]) : -1;
  const double rtt = argc >= 3 ? number_of(argv[2]) : -1;
  const double listen = argc == 4 ? number_of(argv[3]) : 0;
  constexpr double kMaxPort = 65535;
  if (argc > 4 || target < 1 || target > kMaxPort || rtt < 0 || listen < 0 || listen > kMaxPort) {
    std::fprintf(stderr, "usage: delay_proxy TARGET_PORT RTT_MS [LISTEN_PORT]\n");
    return kExitUsage;
  }
  test::DelayProxy::Options options;
  options.target_port = static_cast<uint16_t>(target);
  options.listen_port = static_cast<uint16_t>(listen);
  options.rtt = milliseconds(rtt);
  test::DelayProxy proxy(options);
  std::printf("listening on %u\n", unsigned{proxy.port()});
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    if (!obey(proxy, line)) return EXIT_SUCCESS;
  }
  for (;;) pause();
}

}  // namespace

int main(int argc, char* argv[]) {
  try {
    const pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) return EXIT_FAILURE;
    return run(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "%s\n", exception.what());
    return EXIT_FAILURE;
  }
}
