#include "cache/base/result.h"

#include <catch2/catch.hpp>
#include <memory>

#include "tests/support/death.h"

using cache::Result;
using cache::Status;

TEST_CASE("a status is success or an errno, never an error of zero") {
  CHECK(Status().ok());
  CHECK(Status().error_number() == 0);
  CHECK_FALSE(Status::error(ENOENT).ok());
  CHECK(Status::error(ENOENT).error_number() == ENOENT);
  CHECK(Status::error(0).error_number() == EIO);
  CHECK(Status::error(ENOENT) == Status::error(ENOENT));
}

TEST_CASE("a result holds a value or an errno") {
  Result<int> value = 7;
  CHECK(value.ok());
  CHECK(value.value() == 7);
  CHECK(value.error_number() == 0);
  CHECK(value.status().ok());
  Result<int> error = Status::error(ESTALE);
  CHECK_FALSE(error.ok());
  CHECK(error.error_number() == ESTALE);
  CHECK(error.status() == Status::error(ESTALE));
}

TEST_CASE("a move-only value is moved out") {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
  const std::unique_ptr<int> out = std::move(result).value();
  CHECK(*out == 3);
}

TEST_CASE("the value of an error, and an error without an errno, abort") {
  CHECK(test::aborts([] {
    Result<int> error = Status::error(EIO);
    (void)error.value();
  }));
  CHECK(test::aborts([] { (void)Result<int>(Status()).ok(); }));
}
