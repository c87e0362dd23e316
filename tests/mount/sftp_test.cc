// Mounts of real sshd and sftp-server on loopback: listings, changes by others, deaths, cut
// networks, and servers that lie.
//
// COOKIEFS_SFTP_ENTRIES: names in the large directory (default 20000).
// COOKIEFS_SFTP_CUT: seconds for which the network is cut (default 1 and 5).

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <thread>

#include "tests/support/delay_proxy.h"
#include "tests/support/mount.h"
#include "tests/support/random.h"
#include "tests/support/raw_listing.h"
#include "tests/support/ssh_server.h"

namespace fs = std::filesystem;

using test::Child;
using test::DelayProxy;
using test::differences;
using test::list;
using test::Mount;
using test::Others;
using test::RawDir;
using test::RawEntry;
using test::SshServer;
using test::TempDir;
using test::text_of;
using test::wait_until;

namespace {

size_t number_from(const char* variable, size_t otherwise) {
  const char* const given = std::getenv(variable);
  return given != nullptr ? std::strtoul(given, nullptr, 10) : otherwise;
}

std::vector<std::string> make_files(const std::string& directory, size_t count,
                                    const std::string& prefix = "a-name-of-usual-size-") {
  fs::create_directories(directory);
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    names.push_back(prefix + std::string(7 - number.size(), '0') + number);
    test::put_file(directory + "/" + names.back());
  }
  return names;
}

// One for all tests that leave it listening, with its keys.
SshServer& ssh_server() {
  static SshServer server;
  return server;
}

DelayProxy::Options through(const SshServer& server, std::chrono::milliseconds rtt) {
  DelayProxy::Options options;
  options.target_port = server.port();
  options.rtt = rtt;
  return options;
}

// Reads on after errors, as often as it takes.
int read_on(RawDir& dir, std::vector<RawEntry>* entries, size_t buffer = 32768) {
  int failures = 0;
  while (dir.read_all(buffer, entries) < 0) {
    if (++failures > 1000) return -1;
  }
  return failures;
}

std::string daemon_binary() {
  const char* const given = std::getenv("COOKIEFS_BIN");
  return given != nullptr ? given : fs::read_symlink("/proc/self/exe").parent_path() / "cookiefs";
}

}  // namespace

