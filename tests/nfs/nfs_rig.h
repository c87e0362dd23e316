// Calls of an NFS back end that are waited for, and whole listings.
//
// Thread-safety:  none of its own; one test at a time.
#pragma once

#include <catch2/catch.hpp>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/backends/nfs/nfs_backend.h"

namespace test {

using fusefs::Attr;
using fusefs::Backend;
using fusefs::CallerPtr;
using fusefs::LookupAnswer;
using fusefs::ObjectId;
using fusefs::Result;

constexpr std::chrono::seconds kRemoteDeadline{60};

inline CallerPtr caller(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {}) {
  return std::make_shared<const fusefs::Caller>(
      fusefs::Caller{.uid = uid, .gid = gid, .groups = std::move(groups)});
}

// A connected back end, and calls of it.
class NfsRig {
 public:
  explicit NfsRig(const std::string& url, const fusefs::BackendOptions& options = {}) {
    std::string text;
    backend_ = fusefs::make_nfs_backend(std::string_view(url).substr(4), options, &text);
    INFO(url << ": " << text);
    REQUIRE(backend_ != nullptr);
    const Result<LookupAnswer> root = backend_->connect(&text);
    INFO(text);
    REQUIRE(root.ok());
    root_ = root.value();
  }

  Backend& backend() { return *backend_; }
  [[nodiscard]] const LookupAnswer& root() const { return root_; }

  template <typename T, typename Start>
  Result<T> wait(const Start& start) {
    const auto promise = std::make_shared<std::promise<Result<T>>>();
    std::future<Result<T>> future = promise->get_future();
    start(Backend::Done<T>([promise](Result<T> result) { promise->set_value(std::move(result)); }));
    REQUIRE(future.wait_for(kRemoteDeadline) == std::future_status::ready);
    return future.get();
  }
  Result<LookupAnswer> lookup(const ObjectId& parent, const std::string& name,
                              const CallerPtr& who = nullptr) {
    return wait<LookupAnswer>([&](auto done) { backend_->lookup(who, parent, name, done); });
  }
  // "a/b/c"
  ObjectId find(const std::string& path) {
    ObjectId id = root_.id;
    size_t from = 0;
    while (from < path.size()) {
      const size_t end = std::min(path.find('/', from), path.size());
      const auto found = lookup(id, path.substr(from, end - from));
      INFO(path);
      REQUIRE(found.ok());
      id = found.value().id;
      from = end + 1;
    }
    return id;
  }
  Result<Attr> getattr(const ObjectId& id, const CallerPtr& who = nullptr) {
    return wait<Attr>([&](auto done) { backend_->getattr(who, id, done); });
  }
  Result<std::string> readlink(const ObjectId& id) {
    return wait<std::string>([&](auto done) { backend_->readlink(nullptr, id, done); });
  }
  Result<Backend::FileHandle> open(const ObjectId& id, const CallerPtr& who = nullptr,
                                   int flags = 0) {
    return wait<Backend::FileHandle>([&](auto done) { backend_->open(who, id, flags, done); });
  }
  Result<std::string> read(Backend::FileHandle file, uint64_t offset, uint32_t size,
                           const CallerPtr& who = nullptr) {
    return wait<std::string>([&](auto done) { backend_->read(who, file, offset, size, done); });
  }

  cache::DirAnswer list_once(const ObjectId& directory, const cache::DirRequest& request,
                             const CallerPtr& who = nullptr) {
    const auto promise = std::make_shared<std::promise<cache::DirAnswer>>();
    std::future<cache::DirAnswer> future = promise->get_future();
    backend_->read_dir(who, directory, request, [promise](cache::DirAnswer&& answer) {
      promise->set_value(std::move(answer));
    });
    REQUIRE(future.wait_for(kRemoteDeadline) == std::future_status::ready);
    cache::DirAnswer answer = future.get();
    REQUIRE(answer.well_formed());
    return answer;
  }

  struct Entry {
    uint64_t ino = 0;
    uint8_t type = 0;
    Attr attr;
  };
  struct Whole {
    int error = 0;
    std::map<std::string, Entry> entries;  // without '.' and '..'
    uint64_t repeated = 0;
    uint64_t answers = 0;
    uint64_t without_attrs = 0;  // answers
    uint64_t change = 0;
    std::vector<uint64_t> cookies;
  };
  // From the beginning to the end, as a fill does it, `step` entries an answer at most.
  Whole list(const ObjectId& directory, uint32_t step, bool attrs, const CallerPtr& who = nullptr) {
    Whole whole;
    cache::DirRequest request{.after = {}, .verifier = 0, .max_entries = step, .want_attrs = attrs};
    for (bool eof = false; !eof && whole.error == 0;) {
      const cache::DirAnswer answer = list_once(directory, request, who);
      whole.error = answer.error;
      eof = answer.eof;
      ++whole.answers;
      if (!answer.has_attrs) ++whole.without_attrs;
      if (answer.change != 0) whole.change = answer.change;
      CHECK(answer.entries.size() <= step);
      REQUIRE((eof || answer.error != 0 || !answer.entries.empty()));
      for (size_t i = 0; i < answer.entries.size(); ++i) {
        const auto& entry = answer.entries[i];
        request.after.cookie = entry.cookie;
        whole.cookies.push_back(entry.cookie);
        const std::string name(answer.name(entry));
        if (name == "." || name == "..") continue;
        const Entry told = {.ino = entry.ino,
                            .type = entry.type,
                            .attr = answer.has_attrs ? answer.attrs[i] : Attr()};
        if (!whole.entries.emplace(name, told).second) ++whole.repeated;
      }
      request.verifier = answer.verifier;
    }
    return whole;
  }

 private:
  std::unique_ptr<Backend> backend_;
  LookupAnswer root_;
};

// The line that a mount of that source fails with.
inline std::string connect_error(const std::string& url,
                                 const fusefs::BackendOptions& options = {}) {
  std::string text;
  const auto backend = fusefs::make_nfs_backend(std::string_view(url).substr(4), options, &text);
  INFO(url << ": " << text);
  REQUIRE(backend != nullptr);
  CHECK_FALSE(backend->connect(&text).ok());
  CHECK_FALSE(text.empty());
  CHECK(text.find('\n') == std::string::npos);
  return text;
}

}  // namespace test
