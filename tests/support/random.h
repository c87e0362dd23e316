// Random tests: the seed, and how much to do.
//
// Purpose:  a random test takes its seed from here and prints it; COOKIEFS_TEST_SEED repeats a run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace test {

inline uint64_t seed() {
  if (const char* given = std::getenv("COOKIEFS_TEST_SEED"))
    return std::strtoull(given, nullptr, 0);
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

// Steps of a long test: fewer under ThreadSanitizer, which is some ten times slower.
constexpr uint64_t scaled(uint64_t steps) {
#if defined(__SANITIZE_THREAD__)
  return steps / 10;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
  return steps / 10;
#else
  return steps;
#endif
#else
  return steps;
#endif
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // In [0, n).
  uint64_t below(uint64_t n) { return engine_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace test
