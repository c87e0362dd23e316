#include "fusefs/backends/nfs/nfs_mount.h"

#include <netinet/in.h>
#include <nfsc/libnfs-zdr.h>
// The above first: the others need its types.
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-portmap.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/wire_enum.h"
#include "fusefs/backends/url_text.h"

namespace fusefs::nfs {
namespace {

using cache::Status;
using cache::TimePoint;

constexpr uint16_t kPortmapPort = 111;
constexpr size_t kMaxExportsShown = 8;
constexpr size_t kMaxExports = 10000;

// One connection on which one call after another is made and waited for.
class Dialog {
 public:
  Dialog(Security security, CallerPtr caller, TimePoint deadline)
      : security_(security), caller_(std::move(caller)), deadline_(deadline) {}

  Status connect(const std::vector<Address>& addresses, SourcePort source) {
    Status status = Status::error(EHOSTUNREACH);
    for (const Address& address : addresses) {
      const auto socket = connect_socket(address, source, deadline_, -1);
      status = socket.status();
      if (!socket.ok()) continue;
      rpc_ = std::make_unique<RpcContext>(socket.value(), security_);
      break;
    }
    return status;
  }

  // `take` reads the result.
  Status call(Procedure procedure, const void* arguments,
              const std::function<void(const void* result)>& take) {
    std::optional<Status> outcome;
    const bool sent = rpc_->call(
        procedure, arguments, caller_, [&](RpcStatus status, const void* result, const char*) {
          outcome = Status();
          if (status == RpcStatus::kAnswered) return take(result);
          outcome = Status::error(status == RpcStatus::kRefused ? EPROTO : ECONNRESET);
        });
    if (!sent) return Status::error(ENOMEM);
    while (!outcome) {
      const TimePoint now = std::chrono::steady_clock::now();
      if (now >= deadline_) return give_up(ETIMEDOUT);
      pollfd polled = {.fd = rpc_->socket(), .events = rpc_->events(), .revents = 0};
      const int ready = poll(&polled, 1, poll_timeout(deadline_, now));
      if (!rpc_->service(ready > 0 ? polled.revents : short{0}) && !outcome) {
        return give_up(ECONNRESET);
      }
    }
    return *outcome;
  }

 private:
  // The reply refers to the caller's stack: it must not come any more.
  Status give_up(int error) {
    rpc_.reset();
    return Status::error(error);
  }

  const Security security_;
  const CallerPtr caller_;
  const TimePoint deadline_;
  std::unique_ptr<RpcContext> rpc_;
};

class ExportFinder {
 public:
  ExportFinder(const NfsUrl& url, const NfsOptions& options, CallerPtr caller, TimePoint deadline,
               std::string* error_text)
      : url_(url),
        options_(options),
        caller_(std::move(caller)),
        deadline_(deadline),
        error_text_(*error_text) {}

  Result<Mounted> find() {
    std::string text;
    addresses_ = resolve(url_.host, 0, &text);
    if (addresses_.empty()) {
      return fail(EHOSTUNREACH, "the host " + quote(url_.host) + " can't be found (" + text +
                                    "); check its spelling");
    }
    if (options_.version == 4) {
      return Mounted{.port = options_.port != 0 ? options_.port : uint16_t{2049},
                     .root = {},
                     .exported = "/",
                     .below = path_parts(url_.path)};
    }
    return find3();
  }

 private:
  Status fail(int error, const std::string& text) {
    error_text_ = url_text(url_) + ": " + text;
    return Status::error(error);
  }

  std::vector<Address> at_port(uint16_t port) const {
    std::vector<Address> addresses = addresses_;
    for (Address& address : addresses) {
      // Both kinds have the port at the same place; this is said for the reader's sake only.
      if (address.storage.ss_family == AF_INET6) {
        reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(port);
      } else {
        reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(port);
      }
    }
    return addresses;
  }

  Result<Mounted> find3() {
    uint16_t nfs = options_.port;
    uint16_t mount = options_.mountport;
    if (nfs == 0 || mount == 0) {
      const Status asked = ask_portmap(&nfs, &mount);
      if (!asked.ok()) return asked;
    }
    Dialog dialog(options_.security, caller_, deadline_);
    const Status connected = dialog.connect(at_port(mount), options_.source_port);
    if (!connected.ok()) {
      return fail(connected.error_number(),
                  connect_error(url_.host, mount, connected.error_number()) +
                      " (the mount protocol's port, mountport=)");
    }
    Result<Mounted> mounted = mount_longest(dialog);
    if (mounted.ok()) mounted.value().port = nfs;
    return mounted;
  }

  Status ask_portmap(uint16_t* nfs, uint16_t* mount) {
    Dialog dialog(Security::kNone, caller_, deadline_);
    const Status connected = dialog.connect(at_port(kPortmapPort), SourcePort::kAny);
    if (!connected.ok()) {
      return fail(connected.error_number(),
                  connect_error(url_.host, kPortmapPort, connected.error_number()) +
                      " (the port mapper; with port= and mountport= it is not asked)");
    }
    if (*nfs == 0) {
      const Status status = get_port(dialog, kNfsProgram, "NFS version 3", nfs);
      if (!status.ok()) return status;
    }
    return *mount == 0 ? get_port(dialog, kMountProgram, "the mount protocol", mount) : Status();
  }

