// NfsBackend::ask(), for the files that its members are spread over.
#pragma once

#include <cerrno>
#include <functional>
#include <memory>
#include <utility>

#include "fusefs/backends/nfs/nfs_backend.h"
#include "fusefs/backends/nfs/nfs_object_id.h"

namespace fusefs {

template <typename T>
void NfsBackend::ask(RequestId id, const CallerPtr& caller, const ObjectId& object,
                     std::function<void(const nfs::Handle& handle, Done<T> done)> question,
                     Done<T> done) {
  struct State {
    std::function<void(const nfs::Handle& handle, Done<T> done)> question;
    Done<T> done;
    nfs::Handle first;
  };
  auto state = std::make_shared<State>(State{std::move(question), std::move(done), {}});
  const auto second = [this, id, caller, object, state] {
    handles_.forget_way(nfs::parse_id(object).path);
    resolve(id, caller, object, [state](const Result<nfs::Handle>& handle) {
      if (!handle.ok()) return state->done(handle.status());
      if (handle.value() == state->first) return state->done(cache::Status::error(ESTALE));
      state->question(handle.value(), state->done);
    });
  };
  resolve(id, caller, object, [state, second, object](const Result<nfs::Handle>& handle) {
    if (handle.error_number() == ESTALE && !object.empty()) return second();
    if (!handle.ok()) return state->done(handle.status());
    state->first = handle.value();
    state->question(handle.value(), [state, second, object](Result<T> result) {
      if (result.error_number() == ESTALE && !object.empty()) return second();
      state->done(std::move(result));
    });
  });
}

}  // namespace fusefs
