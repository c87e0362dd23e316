// The ends of mounts and of files: what is unwritten then, and what has no name any more.

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/mount/write_rig.h"
#include "tests/support/raw_listing.h"
#include "tests/support/ssh_server.h"

namespace fs = std::filesystem;

using test::Fd;
using test::list;
using test::Mount;
using test::Mounted;
using test::noise;
using test::read_file;
using test::Remote;
using test::wait_until;
using test::write_file;

namespace {

// Files with content of their own, closed, none of them synced.
std::vector<std::string> write_files(const std::string& directory, size_t count) {
  std::vector<std::string> contents;
  for (size_t i = 0; i < count; ++i) {
    contents.push_back(noise(i, 20'000 * i + 1));
    REQUIRE(write_file(directory + "/file-" + std::to_string(i), contents.back()) == 0);
  }
  return contents;
}

size_t wrong_files(const std::string& directory, const std::vector<std::string>& contents) {
  size_t wrong = 0;
  for (size_t i = 0; i < contents.size(); ++i) {
    wrong += read_file(directory + "/file-" + std::to_string(i)) == contents[i] ? 0 : 1;
  }
  return wrong;
}

// As the kernel tells it.
nlink_t links_of(const std::string& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status.st_nlink;
}

// What a directory lists, without the names that only hide what was removed.
size_t names_in(const std::string& directory) {
  const auto entries = list(directory);
  return static_cast<size_t>(std::count_if(entries.begin(), entries.end(), [](const auto& entry) {
    return !entry.name.starts_with(".");
  }));
}

}  // namespace

TEST_CASE("write: unmounting writes everything") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    for (const std::string options : {"", "writeback_cache"}) {
      INFO(kind << ", -o " << options);
      const Remote remote(kind);
      Mounted mount(remote, options);
      const auto contents = write_files(mount.path(), 12);
      CHECK(mount.end() == "");
      CHECK(wrong_files(remote.directory(), contents) == 0);
    }
  }
}

