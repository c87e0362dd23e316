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

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
constexpr bool kThreadSanitizer = __has_feature(thread_sanitizer);
#else
constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
#else
constexpr bool kAddressSanitizer = false;
#endif

constexpr bool kSanitized = kThreadSanitizer || kAddressSanitizer;

// Steps of a long test: fewer under sanitizers, which are some ten and six times slower.
constexpr uint64_t scaled(uint64_t steps) {
  if (kThreadSanitizer) return steps / 10;
  return kAddressSanitizer ? steps / 6 : steps;
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
