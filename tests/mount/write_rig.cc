#include "tests/mount/write_rig.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/support/child.h"
#include "tests/support/ssh_server.h"
#ifdef COOKIEFS_HAVE_NFS
#include "tests/support/ganesha.h"
#endif

namespace fs = std::filesystem;

namespace test {
namespace {

constexpr std::chrono::seconds kProgramPatience{400};

std::string next_name() {
  static int number = 0;
  return "write-" + std::to_string(++number);
}

// Local and SFTP: below a directory of the whole test's.
const TempDir& shared_directory() {
  static const TempDir directory;
  return directory;
}

std::string errno_text(int error) { return "errno " + std::to_string(error); }

}  // namespace

SshServer& ssh_server() {
  static SshServer server;
  return server;
}

#ifdef COOKIEFS_HAVE_NFS
Ganesha& nfs_server() {
  static Ganesha server;
  return server;
}
#endif

std::vector<std::string> remote_kinds() {
  std::vector<std::string> kinds = shared_remote_kinds();
  kinds.insert(kinds.begin(), "sim");
  return kinds;
}

std::vector<std::string> shared_remote_kinds() {
  std::vector<std::string> kinds = {"local", "sftp"};
#ifdef COOKIEFS_HAVE_NFS
  kinds.insert(kinds.end(), {"nfs3", "nfs4"});
#endif
  return kinds;
}

Remote::Remote(std::string kind) : kind_(std::move(kind)), name_(next_name()) {
  if (kind_ == "sim") return;
  std::string parent = shared_directory().path();
#ifdef COOKIEFS_HAVE_NFS
  if (kind_.starts_with("nfs")) parent = nfs_server().directory("plain");
#endif
  directory_ = parent + "/" + name_;
  fs::create_directory(directory_);
}

Remote::~Remote() {
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

std::string Remote::source() const {
  if (kind_ == "sim") return "sim:big=10";
  if (kind_ == "sftp") return ssh_server().url(directory_);
#ifdef COOKIEFS_HAVE_NFS
  if (kind_.starts_with("nfs")) return nfs_server().url("/plain/" + name_, 0, kind_.substr(3));
#endif
  return directory_;
}

std::string Remote::options(const std::string& more) const {
  const std::string own = kind_ == "sftp" ? ssh_server().options() : std::string();
  return own + (own.empty() || more.empty() ? "" : ",") + more;
}

StoppableServer::StoppableServer() : directory_(work_ / "files"), pid_file_(work_ / "pid") {
  fs::create_directory(directory_);
}

StoppableServer::~StoppableServer() { go(); }

std::string StoppableServer::options(const std::string& more) const {
  return more + ",ssh_command=sh -c 'echo $$ > " + pid_file_ +
         "; exec /usr/lib/openssh/sftp-server'";
}

void StoppableServer::stop() const {
  const pid_t server = pid();
  if (server == 0 || kill(server, SIGSTOP) != 0)
    throw std::runtime_error("no server to be stopped");
}

void StoppableServer::go() const {
  if (const pid_t server = pid(); server != 0) kill(server, SIGCONT);
}

void StoppableServer::end() const {
  const pid_t server = pid();
  if (server == 0 || kill(server, SIGKILL) != 0) throw std::runtime_error("no server to be ended");
}

pid_t StoppableServer::pid() const {
  pid_t server = 0;
  std::ifstream(pid_file_) >> server;
  return server;
}

int Fd::write(const std::string& bytes, uint64_t offset) const {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got =
        pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got < 0) return errno;
    done += static_cast<size_t>(got);
  }
  return 0;
}

int Fd::shut() {
  if (fd_ < 0) return 0;
  const int result = close(fd_);
  fd_ = -1;
  return result == 0 ? 0 : errno;
}

std::string Fd::read(size_t bytes, uint64_t offset) const {
  std::string data(bytes, '\0');
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got =
        pread(fd_, data.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0) return errno_text(errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  data.resize(done);
  return data;
}

int write_file(const std::string& path, const std::string& bytes) {
  Fd file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (file.error() != 0) return file.error();
  const int error = file.write(bytes);
  const int closed = file.shut();
  return error != 0 ? error : closed;
}

std::string read_file(const std::string& path) {
  const Fd file(path, O_RDONLY);
  return file.error() != 0 ? errno_text(file.error()) : file.read();
}

struct stat status_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) throw std::runtime_error(path + " is not there");
  return status;
}

std::string noise(uint64_t number, size_t bytes) {
  std::string text(bytes, '\0');
  uint64_t state = number * 2654435761u + 88172645463325252u;
  for (char& c : text) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state);
  }
  return text;
}

std::string beside(const std::string& program) {
  return fs::read_symlink("/proc/self/exe").parent_path() / program;
}

std::string sync(const Mount& mount) {
  return run_command(beside("cookiefsctl") + " sync " + mount.path());
}

std::string run_command(const std::string& command) {
  const TempDir work;
  const std::string said = work / "said";
  Child child({"/bin/sh", "-c", "{ " + command + "\n} >'" + said + "' 2>&1"}, work / "sh");
  const std::optional<int> status = child.wait(kProgramPatience);
  if (status == 0) return {};
  const std::string text = text_of(said);
  return (status ? "wait status " + std::to_string(*status) : "it has not ended") + ": " +
         text.substr(text.size() - std::min<size_t>(text.size(), 12'000));
}

std::string run_beside(const std::string& program, const std::vector<std::string>& arguments) {
  std::string command = "exec '" + beside(program) + "'";
  for (const std::string& argument : arguments) command += " '" + argument + "'";
  return run_command(command);
}

}  // namespace test
