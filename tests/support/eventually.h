// Waiting in tests: for a condition, with a deadline, without sleeping.
#pragma once

#include <chrono>
#include <thread>

namespace test {

constexpr std::chrono::seconds kDeadline{30};

template <typename Condition>
bool eventually(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace test