TEST_CASE("sftp: a large directory is listed whole, cold and warm, with attributes") {
  const TempDir data;
  const auto names = make_files(data / "big", number_from("COOKIEFS_SFTP_ENTRIES", 20'000));
  const SshServer& server = ssh_server();
  // However long the listings take here, the attributes that came with them are still good.
  Mount mount(server.url(data.path()), "readdirplus=yes,ttl=1h," + server.options());
  for (const size_t buffer : {32'768u, 1'000u, 1'000'000u}) {
    CHECK(differences(list(mount / "big", buffer), names).empty());
  }
  const int64_t requests = mount.figure("remote.requests");
  struct stat seen {
  }, real{};
  for (size_t i = 0; i < 50; ++i) {
    REQUIRE(stat((mount / ("big/" + names[i])).c_str(), &seen) == 0);
    REQUIRE(stat((data / ("big/" + names[i])).c_str(), &real) == 0);
    CHECK(seen.st_mode == real.st_mode);
    CHECK(seen.st_mtime == real.st_mtime);
  }
  CHECK(mount.figure("remote.requests") == requests);
  CHECK(mount.end() == "");
}

TEST_CASE("sftp: through a cache that is far too small, by several listers") {
  const TempDir data;
  const auto names = make_files(data / "big", 30'000);
  const SshServer& server = ssh_server();
  Mount mount(server.url(data.path()), "cache_size=1M," + server.options());
  std::atomic<int> wrong{0};
  std::vector<std::thread> listers;
  for (size_t i = 0; i < 4; ++i) {
    listers.emplace_back([&, i] {
      std::vector<RawEntry> entries;
      RawDir dir(mount / "big");
      if (dir.read_all(i % 2 == 0 ? 4096 : 100'000, &entries) < 0) ++wrong;
      if (!differences(entries, names).empty()) ++wrong;
    });
  }
  for (std::thread& lister : listers) lister.join();
  CHECK(wrong == 0);
  CHECK(mount.figure("reclaim.pages") > 0);
  CHECK(mount.end() == "");
}

TEST_CASE("sftp: trees, contents, links and what the file system tells") {
  const TempDir data;
  for (int i = 0; i < 30; ++i) make_files(data / ("tree/d" + std::to_string(i)), 20);
  std::string content(1'500'000, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 + i / 1000);
  test::put_file(data / "content", content);
  REQUIRE(symlink("tree/d1", (data / "link").c_str()) == 0);
  const SshServer& server = ssh_server();
  Mount mount(server.url(data.path()), server.options());
  size_t found = 0;
  for (const auto& entry : fs::recursive_directory_iterator(mount / "tree")) {
    found += entry.is_regular_file() ? 1 : 0;
  }
  CHECK(found == 600);
  const bool same_content = text_of(mount / "content") == content;
  CHECK(same_content);
  CHECK(fs::read_symlink(mount / "link") == "tree/d1");
  CHECK(list(mount / "link").size() == 22);
  struct statvfs figures {};
  CHECK(statvfs(mount.path().c_str(), &figures) == 0);
  CHECK(figures.f_blocks > 0);
  CHECK(mount.end() == "");
}

TEST_CASE("sftp: another client's changes during listings: what stays comes exactly once") {
  const TempDir data;
  const auto names = make_files(data / "big", 6'000, "stays-");
  const SshServer& server = ssh_server();
  DelayProxy proxy(through(server, std::chrono::milliseconds(4)));
  Mount mount(server.url(data.path(), proxy.port()), "cache_size=1M,ttl=0," + server.options());
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (uint64_t i = 0; !stop; ++i) {
      const std::string name = data / ("big/comes-and-goes-" + std::to_string(i % 400));
      if (access(name.c_str(), F_OK) == 0) {
        fs::remove(name);
      } else {
        test::put_file(name);
      }
    }
  });
  std::vector<std::string> problems;
  for (int round = 0; round < 6; ++round) {
    std::vector<RawEntry> entries;
    RawDir dir(mount / "big");
    if (dir.read_all(round % 2 == 0 ? 32'768 : 2'000, &entries) < 0) {
      problems.emplace_back("an error");
    }
    const std::string problem = differences(entries, names, Others::kAtMostOnce);
    if (!problem.empty()) problems.push_back(problem);
  }
  stop = true;
  changer.join();
  for (const std::string& problem : problems) UNSCOPED_INFO(problem);
  CHECK(problems.empty());
  // And what there is in the end is what is listed.
  const auto count = static_cast<size_t>(
      std::distance(fs::directory_iterator(data / "big"), fs::directory_iterator()));
  CHECK(wait_until([&] { return list(mount / "big").size() == count + 2; }));
  CHECK(mount.end() == "");
}

TEST_CASE("sftp: trap 9: what each getdents returned is removed, until the directory is empty") {
  const SshServer& server = ssh_server();
  for (const size_t buffer : {280u, 4'096u, 32'768u, 1u << 20}) {
    INFO(buffer);
    const TempDir data;
    make_files(data / "d", 1'200);
    Mount mount(server.url(data.path()), "ttl=0,cache_size=1M," + server.options());
    for (int pass = 0; pass < 20 && !fs::is_empty(data / "d"); ++pass) {
      RawDir dir(mount / "d");
      std::vector<RawEntry> entries;
      while (dir.read(buffer, &entries) > 0) {
        for (const RawEntry& entry : entries) {
          if (entry.name != "." && entry.name != "..") fs::remove(data / ("d/" + entry.name));
        }
        entries.clear();
      }
    }
    CHECK(fs::is_empty(data / "d"));
    CHECK(mount.end() == "");
  }
}

TEST_CASE("sftp: the server's session is killed in the middle of listings, again and again") {
  const TempDir data;
  // More than is read ahead.
  const auto names = make_files(data / "big", 38'000);
  SshServer& server = ssh_server();
  DelayProxy proxy(through(server, std::chrono::milliseconds(10)));
  Mount mount(server.url(data.path(), proxy.port()), "cache_size=1M," + server.options());
  for (int round = 0; round < 2; ++round) {
    RawDir dir(mount / "big");
    std::vector<RawEntry> entries;
    // Some of it, then a new server for the rest.
    while (entries.size() < 3'000 && dir.read(20'000, &entries) > 0) {
    }
    REQUIRE(server.kill_sessions() > 0);
    CHECK(read_on(dir, &entries) == 0);
    CHECK(differences(entries, names) == "");
    mount.drop();
  }
  CHECK(mount.figure("remote.errors") > 0);
  CHECK(mount.end() == "");
}

namespace {

// A listing whose network is cut in its middle. A lister that finds nothing read ahead waits, and
// is served when the network is back.
struct Cut {
  Cut(const std::string& path, std::chrono::seconds away)
      : length(away),
        proxy(through(ssh_server(), std::chrono::milliseconds(10))),
        mount(ssh_server().url(path, proxy.port()),
              "cache_size=1M,timeout=10m," + ssh_server().options()),
        dir(mount / "big") {
    while (entries.size() < 2'000 && dir.read(20'000, &entries) > 0) {
    }
    proxy.cut();
    network = std::thread([this] {
      std::this_thread::sleep_for(length);
      proxy.resume();
    });
    lister = std::thread([this] { failures = read_on(dir, &entries); });
  }
  ~Cut() {
    network.join();
    join();
  }
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;
  void join() {
    if (lister.joinable()) lister.join();
  }

  const std::chrono::seconds length;
  DelayProxy proxy;
  Mount mount;
  RawDir dir;
  std::vector<RawEntry> entries;
  int failures = -1;
  std::thread network, lister;
};

}  // namespace

TEST_CASE("sftp: the network is cut, and comes back: the listing is whole") {
  const size_t given = number_from("COOKIEFS_SFTP_CUT", 0);
  const TempDir data;
  const auto names = make_files(data / "big", 8'000);
  std::vector<std::unique_ptr<Cut>> cuts;  // side by side
  for (const size_t length : given > 0 ? std::vector<size_t>{given} : std::vector<size_t>{1, 5}) {
    cuts.push_back(std::make_unique<Cut>(data.path(), std::chrono::seconds(length)));
  }
  for (const auto& cut : cuts) {
    INFO(cut->length.count() << " s");
    cut->join();
    CHECK(cut->failures >= 0);
    CHECK(differences(cut->entries, names).empty());
    cut->dir.close();
    CHECK(cut->mount.end() == "");
  }
}

TEST_CASE("sftp: a network that stalls is ETIMEDOUT, the mount lives, and goes on afterwards") {
  const TempDir data;
  const auto names = make_files(data / "big", 3'000);
  SshServer& server = ssh_server();
  DelayProxy proxy(through(server, std::chrono::milliseconds(2)));
  Mount mount(server.url(data.path(), proxy.port()), "timeout=3s,ttl=0," + server.options());
  proxy.stall();
  RawDir dir;
  CHECK(dir.open(mount / "big") == -ETIMEDOUT);
  proxy.resume();
  CHECK(wait_until([&] { return dir.open(mount / "big") == 0; }));
  std::vector<RawEntry> entries;
  CHECK(read_on(dir, &entries) >= 0);
  CHECK(differences(entries, names).empty());
  dir.close();
  CHECK(mount.end() == "");
}

TEST_CASE("sftp: flipped bits on the way cost connections, never a wrong listing") {
  const TempDir data;
  const auto names = make_files(data / "big", 5'000);
  SshServer& server = ssh_server();
  DelayProxy proxy(through(server, std::chrono::milliseconds(1)));
  Mount mount(server.url(data.path(), proxy.port()), "cache_size=1M," + server.options());
  RawDir dir(mount / "big");
  std::vector<RawEntry> entries;
  while (entries.size() < 1'000 && dir.read(20'000, &entries) > 0) {
  }
  proxy.corrupt(20'000);
  std::thread back([&] {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    proxy.resume();
  });
  CHECK(read_on(dir, &entries) >= 0);
  back.join();
  CHECK(differences(entries, names).empty());
  dir.close();
  CHECK(mount.end() == "");
}

TEST_CASE("sftp: a lister on a dead network can be killed, and the mount be unmounted") {
  const TempDir data;
  make_files(data / "big", 1'000);
  SshServer& server = ssh_server();
  DelayProxy proxy(through(server, std::chrono::milliseconds(1)));
  Mount mount(server.url(data.path(), proxy.port()), "timeout=1h," + server.options());
  proxy.stall();
  Child lister([&] {
    RawDir dir;
    return -dir.open(mount / "big");
  });
  REQUIRE(wait_until([&] { return mount.figure("requests.active") > 0; }));
  lister.signal(SIGKILL);
  CHECK(lister.wait());
  CHECK(mount.end(Mount::How::kLazy) == "");
}

TEST_CASE("sftp: a server that lies gives errors, or what is right, and never ends the mount") {
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) {
    const std::string number = std::to_string(i);
    names.push_back("entry-" + std::string(5 - number.size(), '0') + number);
  }
  for (const char* lie : {"unknown-id", "huge-count", "huge-length", "truncated", "random",
                          "bad-names", "empty", "endless", "out-of-order"}) {
    INFO(lie);
    Mount mount("sftp://liar/", test::lying_sftp_server(lie));
    RawDir dir(mount.path());
    std::vector<RawEntry> entries;
    const int status = dir.read_all(8'000, &entries);
    const bool honest = std::string(lie) == "bad-names" || std::string(lie) == "out-of-order";
    CHECK(status == (honest ? 0 : -EIO));
    if (honest) CHECK(differences(entries, names).empty());
    for (const auto& [name, count] : test::count_names(entries)) {
      if (count != 1 || name.find('/') != std::string::npos) FAIL_CHECK(name << " " << count);
    }
    dir.close();
    struct stat seen {};
    CHECK(stat((mount / "entry-00001").c_str(), &seen) == 0);
    CHECK(mount.end() == "");
  }
}

TEST_CASE("sftp: logins by an agent, by a certificate and through a jump host, as ssh has them") {
  const TempDir data;
  const auto names = make_files(data / "some", 300);
  const auto lists = [&](const std::string& source, const std::string& options) {
    Mount mount(source, options);
    CHECK(differences(list(mount / "some"), names).empty());
    CHECK(mount.end() == "");
  };
  const SshServer server;
  SECTION("an agent that has the only private key") {
    const std::string socket = server.directory() / "agent";
    const Child agent({"/usr/bin/ssh-agent", "-D", "-a", socket}, server.directory() / "agent.log");
    REQUIRE(wait_until([&] { return fs::exists(socket); }));
    Child add({"/usr/bin/env", "SSH_AUTH_SOCK=" + socket, "ssh-add", "-q", server.key()},
              server.directory() / "add.log");
    INFO(text_of(server.directory() / "add.log"));
    REQUIRE(add.wait() == 0);
    fs::remove(server.key());
    lists(server.url(data.path()),
          "IdentityAgent=" + socket + "," + server.options(server.key() + ".pub"));
  }
  SECTION("a certificate") {
    lists(server.url(data.path()), server.options(server.certified_key()));
  }
  SECTION("a jump host, of the user's ssh_config") {
    const SshServer jump;
    const std::string config = server.directory() / "ssh_config";
    std::ofstream(config) << jump.config_of("jump") << server.config_of("target")
                          << "  ProxyJump jump\n";
    lists("sftp://target" + data.path(), "ssh_config=" + config);
    CHECK(jump.log().find("Accepted publickey") != std::string::npos);
  }
}

TEST_CASE("sftp: what ssh asks is asked on the terminal, before the daemon leaves it") {
  const TempDir data, work;
  const auto names = make_files(data.path(), 10);
  fs::create_directory(work / "mnt");
  const std::string command =
      "ssh_command=sh -c 'read word </dev/tty && test \"$word\" = secret && "
      "exec /usr/lib/openssh/sftp-server'";
  const std::string source = "sftp://here" + data.path();
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(pid >= 0);
  if (pid == 0) {
    const std::string binary = daemon_binary();
    execl(binary.c_str(), binary.c_str(), "-o", command.c_str(), source.c_str(),
          (work / "mnt").c_str(), nullptr);
    _exit(127);
  }
  CHECK(write(terminal, "secret\n", 7) == 7);
  int status = -1;
  REQUIRE(wait_until([&] { return waitpid(pid, &status, WNOHANG) == pid; }));
  CHECK(status == 0);
  close(terminal);
  // It is gone from the terminal, and serves.
  CHECK(differences(list(work / "mnt"), names).empty());
  CHECK(umount2((work / "mnt").c_str(), 0) == 0);
}

// ---- What can't be mounted ----------------------------------------------------------------------

namespace {

struct Refusal {
  int status = -1;
  std::string said;
};

// Mounts in the background, as people do; it must not succeed, and leave nothing.
Refusal refused(const std::string& source, const std::string& options) {
  const TempDir work;
  fs::create_directory(work / "mnt");
  Child daemon({daemon_binary(), "-o", options, source, work / "mnt"}, work / "said");
  const auto status = daemon.wait();
  REQUIRE(status);
  INFO(text_of(work / "said"));
  const bool mounted = umount2((work / "mnt").c_str(), MNT_DETACH) == 0;
  CHECK_FALSE(mounted);
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string command = text_of(entry.path() / "cmdline");
    if (command.find(work.path()) != std::string::npos) FAIL_CHECK("still running: " << command);
  }
  return {WIFEXITED(*status) ? WEXITSTATUS(*status) : -1, text_of(work / "said")};
}

void check_refused(const std::string& source, const std::string& options, const std::string& part,
                   int status = 1) {
  const Refusal refusal = refused(source, options);
  INFO(source << ": " << refusal.said);
  CHECK(refusal.status == status);
  CHECK(refusal.said.find(part) != std::string::npos);
  CHECK(std::count(refusal.said.begin(), refusal.said.end(), '\n') == 1);
}

}  // namespace

TEST_CASE("sftp: what can't be mounted: one line with ssh's own words, status 1, nothing left") {
  const TempDir data;
  test::put_file(data / "file");
  SshServer server;
  const std::string options = server.options();
  check_refused("sftp://no-such-host.invalid/", options, "no-such-host.invalid");
  check_refused(server.url("/", test::free_port()), options, "Connection refused");
  check_refused(server.url(data / "none"), options, "does not exist");
  check_refused(server.url(data / "file"), options, "not a directory");
  check_refused("sftp://nobody-at-all@127.0.0.1:" + std::to_string(server.port()) + "/", options,
                "Permission denied");
  // Another key than the one that is let in.
  const SshServer stranger;
  check_refused(server.url("/"), server.options(stranger.key()), "Permission denied");
  // The host answers with another key than it is known by.
  check_refused(stranger.url("/"), options, "Host key verification failed");
  // Nobody to ask about a host that is not known.
  check_refused(server.url("/"), options + ",UserKnownHostsFile=/dev/null",
                "Host key verification failed");
  check_refused(server.url("/"), options + ",sftp_server=/bin/true", "can't reach");
  check_refused(server.url("/"), options + ",ssh_command=/no/such/ssh", "No such file");
  check_refused("sftp://host:0/", options, "port");
  check_refused("sftp://host/", "IdentityFil=x", "IdentityFile", 2);
  check_refused("sftp://host/", "port=x", "port=22", 2);
}
