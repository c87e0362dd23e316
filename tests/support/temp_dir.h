// A directory that goes away with the test. Nothing may be mounted in it by then: it is removed
// file by file.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace test {

class TempDir {
 public:
  TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "cookiefs_test.XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("can't make " + name);
    chmod(name.c_str(), 0755);  // other users take part in some tests
    path_ = std::filesystem::canonical(name);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(std::string_view name) const {
    return path_ + "/" + std::string(name);
  }

 private:
  std::string path_;
};

// Makes or replaces a file.
inline void put_file(const std::string& path, std::string_view content = {}) {
  // One call where there are to be many thousands, none of them there yet.
  if (content.empty() && mknod(path.c_str(), S_IFREG | 0644, 0) == 0) return;
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const auto size = static_cast<ssize_t>(content.size());
  const bool written = fd >= 0 && write(fd, content.data(), content.size()) == size;
  if (fd >= 0) close(fd);
  if (!written) throw std::runtime_error("can't write " + path);
}

// A file's content; empty where there is none.
inline std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace test
