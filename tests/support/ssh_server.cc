#include "tests/support/ssh_server.h"

#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace fs = std::filesystem;

namespace test {
namespace {

constexpr const char* kDaemon = "/usr/sbin/sshd";
constexpr const char* kKeygen = "/usr/bin/ssh-keygen";
constexpr const char* kSftpServer = "/usr/lib/openssh/sftp-server";
// Under which the host's key is known, whatever port or proxy it is reached through.
constexpr const char* kHostAlias = "cookiefs-test-host";

bool listens(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return connected;
}

// The parent of a process; 0 when there is none such.
pid_t parent_of(pid_t pid) {
  const std::string stat = text_of("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream rest(stat.substr(name_end + 1));
  char state = 0;
  pid_t parent = 0;
  rest >> state >> parent;
  return parent;
}

// A process of ours may have ended, and its number be another's by now.
void kill_session(pid_t pid) {
  const std::string name = text_of("/proc/" + std::to_string(pid) + "/comm");
  if (name.starts_with("sshd") || name.starts_with("sftp-server")) kill(pid, SIGKILL);
}

std::string liar(const std::string& arguments) {
  return "ssh_command=sh -c 'exec " COOKIEFS_SOURCE_DIR "/tests/support/lying_sftp_server.py " +
         arguments + "'";
}

}  // namespace

std::vector<pid_t> descendants(pid_t parent) {
  std::vector<pid_t> found;
  std::vector<pid_t> all;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos) all.push_back(std::stoi(name));
  }
  std::vector<pid_t> ancestors = {parent};
  while (!ancestors.empty()) {
    const pid_t above = ancestors.back();
    ancestors.pop_back();
    for (const pid_t pid : all) {
      if (parent_of(pid) != above) continue;
      found.push_back(pid);
      ancestors.push_back(pid);
    }
  }
  return found;
}

SshServer::SshServer() {
  for (const char* const program : {kDaemon, kKeygen, kSftpServer}) {
    if (access(program, X_OK) != 0) {
      throw std::runtime_error(std::string(program) + " is missing: run tools/test install");
    }
  }
  make_key("host");
  make_key("user");
  make_key("ca");
  std::ofstream(work_ / "known_hosts") << kHostAlias << " " << text_of(work_ / "host.pub");
  std::ofstream(work_ / "authorized") << text_of(work_ / "user.pub");
  // Where a privileged sshd leaves its children without privileges.
  if (geteuid() == 0) fs::create_directories("/run/sshd");
  listen_again();
}

SshServer::~SshServer() {
  stop_listening();
  for (const pid_t pid : sessions_) kill_session(pid);
}

void SshServer::make_key(const std::string& name) const {
  Child keygen({kKeygen, "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", work_ / name},
               work_ / "keygen.log");
  if (keygen.wait() != 0) throw std::runtime_error("no key: " + text_of(work_ / "keygen.log"));
}

void SshServer::listen_again() {
  // Another may take a free port before we do: then the next one.
  for (int attempt = 0; attempt < 5; ++attempt) {
    const uint16_t port = port_ != 0 ? port_ : free_port();
    std::ofstream(work_ / "config") << "ListenAddress 127.0.0.1:" << port << "\n"
                                    << "HostKey " << work_ / "host"
                                    << "\n"
                                    << "AuthorizedKeysFile " << work_ / "authorized"
                                    << "\n"
                                    << "TrustedUserCAKeys " << work_ / "ca.pub"
                                    << "\n"
                                    << "PidFile none\nUsePAM no\nStrictModes no\n"
                                    << "PasswordAuthentication no\nPermitRootLogin yes\n"
                                    << "MaxStartups 1000\nUseDNS no\n"
                                    << "Subsystem sftp " << kSftpServer << "\n";
    daemon_ = std::make_unique<Child>(
        std::vector<std::string>{kDaemon, "-D", "-e", "-f", work_ / "config"}, work_ / "log");
    const auto settled = [&] { return !daemon_->running() || listens(port); };
    if (wait_until(settled) && daemon_->running()) {
      port_ = port;
      return;
    }
  }
  throw std::runtime_error("sshd does not start: " + log());
}

void SshServer::stop_listening() {
  if (!daemon_) return;
  const std::vector<pid_t> begun = descendants(daemon_->pid());
  sessions_.insert(sessions_.end(), begun.begin(), begun.end());
  daemon_->signal(SIGTERM);
  daemon_->wait();
  daemon_.reset();
}

size_t SshServer::kill_sessions() {
  const std::vector<pid_t> sessions = descendants(daemon_->pid());
  for (const pid_t pid : sessions) kill_session(pid);
  return sessions.size();
}

std::string SshServer::log() const { return text_of(work_ / "log"); }

std::string SshServer::url(const std::string& path, uint16_t port) const {
  return "sftp://127.0.0.1:" + std::to_string(port != 0 ? port : port_) + path;
}

std::string SshServer::options(const std::string& identity) const {
  return "ssh_config=none,IdentityFile=" + identity +
         ",IdentitiesOnly=yes,UserKnownHostsFile=" + (work_ / "known_hosts") +
         ",HostKeyAlias=" + kHostAlias + ",StrictHostKeyChecking=yes,BatchMode=yes";
}

std::string SshServer::config_of(const std::string& alias) const {
  return "Host " + alias + "\n  HostName 127.0.0.1\n  Port " + std::to_string(port_) +
         "\n  IdentityFile " + key() + "\n  IdentitiesOnly yes\n  UserKnownHostsFile " +
         (work_ / "known_hosts") + "\n  HostKeyAlias " + kHostAlias +
         "\n  StrictHostKeyChecking yes\n  BatchMode yes\n";
}

std::string SshServer::certified_key() const {
  const passwd* const user = getpwuid(geteuid());
  if (user == nullptr) throw std::runtime_error("nobody has this user id");
  make_key("certified");
  Child sign({kKeygen, "-q", "-s", work_ / "ca", "-I", "test", "-n", user->pw_name,
              work_ / "certified.pub"},
             work_ / "sign.log");
  if (sign.wait() != 0) throw std::runtime_error("no certificate: " + text_of(work_ / "sign.log"));
  return work_ / "certified";
}

// What ssh would be told goes to the shell's own parameters, which nobody reads.
std::string plain_sftp_server(const std::string& arguments) {
  return std::string("ssh_command=sh -c 'exec ") + kSftpServer + " " + arguments + "'";
}

std::string piped_sftp_server() {
  return std::string("ssh_command=sh -c '") + kSftpServer + " | cat'";
}

std::string unprivileged_sftp_server() {
  return std::string("ssh_command=sh -c 'exec setpriv --reuid=65534 --regid=65534 ") +
         "--clear-groups " + kSftpServer + "'";
}

std::string lying_sftp_server(const std::string& mode, const std::string& once) {
  return liar(mode + (once.empty() ? "" : " --once " + once));
}

std::string logging_sftp_server(const std::string& mode, const std::string& log) {
  return liar(mode + " --log " + log);
}

}  // namespace test
