// A simulated remote whose calls answer as functions do, for the tests of changes.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/fusefs/backends/sim_harness.h"
#include "tests/support/set_attr.h"

namespace fusefs::sim_test {

using test::set_mode;
using test::set_size;

inline const char* const kFile3 = "file-0000000000000000003";  // in big

// A simulated remote whose calls answer as functions do.
class Sim {
 public:
  explicit Sim(const std::string& url_rest) : backend_(make_sim(url_rest)) {}
  SimBackend& operator*() { return *backend_; }
  SimBackend* operator->() { return backend_.get(); }

  auto create(const std::string& parent, const std::string& name, int flags = O_RDWR | O_EXCL,
              uint32_t mode = 0644, const CallerPtr& caller = nullptr) {
    return as<CreatedAnswer>(caller, &Backend::create, id(parent), name, mode, flags);
  }
  auto mkdir(const std::string& parent, const std::string& name, uint32_t mode = 0755,
             const CallerPtr& caller = nullptr) {
    return as<MadeAnswer>(caller, &Backend::mkdir, id(parent), name, mode);
  }
  auto mknod(const std::string& parent, const std::string& name, uint32_t mode, uint64_t rdev = 0) {
    return as<MadeAnswer>(nullptr, &Backend::mknod, id(parent), name, mode, rdev);
  }
  auto symlink(const std::string& parent, const std::string& name, const std::string& target) {
    return as<MadeAnswer>(nullptr, &Backend::symlink, id(parent), name, target);
  }
  auto link(const std::string& path, const std::string& parent, const std::string& name) {
    return as<MadeAnswer>(nullptr, &Backend::link, id(path), id(parent), name);
  }
  auto unlink(const std::string& parent, const std::string& name) {
    return as<DirChange>(nullptr, &Backend::unlink, id(parent), name);
  }
  auto rmdir(const std::string& parent, const std::string& name) {
    return as<DirChange>(nullptr, &Backend::rmdir, id(parent), name);
  }
  auto rename(const std::string& from, const std::string& name, const std::string& to,
              const std::string& new_name, uint32_t flags = 0) {
    return as<RenamedAnswer>(nullptr, &Backend::rename, id(from), name, id(to), new_name, flags);
  }
  auto setattr(const ObjectId& object, const SetAttr& set, uint64_t file = 0) {
    return as<Attr>(nullptr, &Backend::setattr, object, file, set);
  }
  auto open(const std::string& path, int flags) {
    return as<uint64_t>(nullptr, &Backend::open, id(path), flags);
  }
  auto read(uint64_t file, uint64_t offset, uint32_t size) {
    return as<std::string>(nullptr, &Backend::read, file, offset, size);
  }
  auto write(uint64_t file, uint64_t offset, const std::string& bytes,
             StableHow how = StableHow::kUnstable) {
    return as<WriteAnswer>(nullptr, &Backend::write, file, offset, bytes, how);
  }
  auto fsync(uint64_t file) { return as<uint64_t>(nullptr, &Backend::fsync, file); }
  auto getattr_open(uint64_t file) { return as<Attr>(nullptr, &Backend::getattr_open, file); }
  auto fallocate(uint64_t file, int mode, uint64_t offset, uint64_t length) {
    return as<Nothing>(nullptr, &Backend::fallocate, file, mode, offset, length);
  }
  auto copy(uint64_t from, uint64_t from_offset, uint64_t to, uint64_t to_offset, uint64_t length) {
    return as<uint64_t>(nullptr, &Backend::copy_range, from, from_offset, to, to_offset, length);
  }
  template <typename T, typename Method, typename... Args>
  Result<T> as(const CallerPtr& caller, Method method, const Args&... args) {
    Pending<Result<T>> pending;
    ((*backend_).*method)(caller, args..., pending.completion());
    return pending.get();
  }

  ObjectId id(const std::string& path) { return backend_->id_of(path); }
  Attr attr(const std::string& path) { return backend_->present_attr(id(path)).value(); }
  bool exists(const std::string& path) { return !id(path).empty(); }
  uint64_t token(const std::string& path) { return attr(path).change; }
  std::vector<std::string> names(const std::string& path) {
    return names_of(backend_->contents(id(path)));
  }

 private:
  std::unique_ptr<SimBackend> backend_;
};

}  // namespace fusefs::sim_test
