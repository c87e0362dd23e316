#include "tests/support/ganesha.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace fs = std::filesystem;

namespace test {
namespace {

constexpr const char* kProgram = "/usr/bin/ganesha.nfsd";
constexpr const char* kReady = "NFS SERVER INITIALIZED";

std::string make_memory_directory() {
  std::string name = "/dev/shm/cookiefs_test.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("can't make " + name);
  fs::permissions(name, fs::perms(0755));
  return name;
}

std::string shim() {
  return fs::read_symlink("/proc/self/exe").parent_path() / "librpcbind_shim.so";
}

struct Export {
  int id;
  std::string name;
  std::string path;
  std::string more;  // in the EXPORT block
};

std::string block(const Export& one) {
  std::ostringstream text;
  const bool memory = one.path.empty();
  text << "EXPORT { Export_Id=" << one.id << "; Pseudo=/" << one.name
       << "; Filesystem_Id=" << one.id << "." << one.id
       << "; Path=" << (memory ? "/" + one.name : one.path) << "; " << one.more
       << " FSAL { Name=" << (memory ? "MEM" : "VFS") << "; } }\n";
  return text.str();
}

}  // namespace

Ganesha::Ganesha(Grace grace)
    : grace_(grace), memory_(make_memory_directory()), log_path_(disk_ / "ganesha.log") {
  if (geteuid() != 0 || !fs::exists(kProgram)) {
    fs::remove_all(memory_);
    throw std::runtime_error("needs root and the packages nfs-ganesha, -vfs and -mem");
  }
  fs::create_directory(disk_ / "recovery");
  for (const char* name : {"plain", "disk", "strict", "names", "secure", "squashed"}) {
    fs::create_directory(directory(name));
  }
  // A port may be taken between our finding it free and the server's start.
  for (int attempt = 0;; ++attempt) {
    nfs_port_ = free_port();
    mount_port_ = free_port();
    write_config();
    if (try_start()) return;
    if (attempt < 5) continue;
    const std::string log = log_tail();
    fs::remove_all(memory_);
    throw std::runtime_error("nfs-ganesha does not start:\n" + log);
  }
}

Ganesha::~Ganesha() {
  try {
    stop();
  } catch (...) {  // the process is killed by its own destructor
  }
  std::error_code ignored;
  fs::remove_all(memory_, ignored);
}

std::string Ganesha::directory(const std::string& name) const {
  if (name == "small") return small_.path();
  return (name == "disk" ? disk_.path() : memory_) + "/" + name;
}

std::string Ganesha::url(const std::string& path, uint16_t port, const std::string& version) const {
  return "nfs://127.0.0.1" + path + "?version=" + version +
         "&nfsport=" + std::to_string(port != 0 ? port : nfs_port_) +
         "&mountport=" + std::to_string(mount_port_);
}

void Ganesha::write_config() {
  std::ofstream config(disk_ / "ganesha.conf");
  config << "NFS_CORE_PARAM { Bind_addr=127.0.0.1; NFS_Port=" << nfs_port_
         << "; MNT_Port=" << mount_port_
         << "; Protocols=3,4; Enable_NLM=false; Enable_RQUOTA=false; Enable_UDP=false;"
            " mount_path_pseudo=true; Clustered=false; }\n"
            "NFSv4 { Graceless="
         << (grace_ == Grace::kNone ? "true" : "false")
         << "; Lease_Lifetime=" << (grace_ == Grace::kTenSecondsOfMinute ? 60 : 10)
         << "; Grace_Period=10; RecoveryBackend=fs; RecoveryRoot=\"" << disk_ / "recovery"
         << "\"; Minor_Versions=0,1,2; Only_Numeric_Owners=true; }\n"
            "MDCACHE { Entries_HWMark=3000000; }\n"
            "EXPORT_DEFAULTS { Attr_Expiration_Time=0; Access_Type=RW; Squash=no_root_squash;"
            " SecType=sys; Protocols=3,4; Transports=TCP; }\n"
            "LOG { Default_Log_Level=EVENT; }\n";
  for (const Export& one : {
           Export{1, "plain", directory("plain"), ""},
           Export{2, "disk", directory("disk"), ""},
           Export{3, "strict", directory("strict"), "UseCookieVerifier=true;"},
           Export{4, "names", directory("names"), "DisableReaddirPlus=true;"},
           Export{5, "mem", "", ""},
           Export{6, "closed", directory("plain"),
                  "Access_Type=None; CLIENT { Clients=192.0.2.1; Access_Type=RW; }"},
           Export{7, "secure", directory("secure"), "PrivilegedPort=true;"},
           Export{8, "squashed", directory("squashed"), "Squash=root_squash;"},
           Export{9, "small", directory("small"), ""},
       }) {
    // A later setting of the same name does not replace the default's, so it is left to the block.
    config << block(one);
  }
}

bool Ganesha::try_start() {
  started_ = time(nullptr);
  fs::remove(log_path_);
  server_ = std::make_unique<Child>(
      std::vector<std::string>{"/usr/bin/env", "LD_PRELOAD=" + shim(), "ASAN_OPTIONS=", kProgram,
                               "-F", "-f", disk_ / "ganesha.conf", "-p", disk_ / "ganesha.pid",
                               "-L", log_path_, "-N", "NIV_EVENT"},
      disk_ / "ganesha.err");
  wait_until(
      [&] { return !server_->running() || text_of(log_path_).find(kReady) != std::string::npos; });
  return server_->running() && text_of(log_path_).find(kReady) != std::string::npos;
}

void Ganesha::start() {
  // Its client ids begin with the second in which it started: of two servers of one second each
  // would take the other's for its own.
  while (time(nullptr) <= started_) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (!try_start()) throw std::runtime_error("nfs-ganesha does not start:\n" + log_tail());
}

void Ganesha::stop() {
  if (!server_) return;
  server_->signal(SIGTERM);
  server_->wait(std::chrono::seconds(30));
  server_.reset();  // kills what still runs
}

std::string Ganesha::log_tail() const {
  const std::string text = text_of(log_path_) + text_of(disk_ / "ganesha.err");
  return text.substr(text.size() - std::min<size_t>(text.size(), 3000));
}

}  // namespace test
