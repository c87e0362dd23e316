// CACHE_CHECK:  always on; aborts with file, line and the expression. For what the program itself
//               must guarantee; never for input from the kernel or a remote, which yields an errno.
// CACHE_DCHECK: on in debug and sanitizer builds; for what a comment beside it proves.
#pragma once

namespace cache {
[[noreturn]] void check_failed(const char* file, int line, const char* expression);

// From now on a heap allocation that fails ends the process with a line that says so. What is
// cached comes from the budget, whose end is an ENOMEM; the heap holds small things only, in every
// thread and under locks, and an exception there would leave a page locked or a request unanswered.
void abort_when_heap_is_exhausted();
}  // namespace cache

#define CACHE_CHECK(condition)                         \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::cache::check_failed(__FILE__, __LINE__, #condition))

#if defined(NDEBUG) && !defined(CACHE_DCHECKS)
#define CACHE_DCHECK(condition) static_cast<void>(sizeof((condition) ? 1 : 0))
#else
#define CACHE_DCHECK(condition) CACHE_CHECK(condition)
#endif
