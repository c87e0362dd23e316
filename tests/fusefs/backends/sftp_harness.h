// What the tests of the SFTP back end share: a connected back end, asking and waiting for the
// answer, listing a directory to its end.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/backends/sftp/sftp_backend.h"
#include "tests/support/eventually.h"
#include "tests/support/ssh_server.h"
#include "tests/support/temp_dir.h"

namespace fusefs::sftp_test {

using cache::DirAnswer;
using cache::DirRequest;
using cache::ResumeToken;

constexpr std::chrono::seconds kDeadline{100};

// An answer that is on its way. get() throws when it has not come in time.
template <typename T>
class Pending {
 public:
  std::function<void(T)> completion() {
    return [promise = promise_](T value) { promise->set_value(std::move(value)); };
  }
  T get() {
    if (future_.wait_for(kDeadline) != std::future_status::ready) {
      throw std::runtime_error("no answer within the deadline");
    }
    return future_.get();
  }

 private:
  std::shared_ptr<std::promise<T>> promise_ = std::make_shared<std::promise<T>>();
  std::future<T> future_ = promise_->get_future();
};

// "NAME=VALUE,NAME=VALUE,...", without commas in values.
inline BackendOptions options_of(const std::string& text) {
  BackendOptions options;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    const size_t equals = item.find('=');
    options.push_back({item.substr(0, equals), item.substr(equals + 1)});
    at = end + 1;
  }
  return options;
}

// Connected, or an exception with the reason.
inline std::unique_ptr<Backend> connected(const std::string& source, const std::string& options) {
  std::string error;
  auto backend = make_sftp_backend(source, options_of(options), &error);
  if (!backend) throw std::runtime_error(error);
  if (!backend->connect(&error).ok()) throw std::runtime_error(error);
  return backend;
}

// A directory's back end; the server gives the modes that are asked for, whatever our umask is.
inline std::unique_ptr<Backend> mounted(
    const test::TempDir& dir, const std::string& options = test::plain_sftp_server("-u 0")) {
  return connected("sftp://here" + dir.path(), options);
}

inline struct stat status_of(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) throw std::runtime_error("no " + path);
  return status;
}

inline bool there(const std::string& path) {
  return std::filesystem::exists(std::filesystem::symlink_status(path));
}

