// Catch2, after every header whose inline functions use the cache's own CHECK: in tests the name is
// Catch2's. Sorts behind the headers of cache/, so there is nothing to think of.
#pragma once

#include "cache/base/check.h"
#include "cache/base/result.h"
// The above first.
#include <catch2/catch.hpp>
