#include "cache/mm/refault.h"

#include <catch2/catch.hpp>

using cache::RefaultHistory;

TEST_CASE("the distance of a refault is the number of evictions since the page's own") {
  RefaultHistory history(1 << 12);
  CHECK(history.take_distance(1, 10) == UINT32_MAX);
  history.evicted(1, 10);
  for (uint64_t key = 100; key < 105; ++key) history.evicted(2, key);
  CHECK(history.take_distance(1, 10) == 6);
  CHECK(history.take_distance(1, 10) == UINT32_MAX);  // told once
}

TEST_CASE("mappings and keys are told apart") {
  RefaultHistory history(1 << 12);
  history.evicted(1, 10);
  CHECK(history.take_distance(2, 10) == UINT32_MAX);
  CHECK(history.take_distance(1, uint64_t{1} << 63 | 10) == UINT32_MAX);
  CHECK(history.take_distance(1, 10) == 1);
}

TEST_CASE("the table is of fixed size and most of a cache's worth of evictions is remembered") {
  constexpr uint64_t kSlots = 1 << 12;
  RefaultHistory history(kSlots);
  CHECK(history.table_bytes() == kSlots * 8);
  for (uint64_t key = 0; key < kSlots / 2; ++key) history.evicted(1, key);
  uint64_t remembered = 0;
  for (uint64_t key = 0; key < kSlots / 2; ++key) {
    remembered += history.take_distance(1, key) != UINT32_MAX ? 1 : 0;
  }
  CHECK(remembered > kSlots / 2 * 7 / 10);
  CHECK(history.table_bytes() == kSlots * 8);
}
