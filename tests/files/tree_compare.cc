#include "tests/files/tree_compare.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace files {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

std::string failed(const char* call) { return std::string(call) + ": " + std::strerror(errno); }

// Empty: read. Else why not.
std::string read_file(const std::string& path, std::string* data) {
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return failed("open");
  data->clear();
  std::vector<char> buffer(size_t{256} << 10);
  for (;;) {
    const ssize_t got = read(file.get(), buffer.data(), buffer.size());
    if (got < 0) return failed("read");
    if (got == 0) return {};
    data->append(buffer.data(), static_cast<size_t>(got));
  }
}

std::string target_of(const std::string& path) {
  char target[4096];
  const ssize_t got = readlink(path.c_str(), target, sizeof target);
  return got < 0 ? failed("readlink") : std::string(target, static_cast<size_t>(got));
}

// Names only; an error's text instead.
std::string names_of(const std::string& path, std::vector<std::string>* names) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (!dir) return failed("opendir");
  errno = 0;
  while (const dirent* const entry = readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names->push_back(name);
    errno = 0;
  }
  return errno != 0 ? failed("readdir") : std::string();
}

std::string listings_difference(const Profile& profile, const std::string& tested,
                                const std::string& native) {
  std::string lists[2];
  const std::string* const paths[2] = {&tested, &native};
  for (int i = 0; i < 2; ++i) {
    const Fd fd(open(paths[i]->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) return failed("open");
    if (const int error = list_directory(fd.get(), size_t{64} << 10, &lists[i]); error != 0) {
      return std::string("getdents64: ") + std::strerror(error);
    }
  }
  return listing_difference(profile, lists[0], lists[1]);
}

std::string content_difference(const std::string& tested, const std::string& native) {
  std::string ours;
  std::string theirs;
  for (const auto& [path, data] : {std::pair{&tested, &ours}, {&native, &theirs}}) {
    const std::string problem = read_file(*path, data);
    if (!problem.empty()) return problem;
  }
  return data_difference(ours, theirs);
}

}  // namespace

std::string tree_difference(const Profile& profile, const std::string& tested,
                            const std::string& native) {
  struct stat ours {};
  struct stat theirs {};
  const auto at = [&](const std::string& text) {
    return text.empty() ? text : "'" + tested + "': " + text;
  };
  if (lstat(native.c_str(), &theirs) != 0) return "native '" + native + "': " + failed("lstat");
  if (lstat(tested.c_str(), &ours) != 0) return at(failed("lstat"));
  const std::string attrs = attr_difference(profile, ours, theirs);
  if (!attrs.empty()) return at(attrs);
  if (S_ISREG(theirs.st_mode)) return at(content_difference(tested, native));
  if (S_ISLNK(theirs.st_mode)) return at(data_difference(target_of(tested), target_of(native)));
  if (!S_ISDIR(theirs.st_mode)) return {};
  const std::string listings = listings_difference(profile, tested, native);
  if (!listings.empty()) return at(listings);
  std::vector<std::string> names;
  const std::string problem = names_of(native, &names);
  if (!problem.empty()) return "native '" + native + "': " + problem;
  for (const std::string& name : names) {
    std::string found = tree_difference(profile, tested + "/" + name, native + "/" + name);
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace files
