// Errors as values: an errno, or a value.
//
// Purpose:       every operation that can fail says so in its type; the errno is chosen where the
//                failure is understood and carried unchanged to the FUSE reply.
// Shapes:        Status is an errno (0: success); Result<T> holds a T or a non-zero errno.
#pragma once

#include <cerrno>
#include <utility>
#include <variant>

#include "cache/base/check.h"

namespace cache {

class [[nodiscard]] Status {
 public:
  Status() = default;
  static Status error(int error_number) { return Status(error_number == 0 ? EIO : error_number); }
  [[nodiscard]] bool ok() const { return errno_ == 0; }
  [[nodiscard]] int error_number() const { return errno_; }
  bool operator==(const Status&) const = default;

 private:
  explicit Status(int error_number) : errno_(error_number) {}
  int errno_ = 0;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}  // NOLINT: implicit by intent
  Result(Status status) : state_(status) {       // NOLINT: implicit by intent
    CACHE_CHECK(!status.ok());
  }
  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  [[nodiscard]] int error_number() const { return ok() ? 0 : std::get<1>(state_).error_number(); }
  [[nodiscard]] Status status() const { return ok() ? Status() : std::get<1>(state_); }
  T& value() & {
    CACHE_CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CACHE_CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    CACHE_CHECK(ok());
    return std::get<0>(std::move(state_));
  }

 private:
  std::variant<T, Status> state_;
};

}  // namespace cache
