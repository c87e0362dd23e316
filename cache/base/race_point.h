// CACHE_RACE_POINT(name): between two steps that others must not see half of; a test may hold a
// thread there, and so meet on every run what else one run in thousands meets.
//
// Thread-safety:  the hook runs on whatever thread comes by, under whatever lock it holds.
// Cost:           none but in debug and sanitizer builds (CACHE_RACE_POINTS tells tests).
#pragma once

#if !defined(NDEBUG) || defined(CACHE_DCHECKS)
#define CACHE_RACE_POINTS
#include <atomic>

namespace cache::race_point {
using Hook = void (*)(const char* name);
inline std::atomic<Hook> hook{nullptr};
inline void pass(const char* name) {
  if (const Hook set = hook.load(std::memory_order_acquire); set != nullptr) set(name);
}
}  // namespace cache::race_point
#define CACHE_RACE_POINT(name) ::cache::race_point::pass(name)
#else
#define CACHE_RACE_POINT(name) static_cast<void>(0)
#endif