  Status get_port(Dialog& dialog, uint32_t program, const std::string& what, uint16_t* port) {
    const pmap2_mapping mapping = {.prog = program, .vers = 3, .prot = IPPROTO_TCP, .port = 0};
    uint32_t found = 0;
    const Status status =
        dialog.call(Procedure::kPortmapGetport, &mapping,
                    [&](const void* result) { found = *static_cast<const uint32_t*>(result); });
    if (!status.ok()) {
      return fail(status.error_number(), "the port mapper of " + quote(url_.host) +
                                             " does not answer (" +
                                             std::strerror(status.error_number()) + ")");
    }
    if (found == 0 || found > 65535) {
      return fail(ENOENT, quote(url_.host) + " does not offer " + what +
                              " over TCP; try version=4, or give port= and mountport=");
    }
    *port = static_cast<uint16_t>(found);
    return {};
  }

  // 0, or what the server says of mounting `path`; negative: it could not be asked.
  int try_mount(Dialog& dialog, const std::string& path, Handle* root) {
    int answer = EIO;
    const Status status =
        dialog.call(Procedure::kMountMount, path.c_str(), [&](const void* result) {
          const auto& mounted = *static_cast<const mountres3*>(result);
          answer = static_cast<int>(wire_number(mounted.fhs_status));
          if (answer != 0) return;
          const fhandle3& handle = mounted.mountres3_u.mountinfo.fhandle;
          const bool good = handle.fhandle3_len > 0 && handle.fhandle3_len <= FHSIZE3 &&
                            handle.fhandle3_val != nullptr;
          if (good) root->assign(handle.fhandle3_val, handle.fhandle3_len);
          if (!good) answer = EIO;
        });
    return status.ok() ? answer : -status.error_number();
  }

  Result<Mounted> mount_longest(Dialog& dialog) {
    const std::vector<std::string> parts = path_parts(url_.path);
    int first = 0;
    bool denied = false;
    for (size_t take = parts.size() + 1; take-- > 0;) {
      std::string path;
      for (size_t i = 0; i < take; ++i) path.append(1, '/').append(parts[i]);
      if (path.empty()) path = "/";
      Mounted mounted;
      const int answer = try_mount(dialog, path, &mounted.root);
      if (answer == 0) {
        mounted.exported = path;
        mounted.below.assign(parts.begin() + static_cast<std::ptrdiff_t>(take), parts.end());
        return mounted;
      }
      if (answer < 0) {
        return fail(-answer, "the mount protocol of " + quote(url_.host) + " does not answer (" +
                                 std::strerror(-answer) + ")");
      }
      if (first == 0) first = answer;
      // Most servers let nobody mount "/": that says nothing of what was meant.
      const bool meant = take > 0 || parts.empty();
      denied = denied || (meant && (answer == MNT3ERR_ACCES || answer == MNT3ERR_PERM));
    }
    const std::string exports = known_exports(dialog);
    if (denied) {
      return fail(EACCES, "the server refuses " + quote(url_.path) +
                              " to this machine, or has no such export" + exports +
                              (options_.source_port == SourcePort::kAny
                                   ? "; it may insist on a port below 1024 (resvport)"
                                   : ""));
    }
    return fail(first == MNT3ERR_NOTDIR ? ENOTDIR : ENOENT,
                "the server has no export " + quote(url_.path) + exports);
  }

  std::string known_exports(Dialog& dialog) {
    std::vector<std::string> names;
    size_t seen = 0;
    const Status status = dialog.call(Procedure::kMountExport, nullptr, [&](const void* result) {
      const exportnode* node = *static_cast<const exports*>(result);
      for (; node != nullptr && seen < kMaxExports; node = node->ex_next) {
        ++seen;
        if (node->ex_dir != nullptr && names.size() < kMaxExportsShown) {
          names.emplace_back(printable(node->ex_dir));
        }
      }
    });
    if (!status.ok() || names.empty()) return "; it shows none to this machine";
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "; it has " : ", ") + name;
    if (seen > names.size()) text += ", ...";
    return text;
  }

  // What a server says goes to a terminal.
  static std::string printable(const char* text) {
    std::string clean(text, strnlen(text, 256));
    std::replace_if(
        clean.begin(), clean.end(),
        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return clean;
  }

  const NfsUrl& url_;
  const NfsOptions& options_;
  const CallerPtr caller_;
  const TimePoint deadline_;
  std::string& error_text_;
  std::vector<Address> addresses_;
};

}  // namespace

std::vector<std::string> path_parts(const std::string& path) {
  std::vector<std::string> parts;
  size_t from = 0;
  while (from < path.size()) {
    const size_t slash = std::min(path.find('/', from), path.size());
    if (slash > from) parts.push_back(path.substr(from, slash - from));
    from = slash + 1;
  }
  return parts;
}

std::string connect_error(const std::string& host, uint16_t port, int error) {
  const std::string where = quote(host) + " port " + std::to_string(port);
  switch (error) {
    case ECONNREFUSED:
      return where + " refuses connections; is the server running?";
    case ETIMEDOUT:
      return where + " does not answer; check the host and what filters the way to it";
    default:
      return where + " can't be reached: " + std::strerror(error);
  }
}

Result<Mounted> find_export(const NfsUrl& url, const NfsOptions& options, const CallerPtr& caller,
                            TimePoint deadline, std::string* error_text) {
  Result<Mounted> result = Status::error(EIO);
  run_on_stack(kDecoderStack,
               [&] { result = ExportFinder(url, options, caller, deadline, error_text).find(); });
  return result;
}

}  // namespace fusefs::nfs
