// Changes through an NFS back end that are waited for, and a directory of a served export.
//
// Thread-safety:  one test at a time.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "tests/nfs/nfs_rig.h"
#include "tests/support/ganesha.h"

namespace test {

using fusefs::CreatedAnswer;
using fusefs::DirChange;
using fusefs::MadeAnswer;
using fusefs::RenamedAnswer;
using fusefs::SetAttr;
using fusefs::WriteAnswer;

// One server for all tests that don't restart it.
inline Ganesha& change_server() {
  static Ganesha instance;
  return instance;
}

inline const std::string& change_version() {
  static const std::string chosen = [] {
    const char* const given = std::getenv("COOKIEFS_NFS_VERSION");
    return std::string(given != nullptr ? given : "3");
  }();
  return chosen;
}

// A directory of an export that everybody may write to, gone with the test.
class WritableDir {
 public:
  WritableDir(const std::string& exported, const std::string& name)
      : name_(name), path_(change_server().directory(exported) + "/" + name) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
    chmod(path_.c_str(), 0777);
  }
  ~WritableDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  WritableDir(const WritableDir&) = delete;
  WritableDir& operator=(const WritableDir&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] struct stat stat_of(const std::string& name) const {
    struct stat status = {};
    if (lstat((path_ + "/" + name).c_str(), &status) != 0) status.st_nlink = 0;
    return status;
  }
  [[nodiscard]] bool has(const std::string& name) const { return stat_of(name).st_nlink != 0; }

 private:
  const std::string name_;
  const std::string path_;
};

class ChangeRig : public NfsRig {
 public:
  explicit ChangeRig(const std::string& exported, uint16_t port = 0,
                     const fusefs::BackendOptions& options = {})
      : NfsRig(change_server().url("/" + exported, port, change_version()), options) {}

  ChangeRig(const Ganesha& server, const std::string& exported)
      : NfsRig(server.url("/" + exported, 0, change_version())) {}

  using File = Backend::FileHandle;

  Result<CreatedAnswer> create(const ObjectId& parent, const std::string& name,
                               uint32_t mode = 0644, int flags = O_RDWR | O_EXCL,
                               const CallerPtr& who = nullptr) {
    return wait<CreatedAnswer>(
        [&](auto done) { backend().create(who, parent, name, mode, flags, done); });
  }
  Result<MadeAnswer> mkdir(const ObjectId& parent, const std::string& name, uint32_t mode = 0755,
                           const CallerPtr& who = nullptr) {
    return wait<MadeAnswer>([&](auto done) { backend().mkdir(who, parent, name, mode, done); });
  }
  Result<MadeAnswer> mknod(const ObjectId& parent, const std::string& name, uint32_t mode,
                           uint64_t rdev = 0) {
    return wait<MadeAnswer>(
        [&](auto done) { backend().mknod(nullptr, parent, name, mode, rdev, done); });
  }
  Result<MadeAnswer> symlink(const ObjectId& parent, const std::string& name,
                             const std::string& target, const CallerPtr& who = nullptr) {
    return wait<MadeAnswer>([&](auto done) { backend().symlink(who, parent, name, target, done); });
  }
  Result<MadeAnswer> link(const ObjectId& id, const ObjectId& parent, const std::string& name) {
    return wait<MadeAnswer>([&](auto done) { backend().link(nullptr, id, parent, name, done); });
  }
  Result<DirChange> unlink(const ObjectId& parent, const std::string& name,
                           const CallerPtr& who = nullptr) {
    return wait<DirChange>([&](auto done) { backend().unlink(who, parent, name, done); });
  }
  Result<DirChange> rmdir(const ObjectId& parent, const std::string& name) {
    return wait<DirChange>([&](auto done) { backend().rmdir(nullptr, parent, name, done); });
  }
  Result<RenamedAnswer> rename(const ObjectId& from, const std::string& from_name,
                               const ObjectId& to, const std::string& to_name, uint32_t flags = 0) {
    return wait<RenamedAnswer>(
        [&](auto done) { backend().rename(nullptr, from, from_name, to, to_name, flags, done); });
  }
  Result<Attr> setattr(const ObjectId& id, const SetAttr& set, File file = 0,
                       const CallerPtr& who = nullptr) {
    return wait<Attr>([&](auto done) { backend().setattr(who, id, file, set, done); });
  }
  Result<WriteAnswer> write(File file, uint64_t offset, const std::string& bytes,
                            const CallerPtr& who = nullptr,
                            cache::StableHow how = cache::StableHow::kUnstable) {
    return wait<WriteAnswer>(
        [&](auto done) { backend().write(who, file, offset, bytes, how, done); });
  }
  Result<uint64_t> fsync(File file) {
    return wait<uint64_t>([&](auto done) { backend().fsync(nullptr, file, done); });
  }
  Result<Attr> getattr_open(File file) {
    return wait<Attr>([&](auto done) { backend().getattr_open(nullptr, file, done); });
  }
};

}  // namespace test
