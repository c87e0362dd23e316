// A file system in memory, for as much as its options say; unmounted with the object. Needs root.
#pragma once

#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "tests/support/temp_dir.h"

namespace test {

class Tmpfs {
 public:
  explicit Tmpfs(const std::string& options) : path_(work_ / "tmpfs") {
    std::filesystem::create_directory(path_);
    if (mount("tmpfs", path_.c_str(), "tmpfs", 0, options.c_str()) != 0) {
      throw std::runtime_error("can't mount a tmpfs (which needs root): " +
                               std::string(std::strerror(errno)));
    }
  }
  ~Tmpfs() { umount2(path_.c_str(), MNT_DETACH); }
  Tmpfs(const Tmpfs&) = delete;
  Tmpfs& operator=(const Tmpfs&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  TempDir work_;
  std::string path_;
};

}  // namespace test
