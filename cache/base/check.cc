#include "cache/base/check.h"

#include <cstdio>
#include <cstdlib>
#include <new>

namespace cache {

void check_failed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

void abort_when_heap_is_exhausted() {
  std::set_new_handler([] {
    std::fputs("cookiefs: out of memory: the heap is exhausted\n", stderr);
    std::abort();
  });
}

}  // namespace cache
