// What can be seen of a running mount: metrics over HTTP and by cookiefsctl, its log and log level.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fusefs/control.h"
#include "tests/support/loopback.h"
#include "tests/support/mount.h"
#include "tests/support/raw_listing.h"

using test::big_names;
using test::Child;
using test::differences;
using test::list;
using test::Mount;
using test::RawDir;
using test::RawEntry;
using test::TempDir;
using test::wait_until;

namespace {

std::string built(const std::string& program) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / program;
}

// stdout and stderr of a command, and then its exit status.
struct Said {
  std::string text;
  int status = -1;
};
Said run(const std::string& command) {
  Said said;
  FILE* const pipe = popen((command + " 2>&1").c_str(), "re");  // NOLINT: the tests' own words
  if (pipe == nullptr) throw std::runtime_error("popen");
  std::array<char, 4096> piece{};
  for (size_t got = 0; (got = fread(piece.data(), 1, piece.size(), pipe)) > 0;) {
    said.text.append(piece.data(), got);
  }
  const int status = pclose(pipe);
  said.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return said;
}
Said ctl(const std::string& arguments) { return run(built("cookiefsctl") + " " + arguments); }

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

// A client of a server on this machine that waits for a minute at most.
class Client {
 public:
  explicit Client(int64_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval minute = {.tv_sec = 60, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    const sockaddr_in to = test::loopback(static_cast<uint16_t>(port));
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void say(const std::string& text) const { send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  // All that comes until the server ends the connection; nothing when it does not.
  [[nodiscard]] std::string hear() const {
    std::string text;
    std::array<char, 8192> piece{};
    ssize_t got = 0;
    while ((got = recv(fd_, piece.data(), piece.size(), 0)) > 0) {
      text.append(piece.data(), static_cast<size_t>(got));
    }
    return text;
  }
  // The server has ended the connection, or does it within the minute.
  [[nodiscard]] bool ended() const {
    char byte = 0;
    const ssize_t got = recv(fd_, &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }

 private:
  const int fd_;
  bool connected_ = false;
};

std::string get(int64_t port, const std::string& path = "/metrics") {
  const Client client(port);
  client.say("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  return client.hear();
}

// The value of a series; -1: there is none.
double value(const std::string& text, const std::string& series) {
  const size_t at = text.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

constexpr const char* kListings = "cookiefs_request_duration_seconds_count{operation=\"readdir\"}";
constexpr const char* kRemoteListings =
    "cookiefs_remote_request_duration_seconds_count{operation=\"readdir\"}";

}  // namespace

// ---- Metrics ------------------------------------------------------------------------------------

TEST_CASE("metrics over HTTP are those of the mount, and move with it") {
  Mount mount("sim:big=5000,batch=1000", "metrics=127.0.0.1:0,readdirplus=no");
  const int64_t port = mount.figure("metrics.port");
  REQUIRE(port > 0);
  CHECK(has(mount.log(), "metrics at http://127.0.0.1:" + std::to_string(port) + "/metrics"));
  const std::string before = get(port);
  CHECK(before.rfind("HTTP/1.1 200 ", 0) == 0);
  CHECK(has(before, "Content-Type: text/plain; version=0.0.4"));
  CHECK(has(before, "mountpoint=\"" + mount.path() + "\"} 1\n"));
  CHECK(value(before, "cookiefs_entries_resident") == 0);

  CHECK(differences(list(mount / "big"), big_names(5000)).empty());
  const std::string after = get(port);
  CHECK(value(after, "cookiefs_entries_resident") >= 5000);
  CHECK(value(after, kListings) > value(before, kListings));
  CHECK(value(after, kRemoteListings) >= 5);
  CHECK(value(after, kListings) == mount.figure("request_latency.readdir.count"));
  CHECK(value(after, "cookiefs_readdir_calls_total") == mount.figure("readdir.calls"));
  CHECK(value(after, kRemoteListings) == mount.figure("remote_latency.readdir.count"));

  CHECK(get(port, "/").rfind("HTTP/1.1 404 ", 0) == 0);
  const Client poster(port);
  poster.say("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
  CHECK(poster.hear().rfind("HTTP/1.1 405 ", 0) == 0);
  CHECK(mount.end() == "");
  CHECK_FALSE(Client(port).connected());
}

TEST_CASE("latencies of a slow remote show where it is slow") {
  const Mount mount("sim:big=1000,rtt=40ms");
  CHECK(list(mount / "big").size() == 1002);
  CHECK(mount.figure("remote_latency.readdir.max_us") >= 40'000);
  CHECK(mount.figure("remote_latency.readdir.p50_us") >= 30'000);
  CHECK(mount.figure("request_latency.lookup.count") >= 1);
  CHECK(mount.figure("request_latency.opendir.count") >= 1);
  CHECK(mount.figure("request_latency.read.count") == 0);
}

TEST_CASE("metrics: clients that say nothing, or never end, hold up nobody") {
  Mount mount("sim:big=10", "metrics=127.0.0.1:0");
  const int64_t port = mount.figure("metrics.port");
  std::vector<std::unique_ptr<Client>> stuck;
  for (int i = 0; i < 60; ++i) {
    stuck.push_back(std::make_unique<Client>(port));
    REQUIRE(stuck.back()->connected());
    if (i % 2 == 1) stuck.back()->say("GET /metrics HTTP/1.1\r\nHost:");
    if (i % 20 == 0) CHECK(has(get(port), "cookiefs_uptime_seconds"));
  }
  CHECK(has(get(port), "cookiefs_uptime_seconds"));
  CHECK(stuck.front()->ended());  // there were too many
  CHECK(stuck.back()->ended());   // its time is up
  const Client still(port);
  CHECK(mount.end() == "");
}

TEST_CASE("metrics: a port that is taken is one line, status 1 and no mount") {
  const Mount first("sim:big=10", "metrics=127.0.0.1:0");
  const std::string port = std::to_string(first.figure("metrics.port"));
  const TempDir dir;
  for (const char* const flag : {"", "-f "}) {
    const Said said =
        run(built("cookiefs") + " " + flag + "-o metrics=" + port + " sim:big=10 " + dir.path());
    CHECK(said.text == "cookiefs: metrics=127.0.0.1:" + port +
                           ": the port is taken; choose another, or 0 for any that is free\n");
    CHECK(said.status == 1);
    const bool mounted = has(run("cat /proc/self/mountinfo").text, dir.path());
    CHECK_FALSE(mounted);
    if (mounted) run("fusermount3 -u " + dir.path());
  }
  CHECK(has(get(first.figure("metrics.port")), "cookiefs_uptime_seconds"));
}

TEST_CASE("metrics are served from the background too, until the mount ends") {
  const TempDir dir;
  const Said started = run(built("cookiefs") + " -o metrics=0 sim:big=10 " + dir.path());
  CHECK(started.status == 0);
  CHECK(started.text.empty());
  const std::string stats = ctl("stats --json " + dir.path()).text;
  const size_t at = stats.find("\"port\": ");
  const int64_t port = at == std::string::npos ? 0 : std::stoll(stats.substr(at + 8));
  const std::string text = get(port);
  CHECK(run("fusermount3 -u " + dir.path()).status == 0);
  CHECK(has(text, "mountpoint=\"" + dir.path() + "\"} 1\n"));
  CHECK(wait_until([&] { return !Client(port).connected(); }));
}

TEST_CASE("metrics: IPv6 addresses are served too") {
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_addr = in6addr_loopback;
  const bool ours = bind(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  close(fd);
  if (!ours) {
    WARN("no IPv6 on this machine: skipped");
    return;
  }
  const Mount mount("sim:big=10", "metrics=[::1]:0");
  const std::string port = std::to_string(mount.figure("metrics.port"));
  CHECK(has(mount.log(), "metrics at http://[::1]:" + port + "/metrics"));
  to.sin6_port = htons(static_cast<uint16_t>(mount.figure("metrics.port")));
  const int client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(connect(client, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  close(client);
  CHECK_FALSE(Client(mount.figure("metrics.port")).connected());  // 127.0.0.1 was not asked for
}

TEST_CASE("cookiefsctl metrics prints what promtool takes, also with a label of one's own") {
  const Mount mount("sim:big=5000");
  CHECK(list(mount / "big").size() == 5002);
  const Said plain = ctl("metrics " + mount.path());
  CHECK(plain.status == 0);
  CHECK(plain.text.size() > fusefs::kControlTextBytes);  // more than an ioctl carries
  CHECK(value(plain.text, kListings) + value(plain.text,
                                             "cookiefs_request_duration_seconds_count{"
                                             "operation=\"readdirplus\"}") >
        1);
  CHECK(value(plain.text, "cookiefs_entries_resident") >= 5000);
  const Said labelled = ctl("metrics --label mount='a\"b' " + mount.path());
  CHECK(value(labelled.text, "cookiefs_entries_resident{mount=\"a\\\"b\"}") >= 5000);
  CHECK(value(labelled.text,
              "cookiefs_request_duration_seconds_count{mount=\"a\\\"b\",operation="
              "\"lookup\"}") >= 1);
  const TempDir dir;
  for (const std::string label : {"", "--label mount=a "}) {
    const std::string file = dir / "metrics.prom";
    CHECK(ctl("metrics " + label + mount.path() + " > " + file).status == 0);
    const Said checked = run("promtool check metrics < " + file);
    INFO(checked.text);
    CHECK(checked.status == 0);
  }
  CHECK(ctl("metrics --label 1x=a " + mount.path()).status == 2);
  CHECK(ctl("metrics /proc").status == 1);
}

// ---- The log ------------------------------------------------------------------------------------

TEST_CASE("cookiefsctl log-level shows and sets the level of a running daemon") {
  Mount mount("sim:big=10", "log_level=error");
  CHECK(ctl("log-level " + mount.path()).text == "error\n");
  CHECK_FALSE(has(mount.log(), "mounted at"));
  CHECK(ctl("log-level " + mount.path() + " chatty").status == 2);
  fusefs::ControlLevel unknown{"chatty"};
  const int fd = open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(ioctl(fd, fusefs::kControlLogLevel, &unknown) == -1);
  CHECK(errno == EINVAL);
  close(fd);
  CHECK(ctl("log-level " + mount.path()).text == "error\n");
  CHECK(ctl("log-level " + mount.path() + " info").text == "info\n");
  CHECK(mount.end() == "");  // which looks for a line of level info
  CHECK(has(mount.log(), "sim:big=10 unmounted from " + mount.path() + " after "));
}

TEST_CASE("the control channel gives metrics and takes levels from owner and root alone") {
  if (geteuid() != 0) {
    WARN("not root: skipped");
    return;
  }
  const Mount mount("sim:big=10", "allow_other");
  Child other([&mount] {
    if (setgid(65534) != 0 || setuid(65534) != 0) return 1;
    const int fd = open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 2;
    fusefs::ControlLevel level{"off"};
    if (ioctl(fd, fusefs::kControlLogLevel, &level) != -1 || errno != EPERM) return 3;
    const auto page = std::make_unique<fusefs::ControlPage>();
    return ioctl(fd, fusefs::kControlMetrics, page.get()) == -1 && errno == EPERM ? 0 : 4;
  });
  CHECK(other.wait() == 0);
  CHECK(ctl("log-level " + mount.path()).text == "info\n");
}

TEST_CASE("what fails at the remote is in the log, in few lines") {
  const Mount mount("sim:big=3000,batch=100,faults=error:0.5");
  for (int i = 0; i < 20; ++i) {
    std::vector<RawEntry> entries;
    RawDir dir;
    if (dir.open(mount / "big") == 0) dir.read_all(40'000, &entries);
  }
  const std::string words = "requests that failed at the remote";
  REQUIRE(wait_until([&] { return has(mount.log(), words); }));
  const std::string log = mount.log();
  CHECK(has(log, "warning: " + words));
  CHECK(mount.figure("remote.errors") > 10);
  int64_t lines = 0;
  for (size_t at = 0; (at = log.find(words, at)) != std::string::npos; ++at) ++lines;
  CHECK(lines <= 1 + mount.figure("uptime_seconds") / 10);
}

namespace {

// /dev with nothing in it but what a daemon needs, and a log of our own.
class OwnDev {
 public:
  OwnDev() : log_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    for (const char* const name : {"null", "fuse"}) {
      close(open((dir_ / name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (dir_ / "log").copy(address.sun_path, sizeof address.sun_path - 1);
    const timeval minute = {.tv_sec = 60, .tv_usec = 0};
    setsockopt(log_, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    if (bind(log_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("can't bind " + (dir_ / "log"));
    }
  }
  ~OwnDev() { close(log_); }
  OwnDev(const OwnDev&) = delete;
  OwnDev& operator=(const OwnDev&) = delete;

  // In a child: from now on it is what this process and its children see.
  [[nodiscard]] bool enter() const {
    const auto bound = [](const std::string& from, const std::string& to) {
      return mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0;
    };
    return unshare(CLONE_NEWNS) == 0 &&
           mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           bound("/dev/null", dir_ / "null") && bound("/dev/fuse", dir_ / "fuse") &&
           bound(dir_.path(), "/dev");
  }

  // The next line that has these words; empty: none came.
  [[nodiscard]] std::string line_with(const std::string& words) const {
    std::array<char, 2048> line{};
    while (true) {
      const ssize_t got = recv(log_, line.data(), line.size(), 0);
      if (got <= 0) return {};
      const std::string text(line.data(), static_cast<size_t>(got));
      if (has(text, words)) return text;
    }
  }

 private:
  TempDir dir_;
  const int log_;
};

}  // namespace

TEST_CASE("in the background the log goes to the system's, with the daemon's name and levels") {
  if (geteuid() != 0) {
    WARN("not root: no /dev of one's own: skipped");
    return;
  }
  const OwnDev dev;
  const TempDir dir;
  const std::string mountpoint = dir.path();
  Child user([&] {
    if (!dev.enter()) return 1;
    const std::string command = built("cookiefs") + " sim:big=100,faults=error:1 " + mountpoint;
    if (std::system(command.c_str()) != 0) return 2;  // NOLINT: the tests' own words
    struct stat status {};
    if (stat((mountpoint + "/big").c_str(), &status) == 0) return 3;
    return umount2(mountpoint.c_str(), MNT_DETACH) == 0 ? 0 : 4;
  });
  CHECK(user.wait() == 0);
  const std::string mounted = dev.line_with("mounted at " + mountpoint);
  CHECK(mounted.rfind("<30>", 0) == 0);  // LOG_DAEMON, LOG_INFO
  CHECK(has(mounted, " cookiefs["));
  CHECK(has(mounted, "]: sim:big=100,faults=error:1 mounted at"));
  CHECK(has(mounted, "cache of 256 MiB"));
  CHECK(dev.line_with("failed at the remote").rfind("<28>", 0) == 0);  // LOG_WARNING
  CHECK(has(dev.line_with("unmounted from " + mountpoint), "to the remote"));
}
