#include "cache/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace cache {

void check_failed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

}  // namespace cache
