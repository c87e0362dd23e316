// Waiting in tests: for a condition, with a deadline. Who waits leaves the processor to those that
// are waited for: at first by turns, then by naps that are too short to be felt.
#pragma once

#include <chrono>
#include <thread>

namespace test {

constexpr std::chrono::seconds kDeadline{30};

template <typename Condition>
bool eventually(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  for (int tries = 0; !condition(); ++tries) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    if (tries < 100) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  return true;
}

}  // namespace test