TEST_CASE("write: a mapping's last bytes are written by unmounting") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    REQUIRE(write_file(mount / "file", std::string(10'000, 'x')) == 0);
    {
      const Fd file(mount / "file", O_RDWR);
      void* const memory = mmap(nullptr, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
      REQUIRE(memory != MAP_FAILED);
      static_cast<char*>(memory)[9'999] = 'y';
      static_cast<char*>(memory)[0] = 'z';
      munmap(memory, 10'000);
    }
    CHECK(mount.end() == "");
    CHECK(read_file(remote / "file") == "z" + std::string(9'998, 'x') + "y");
  }
}

TEST_CASE("write: SIGTERM writes everything, of open files too") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    const auto contents = write_files(mount.path(), 6);
    Fd open_file(mount / "open", O_RDWR | O_CREAT);
    const std::string text = noise(9, 500'000);
    REQUIRE(open_file.write(text) == 0);
    mount.begin_end(Mount::How::kSignal);
    // The kernel's own way: what is open stays until it is closed, or fails.
    open_file.shut();
    CHECK(mount.finish_end() == "");
    CHECK(wrong_files(remote.directory(), contents) == 0);
    const bool same = read_file(remote / "open") == text;
    CHECK(same);
  }
}

TEST_CASE("write: what fsync has confirmed outlives the daemon's SIGKILL") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    const std::string text = noise(4, 700'001);
    Fd file(mount / "file", O_RDWR | O_CREAT);
    REQUIRE(file.write(text) == 0);
    REQUIRE(file.sync() == 0);
    const int directory = open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fsync(directory) == 0);
    close(directory);
    REQUIRE(file.write(noise(5, 100'000), text.size()) == 0);
    mount.kill_daemon();
    const bool same = read_file(remote / "file").substr(0, text.size()) == text;
    CHECK(same);
  }
}

TEST_CASE("write: sftp: fsync has the server put the file on its disk, where it offers that") {
  const std::string wrote = "write file\n";
  const std::string asked = "fsync@openssh.com file\n";
  const test::TempDir work;
  for (const std::string mode : {"fsync", "fsync-refused", "nothing-else"}) {
    INFO(mode);
    const std::string log = work / mode;
    // What is asked of the file alone.
    const auto told = [&] {
      std::istringstream lines(test::text_of(log));
      std::string all;
      for (std::string line; std::getline(lines, line);) {
        if (line.ends_with(" file") && !line.starts_with("fstatvfs")) all += line + "\n";
      }
      return all;
    };
    Mount mount("sftp://liar/", test::logging_sftp_server(mode, log) + ",ttl=1h");
    const bool offered = mode != "nothing-else";
    const bool refused = mode == "fsync-refused";
    Fd file(mount / "entry-00001", O_RDWR);
    REQUIRE(file.error() == 0);
    REQUIRE(file.write("content") == 0);
    CHECK(file.sync() == (refused ? EIO : 0));
    CHECK(told() == wrote + (offered ? asked : ""));
    // Close alone has it written there, and no more.
    REQUIRE(file.write("CONTENT") == 0);
    CHECK(file.shut() == 0);
    CHECK(told() == wrote + (offered ? asked : "") + wrote);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: a file that is removed while it is open is there until it is closed") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "cache_size=4M");
    REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
    const std::string text = noise(7, 300'000);
    {
      const Fd file(mount / "d/file", O_RDWR | O_CREAT);
      REQUIRE(file.error() == 0);
      REQUIRE(file.write(text) == 0);
      REQUIRE(unlink((mount / "d/file").c_str()) == 0);
      CHECK(names_in(mount / "d") == 0);
      CHECK(Fd(mount / "d/file", O_RDONLY).error() == ENOENT);
      mount.drop();
      posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
      const bool same = file.read() == text;
      CHECK(same);
      // Under its old name there may be another.
      REQUIRE(write_file(mount / "d/file", "another") == 0);
      REQUIRE(file.write("more", text.size()) == 0);
      CHECK(file.sync() == 0);
      CHECK(ftruncate(file.get(), 4) == 0);
      CHECK(file.read() == text.substr(0, 4));
      CHECK(read_file(mount / "d/file") == "another");
      REQUIRE(unlink((mount / "d/file").c_str()) == 0);
    }
    if (!remote.directory().empty()) {
      CHECK(wait_until([&] { return fs::is_empty(remote / "d"); }));
    }
    CHECK(wait_until([&] { return rmdir((mount / "d").c_str()) == 0; }));
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: an open file is there until it is closed, whichever of its names goes last") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote);
    REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
    REQUIRE(write_file(mount / "d/file", "content") == 0);
    REQUIRE(link((mount / "d/file").c_str(), (mount / "other").c_str()) == 0);
    {
      const Fd file(mount / "d/file", O_RDONLY);
      REQUIRE(unlink((mount / "d/file").c_str()) == 0);
      REQUIRE(unlink((mount / "other").c_str()) == 0);
      CHECK(file.read() == "content");
      struct stat status {};
      CHECK(fstat(file.get(), &status) == 0);
    }
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: a directory that is removed while it is open keeps its attributes") {
  for (const std::string& kind : test::remote_kinds()) {
    for (const auto& [options, listed, replaced] :
         std::vector<std::tuple<std::string, bool, bool>>{{"ttl=0", true, false},
                                                          {"ttl=1h", true, false},
                                                          {"ttl=0", false, false},
                                                          {"ttl=1h", false, true},
                                                          {"ttl=0", false, true}}) {
      INFO(kind << ", -o " << options << ", listed " << listed << ", replaced " << replaced);
      const Remote remote(kind);
      Mounted mount(remote, options);
      REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
      {
        const Fd directory(mount / "d", O_RDONLY | O_DIRECTORY);
        REQUIRE(directory.error() == 0);
        if (listed) CHECK(names_in(mount.path()) > 0);  // tells which object the name is
        // Its attributes are other ones now.
        REQUIRE(write_file(mount / "d/file", "text") == 0);
        REQUIRE(unlink((mount / "d/file").c_str()) == 0);
        if (!replaced) REQUIRE(rmdir((mount / "d").c_str()) == 0);
        // Under its name there may be another, which is not touched.
        const std::string other = mount / (replaced ? "other" : "d");
        REQUIRE(mkdir(other.c_str(), 0711) == 0);
        if (replaced) REQUIRE(rename(other.c_str(), (mount / "d").c_str()) == 0);
        struct stat status {};
        REQUIRE(fstat(directory.get(), &status) == 0);
        CHECK(status.st_nlink == 0);
        CHECK((status.st_mode & 07777) == 0755);
        CHECK(fchmod(directory.get(), 0700) == 0);
        REQUIRE(fstat(directory.get(), &status) == 0);
        CHECK((status.st_mode & 07777) == 0700);
        REQUIRE(stat((mount / "d").c_str(), &status) == 0);
        CHECK((status.st_mode & 07777) == 0711);
      }
      CHECK(mount.end() == "");
    }
  }
}

TEST_CASE("write: a FIFO that is removed while it is open keeps its attributes") {
  for (const std::string& kind : test::remote_kinds()) {
    if (kind == "sftp") continue;  // has none
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=1h");
    REQUIRE(mkfifo((mount / "fifo").c_str(), 0640) == 0);
    {
      const Fd fifo(mount / "fifo", O_RDWR);
      REQUIRE(fifo.error() == 0);
      CHECK(names_in(mount.path()) > 0);  // tells which object the name is
      REQUIRE(unlink((mount / "fifo").c_str()) == 0);
      CHECK(fchmod(fifo.get(), 0600) == 0);
      const timespec times[2] = {{.tv_sec = 1'000'000, .tv_nsec = 0},
                                 {.tv_sec = 2'000'000, .tv_nsec = 0}};
      CHECK(futimens(fifo.get(), times) == 0);
      struct stat status {};
      REQUIRE(fstat(fifo.get(), &status) == 0);
      CHECK((status.st_mode & 07777) == 0600);
      CHECK(status.st_mtim.tv_sec == 2'000'000);
    }
    CHECK(mount.end() == "");
  }
}

TEST_CASE("write: a name that goes and stands in no listing is missing in the count of links") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "ttl=1h");
    REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
    REQUIRE(symlink("target", (mount / "soft").c_str()) == 0);
    REQUIRE(link((mount / "soft").c_str(), (mount / "d/other").c_str()) == 0);
    mount.drop();
    REQUIRE(unlink((mount / "d/other").c_str()) == 0);
    struct stat status {};
    REQUIRE(lstat((mount / "soft").c_str(), &status) == 0);
    CHECK(status.st_nlink == 1);
    CHECK(mount.end() == "");
  }
}

// The kernel itself counts down with each name that goes, and refuses a further name to a file that
// it believes has none.
TEST_CASE("write: a file whose first name has gone gets another one by the name that is left") {
  for (const std::string& kind : test::remote_kinds()) {
    for (const bool listed : {false, true}) {
      INFO(kind << (listed ? ", listed before" : ""));
      const Remote remote(kind);
      Mounted mount(remote, "ttl=1h,readdirplus=yes");
      REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
      REQUIRE(write_file(mount / "d/first", "content") == 0);
      {
        // So that the daemon keeps what it knows of the names when it drops its caches.
        const Fd file(mount / "d/first", O_RDONLY);
        REQUIRE(link((mount / "d/first").c_str(), (mount / "d/second").c_str()) == 0);
        CHECK(links_of(mount / "d/second") == 2);
        if (listed) {
          mount.drop();
          CHECK(names_in(mount / "d") == 2);
        }
        CHECK(links_of(mount / "d/first") == 2);
        REQUIRE(unlink((mount / "d/first").c_str()) == 0);
        CHECK(link((mount / "d/second").c_str(), (mount / "d/third").c_str()) == 0);
        CHECK(links_of(mount / "d/third") == 2);
        CHECK(read_file(mount / "d/third") == "content");
      }
      CHECK(mount.end() == "");
    }
  }
}

TEST_CASE("write: a file that another is renamed over is there until it is closed") {
  for (const std::string& kind : test::remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    Mounted mount(remote, "cache_size=4M");
    REQUIRE(mkdir((mount / "d").c_str(), 0755) == 0);
    REQUIRE(write_file(mount / "d/old", "old content") == 0);
    REQUIRE(write_file(mount / "d/new", "new") == 0);
    {
      const Fd old(mount / "d/old", O_RDWR);
      const Fd fresh(mount / "d/new", O_RDWR);
      REQUIRE(rename((mount / "d/new").c_str(), (mount / "d/old").c_str()) == 0);
      CHECK(names_in(mount / "d") == 1);
      CHECK(read_file(mount / "d/old") == "new");
      mount.drop();
      CHECK(old.read() == "old content");
      // And the one that has moved is reached where it is.
      REQUIRE(fresh.write(" and more", 3) == 0);
      CHECK(fresh.sync() == 0);
      CHECK(read_file(mount / "d/old") == "new and more");
      REQUIRE(rename((mount / "d").c_str(), (mount / "e").c_str()) == 0);
      REQUIRE(fresh.write("!", 12) == 0);
      CHECK(fresh.sync() == 0);
    }
    CHECK(read_file(mount / "e/old") == "new and more!");
    CHECK(mount.end() == "");
    if (!remote.directory().empty()) {
      CHECK(read_file(remote / "e/old") == "new and more!");
      CHECK(std::distance(fs::directory_iterator(remote / "e"), fs::directory_iterator()) == 1);
    }
  }
}

TEST_CASE("write: a mount that is read-only flushes nothing and refuses all") {
  for (const std::string& kind : test::shared_remote_kinds()) {
    INFO(kind);
    const Remote remote(kind);
    test::put_file(remote / "file", "content");
    Mounted mount(remote, "ro");
    CHECK(write_file(mount / "new", "x") == EROFS);
    CHECK(Fd(mount / "file", O_RDWR).error() == EROFS);
    CHECK(unlink((mount / "file").c_str()) == -1);
    CHECK(errno == EROFS);
    CHECK(read_file(mount / "file") == "content");
    CHECK(mount.end() == "");
    CHECK(read_file(remote / "file") == "content");
  }
}
