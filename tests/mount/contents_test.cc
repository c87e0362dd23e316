// File contents, and the refusal of every change where the mount is read-only.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/mount.h"
#include "tests/support/raw_listing.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;

using test::Mount;
using test::put_file;
using test::TempDir;

namespace {

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  std::ostringstream text;
  if (fs::file_size(path) > 0) text << file.rdbuf();
  return text.str();
}

std::string noise(size_t bytes) {
  std::string text(bytes, '\0');
  uint64_t state = 88172645463325252u;
  for (char& c : text) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state);
  }
  return text;
}

// Equal without printing megabytes when they are not.
void check_same(const std::string& found, const std::string& expected) {
  CHECK(found.size() == expected.size());
  CHECK((found == expected));
}

void check_preads(const std::string& path, const std::string& expected) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  std::string buffer(200'000, '\0');
  for (const size_t at : {0u, 1u, 4095u, 4097u, 131071u, 1048577u, 5242879u, 5242880u, 9000000u}) {
    const ssize_t got = pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(at));
    const size_t left = at < expected.size() ? expected.size() - at : 0;
    INFO("at " << at);
    REQUIRE(got == static_cast<ssize_t>(std::min(left, buffer.size())));
    CHECK((left == 0 || expected.compare(at, static_cast<size_t>(got), buffer, 0,
                                         static_cast<size_t>(got)) == 0));
  }
  void* const mapped = mmap(nullptr, expected.size(), PROT_READ, MAP_PRIVATE, fd, 0);
  REQUIRE(mapped != MAP_FAILED);
  CHECK((std::string_view(static_cast<const char*>(mapped), expected.size()) == expected));
  munmap(mapped, expected.size());
  close(fd);
}

}  // namespace

TEST_CASE("a local file is read byte for byte") {
  TempDir source;
  const std::string large = noise(size_t{5} << 20);
  put_file(source / "empty");
  put_file(source / "one", "x");
  put_file(source / "large", large);
  const Mount mount(source.path());
  check_same(content(mount / "empty"), "");
  check_same(content(mount / "one"), "x");
  check_same(content(mount / "large"), large);
  check_preads(mount / "large", large);
}

TEST_CASE("a simulated file's content depends on the seed alone") {
  const std::string source = "sim:big=20,mix,seed=7";
  const Mount one(source);
  const Mount other(source, "cache_size=8M,ttl=0");
  const Mount stranger("sim:big=20,mix,seed=8");
  bool differs = false;
  for (const std::string& name : test::big_names(20)) {
    const std::string text = content(one / ("big/" + name));
    CHECK(text.size() == fs::file_size(one / ("big/" + name)));
    check_same(content(other / ("big/" + name)), text);
    differs = differs || content(stranger / ("big/" + name)) != text;
  }
  CHECK(differs);
  CHECK(content(one / "mix/empty-file").empty());
  const std::string largest = content(one / "mix/largest-file");
  CHECK(largest.size() == 65536);
  check_same(content(one / "mix/hard-link-1"), content(one / "mix/hard-link-2"));
  const int fd = open((one / "mix/largest-file").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  std::string part(1001, '\0');
  REQUIRE(pread(fd, part.data(), part.size(), 12345) == 1001);
  check_same(part, largest.substr(12345, 1001));
  close(fd);
}

// ---- Changes ------------------------------------------------------------------------------------

namespace {

struct Change {
  const char* what;
  int result;
  int error;
};

template <typename T>
void refused(std::vector<Change>* all, const char* what, T result) {
  all->push_back({what, static_cast<int>(result), errno});
}

std::vector<Change> try_changes(const std::string& root) {
  const std::string file = root + "/file";
  const std::string dir = root + "/dir";
  const std::string added = root + "/new";
  const char* const f = file.c_str();
  const char* const n = added.c_str();
  std::vector<Change> all;
  refused(&all, "create", open(n, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  refused(&all, "create exclusively", open(n, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644));
  refused(&all, "open to write", open(f, O_WRONLY | O_CLOEXEC));
  refused(&all, "open to read and write", open(f, O_RDWR | O_CLOEXEC));
  refused(&all, "open to append", open(f, O_WRONLY | O_APPEND | O_CLOEXEC));
  refused(&all, "open and truncate", open(f, O_WRONLY | O_TRUNC | O_CLOEXEC));
  refused(&all, "mkdir", mkdir(n, 0755));
  refused(&all, "mknod", mknod(n, S_IFREG | 0644, 0));
  refused(&all, "mkfifo", mkfifo(n, 0644));
  refused(&all, "symlink", symlink("file", n));
  refused(&all, "link", link(f, n));
  refused(&all, "unlink", unlink(f));
  refused(&all, "rmdir", rmdir(dir.c_str()));
  refused(&all, "rename", rename(f, n));
  refused(&all, "rename a directory", rename(dir.c_str(), n));
  refused(&all, "chmod", chmod(f, 0600));
  refused(&all, "chown", chown(f, 1, 1));
  refused(&all, "truncate", truncate(f, 0));
  refused(&all, "utimensat", utimensat(AT_FDCWD, f, nullptr, 0));
  refused(&all, "setxattr", setxattr(f, "user.key", "value", 5, 0));
  refused(&all, "removexattr", removexattr(f, "user.key"));
  refused(&all, "access to write", access(f, W_OK));
  return all;
}

}  // namespace

TEST_CASE("with -o ro every change is refused with EROFS") {
  TempDir source;
  put_file(source / "file", "content");
  fs::create_directory(source / "dir");
  for (const char* const options :
       {"ro", "ro,default_permissions", "ro,ttl=0", "ro,cache_size=4M"}) {
    const Mount mount(source.path(), options);
    for (const Change& change : try_changes(mount.path())) {
      INFO("-o " << options << ": " << change.what);
      // With default_permissions the kernel answers access() from the mode.
      const bool asked = std::string_view(change.what) != "access to write" ||
                         std::string_view(options).find("default") == std::string_view::npos;
      if (!asked) continue;
      CHECK(change.result == -1);
      CHECK(change.error == EROFS);
    }
    CHECK(test::differences(test::list(mount.path()), {"file", "dir"}).empty());
    CHECK(content(source / "file") == "content");
  }
}
