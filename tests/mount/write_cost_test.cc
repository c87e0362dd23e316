// How many requests it takes: bounds that do not depend on the machine.
//
// COOKIEFS_RM_FILES: how many files are removed over SFTP (default 6000).

#include <sys/mman.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "tests/mount/write_rig.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace fs = std::filesystem;

using test::Fd;
using test::kMiB;
using test::Mounted;
using test::noise;
using test::put_file;
using test::read_file;
using test::Remote;
using test::write_file;

namespace {

// Has the kernel forget the file's pages, so that it asks the daemon again. Whoever counts what the
// daemon then asks the remote keeps the file itself from being forgotten, as a kernel short of
// memory may do.
void forget_pages(const std::string& path) {
  const Fd file(path, O_RDONLY);
  REQUIRE(posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
}

// A file's bytes through a new open, by read or by a mapping.
std::string read_anew(const std::string& path, bool mapped) {
  if (!mapped) return read_file(path);
  const Fd file(path, O_RDONLY);
  REQUIRE(file.error() == 0);
  const auto size = static_cast<size_t>(test::status_of(path).st_size);
  void* const memory = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  REQUIRE(memory != MAP_FAILED);
  std::string text(static_cast<const char*>(memory), size);
  munmap(memory, size);
  return text;
}

void check_removal(const std::string& kind, uint64_t files) {
  INFO(kind << ", " << files << " files");
  const Remote remote(kind);
  Mounted mount(remote);
  const std::string top = mount / "tree";
  const std::string made = remote.directory().empty() ? top : remote / "tree";
  fs::create_directory(made);
  for (uint64_t i = 0; i < files; ++i) {
    // Half of them in one directory, the rest in many.
    const std::string directory = made + (i % 2 == 0 ? "/wide" : "/d" + std::to_string(i % 99));
    if (i < 200) fs::create_directory(directory);
    put_file(directory + "/file-" + std::to_string(i));
  }
  const int64_t before = mount.figure("remote.requests");
  CHECK(test::run_command("rm -r '" + top + "'") == "");
  const int64_t asked = mount.figure("remote.requests") - before;
  CHECK(asked <= static_cast<int64_t>(4 * files + 1000));
  CHECK(access(top.c_str(), F_OK) != 0);
  if (!remote.directory().empty()) CHECK_FALSE(fs::exists(remote / "tree"));
  CHECK(mount.end() == "");
}

}  // namespace

TEST_CASE("write: what was read is read again without the remote") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    const std::string text = noise(1, 2 * kMiB);
    put_file(remote / "file", text);
    Mounted mount(remote, "ttl=1h");
    Fd kept(mount / "file", O_PATH);
    const bool first = read_file(mount / "file") == text;
    CHECK(first);
    // A file that is not older than a tick of its server's clock is not trusted at the next open.
    std::this_thread::sleep_for(std::chrono::milliseconds(1'100));
    const bool second = read_file(mount / "file") == text;
    CHECK(second);
    const int64_t asked = mount.figure("remote_latency.read.count");
    CHECK(asked > 0);
    for (int i = 0; i < 3; ++i) {
      forget_pages(mount / "file");
      const int64_t reads = mount.figure("request_latency.read.count");
      const bool same = read_file(mount / "file") == text;
      CHECK(same);
      CHECK(mount.figure("request_latency.read.count") > reads);
    }
    CHECK(mount.figure("remote_latency.read.count") == asked);
    CHECK(kept.shut() == 0);
    CHECK(mount.end() == "");
  }
}

// By read and by mappings of it, whoever wrote it.
TEST_CASE("write: what the kernel holds of a file is read again without the daemon") {
  const std::string text = noise(4, 3 * kMiB + 5);
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    std::vector<std::string> names = {"own", "own-mapped"};
    if (!remote.directory().empty()) {
      for (const std::string name : {"other", "other-mapped"}) {
        put_file(remote / name, text);
        names.push_back(name);
      }
    }
    Mounted mount(remote, "ttl=1h");
    const auto asked = [&] { return mount.figure("request_latency.read.count"); };
    const auto reads_well = [&](const std::string& name) {
      return read_anew(mount / name, name.ends_with("-mapped")) == text;
    };
    std::vector<std::unique_ptr<Fd>> kept;
    for (const std::string& name : names) {
      INFO(name);
      if (name.starts_with("own")) {
        REQUIRE(write_file(mount / name, text) == 0);
        forget_pages(mount / name);
      }
      kept.push_back(std::make_unique<Fd>(mount / name, O_PATH));
      const int64_t before = asked();
      CHECK(reads_well(name));
      CHECK(asked() > before);
    }
    // A file that is not older than a tick of its server's clock is not trusted at the next open.
    std::this_thread::sleep_for(std::chrono::milliseconds(1'100));
    for (const std::string& name : names) {
      INFO(name);
      CHECK(reads_well(name));
      const int64_t before = asked();
      for (int i = 0; i < 3; ++i) CHECK(reads_well(name));
      CHECK(asked() == before);
    }
    kept.clear();
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: what was written is read without the remote") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=1h");
    const std::string text = noise(2, 2 * kMiB + 5);
    REQUIRE(write_file(mount / "file", text) == 0);
    Fd kept(mount / "file", O_PATH);
    forget_pages(mount / "file");
    const bool same = read_file(mount / "file") == text;
    CHECK(same);
    CHECK(mount.figure("remote_latency.read.count") == 0);
    CHECK(kept.shut() == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: small writes go to the remote in large requests") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    const std::string text = noise(3, 4 * kMiB);
    Fd file(mount / "file", O_WRONLY | O_CREAT);
    for (size_t at = 0; at < text.size(); at += 1'000) {
      REQUIRE(file.write(text.substr(at, 1'000), at) == 0);
    }
    CHECK(file.shut() == 0);
    // 4,195 writes of a program.
    CHECK(mount.figure("remote_latency.write.count") < 600);
    const bool same = read_file(mount / "file") == text;
    CHECK(same);
    CHECK(mount.end() == "");
  }
}

// As tar does it: the data, times, owner and mode go together.
TEST_CASE("write: a file is made and told of in two requests besides its data") {
  for (const std::string kind : {"sim", "sftp", "nfs3", "nfs4"}) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    constexpr int kFiles = 10;
    const int64_t before = mount.figure("remote_latency.change.count");
    for (int i = 0; i < kFiles; ++i) {
      Fd file(mount / ("file-" + std::to_string(i)), O_WRONLY | O_CREAT | O_EXCL, 0600);
      REQUIRE(file.write("content") == 0);
      const timespec times[] = {{.tv_sec = 1'000'000'000, .tv_nsec = 0},
                                {.tv_sec = 1'100'000'000, .tv_nsec = 0}};
      REQUIRE(futimens(file.get(), times) == 0);
      REQUIRE(fchown(file.get(), getuid(), getgid()) == 0);
      REQUIRE(fchmod(file.get(), 0644) == 0);
      REQUIRE(file.shut() == 0);
    }
    CHECK(mount.figure("remote_latency.change.count") - before == int64_t{2} * kFiles);
    CHECK(mount.end() == "");
  }
}

// The kernel looks for each name before it has a file made. (The NFS server at hand says nothing of
// the parent's state before and after when a directory is made, and in version 4 not that the two
// belong together.)
TEST_CASE("write: what is made in a directory that we have made is looked for here") {
  for (const std::string kind : {"sim", "sftp", "nfs3"}) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=1h");
    REQUIRE(mkdir((mount / "made").c_str(), 0755) == 0);
    const int64_t before = mount.figure("remote_latency.lookup.count");
    for (int i = 0; i < 20; ++i) {
      const std::string name = mount / ("made/" + std::to_string(i));
      if (i % 4 == 0 && kind != "nfs3") {
        REQUIRE(mkdir(name.c_str(), 0755) == 0);
      } else {
        REQUIRE(write_file(name, "content") == 0);
      }
    }
    CHECK(mount.figure("remote_latency.lookup.count") == before);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: rm -r asks a bounded number of requests for each file") {
  const char* const given = std::getenv("COOKIEFS_RM_FILES");
  check_removal("sftp", given != nullptr ? std::strtoull(given, nullptr, 10) : test::scaled(6'000));
  check_removal("sim", test::scaled(2'000));
#ifdef COOKIEFS_HAVE_NFS
  check_removal("nfs3", test::scaled(2'000));
  check_removal("nfs4", test::scaled(2'000));
#endif
  check_removal("local", test::scaled(2'000));
}