// The line with which connecting fails.
inline std::string connect_error(const std::string& source, const std::string& options) {
  try {
    connected(source, options);
    return "connected";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

inline DirAnswer ask(Backend& backend, const ObjectId& directory, DirRequest request) {
  Pending<DirAnswer> pending;
  const auto done = pending.completion();
  backend.read_dir(nullptr, directory, std::move(request),
                   [done](DirAnswer&& answer) { done(std::move(answer)); });
  return pending.get();
}

inline Result<Attr> getattr(Backend& backend, const ObjectId& id) {
  Pending<Result<Attr>> pending;
  backend.getattr(nullptr, id, pending.completion());
  return pending.get();
}

inline Result<LookupAnswer> lookup(Backend& backend, const ObjectId& parent,
                                   const std::string& name) {
  Pending<Result<LookupAnswer>> pending;
  backend.lookup(nullptr, parent, name, pending.completion());
  return pending.get();
}

// What a call answers; `call` is given the completion.
template <typename T, typename Call>
Result<T> answer_of(const Call& call) {
  Pending<Result<T>> pending;
  call(pending.completion());
  return pending.get();
}

inline Result<Backend::FileHandle> open_file(Backend& backend, const ObjectId& id,
                                             int flags = O_RDONLY) {
  return answer_of<Backend::FileHandle>([&](auto done) { backend.open(nullptr, id, flags, done); });
}
inline Result<std::string> read_file(Backend& backend, Backend::FileHandle file, uint64_t offset,
                                     uint32_t size) {
  return answer_of<std::string>(
      [&](auto done) { backend.read(nullptr, file, offset, size, done); });
}
inline Result<WriteAnswer> write_file(Backend& backend, Backend::FileHandle file, uint64_t offset,
                                      const std::string& bytes) {
  return answer_of<WriteAnswer>(
      [&](auto done) { backend.write(nullptr, file, offset, bytes, StableHow::kUnstable, done); });
}
inline Result<CreatedAnswer> create(Backend& backend, const ObjectId& parent,
                                    const std::string& name, int flags = O_RDWR | O_EXCL,
                                    uint32_t mode = 0644) {
  return answer_of<CreatedAnswer>(
      [&](auto done) { backend.create(nullptr, parent, name, mode, flags, done); });
}
inline Result<MadeAnswer> mkdir(Backend& backend, const ObjectId& parent, const std::string& name,
                                uint32_t mode = 0755) {
  return answer_of<MadeAnswer>(
      [&](auto done) { backend.mkdir(nullptr, parent, name, mode, done); });
}
inline Result<MadeAnswer> symlink(Backend& backend, const ObjectId& parent, const std::string& name,
                                  const std::string& target) {
  return answer_of<MadeAnswer>(
      [&](auto done) { backend.symlink(nullptr, parent, name, target, done); });
}
inline Result<MadeAnswer> link(Backend& backend, const ObjectId& id, const ObjectId& parent,
                               const std::string& name) {
  return answer_of<MadeAnswer>([&](auto done) { backend.link(nullptr, id, parent, name, done); });
}
inline Result<DirChange> unlink(Backend& backend, const ObjectId& parent, const std::string& name) {
  return answer_of<DirChange>([&](auto done) { backend.unlink(nullptr, parent, name, done); });
}
inline Result<DirChange> rmdir(Backend& backend, const ObjectId& parent, const std::string& name) {
  return answer_of<DirChange>([&](auto done) { backend.rmdir(nullptr, parent, name, done); });
}
inline Result<RenamedAnswer> rename(Backend& backend, const ObjectId& from_parent,
                                    const std::string& from, const ObjectId& to_parent,
                                    const std::string& to, uint32_t flags = 0) {
  return answer_of<RenamedAnswer>(
      [&](auto done) { backend.rename(nullptr, from_parent, from, to_parent, to, flags, done); });
}
inline Result<Attr> setattr(Backend& backend, const ObjectId& id, const SetAttr& set,
                            Backend::FileHandle file = 0) {
  return answer_of<Attr>([&](auto done) { backend.setattr(nullptr, id, file, set, done); });
}
inline Result<Attr> getattr_open(Backend& backend, Backend::FileHandle file) {
  return answer_of<Attr>([&](auto done) { backend.getattr_open(nullptr, file, done); });
}
inline Result<uint64_t> fsync(Backend& backend, Backend::FileHandle file) {
  return answer_of<uint64_t>([&](auto done) { backend.fsync(nullptr, file, done); });
}

// Our one descendant that runs `program`; one of an earlier connection may take a while to end.
inline pid_t process_of(const std::string& program) {
  std::vector<pid_t> found;
  const bool one = test::eventually([&] {
    found.clear();
    for (const pid_t pid : test::descendants(getpid())) {
      if (test::text_of("/proc/" + std::to_string(pid) + "/comm") == program + "\n") {
        found.push_back(pid);
      }
    }
    return found.size() == 1;
  });
  if (!one) {
    throw std::runtime_error(std::to_string(found.size()) + " of " + program + " are running");
  }
  return found.front();
}

// So that a directory's change token is not that of a young one.
inline void make_old(const std::string& path, time_t seconds = 1'000'000'000) {
  const timespec times[2] = {{.tv_sec = seconds, .tv_nsec = 0}, {.tv_sec = seconds, .tv_nsec = 0}};
  if (utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) throw std::runtime_error("utimensat");
}

struct Listed {
  std::string name;
  uint64_t ino = 0;
  uint8_t type = 0;
  Attr attr;  // where attributes were asked for
  std::string token;
};

struct Listing {
  int error = 0;
  std::vector<Listed> entries;

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    names.reserve(entries.size());
    for (const Listed& entry : entries) names.push_back(entry.name);
    return names;
  }
};

// What follows `after`, in answers of `batch`, to the end or the first error. At most `most`.
inline Listing list_after(Backend& backend, const ObjectId& directory, uint32_t batch,
                          std::string after = {}, size_t most = ~size_t{0}) {
  Listing listing;
  while (listing.entries.size() < most) {
    const DirAnswer answer = ask(backend, directory,
                                 {.after = {.cookie = 0, .bytes = after},
                                  .verifier = 0,
                                  .max_entries = static_cast<uint32_t>(
                                      std::min<size_t>(batch, most - listing.entries.size())),
                                  .want_attrs = true});
    listing.error = answer.error;
    if (answer.error != 0) return listing;
    if (!answer.well_formed() || answer.entries.size() > batch) listing.error = EPROTO;
    if (answer.entries.empty() && !answer.eof) listing.error = ELOOP;
    for (size_t i = 0; i < answer.entries.size() && listing.error == 0; ++i) {
      const DirAnswer::Entry& entry = answer.entries[i];
      after = answer.token(entry);
      listing.entries.push_back({std::string(answer.name(entry)), entry.ino, entry.type,
                                 answer.has_attrs ? answer.attrs[i] : Attr{}, after});
    }
    if (answer.eof || listing.error != 0) return listing;
  }
  return listing;
}

}  // namespace fusefs::sftp_test
