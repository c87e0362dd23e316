// bench_reference: the limit of FUSE, a server that does nothing but copy ready-made replies.
//
// Purpose:        what cookiefs is measured against: the same libfuse loop with the same settings
//                 and the same dirents, but no cache, no search and no encoding. The listing is
//                 encoded once, before the mount; a READDIR is a lookup by offset and one
//                 fuse_reply_buf from there.
// Ownership:      main owns the listing; libfuse's userdata refers to it.
// Thread-safety:  the listing is constant while the loop runs.
//
// The mount's root is the directory. Its names are those of `sim:big=N,name_len=24`; they can be
// listed and looked at, not opened. With --plus every listing is a READDIRPLUS; with --keep the
// kernel keeps the listing in its own cache.
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

// As in fusefs/session.cc: the comparison is only fair while these are the same.
constexpr uint32_t kMaxRequestBytes = 1u << 20;
constexpr uint32_t kMaxBackground = 64;
constexpr uint32_t kMaxThreads = 64;
constexpr uint32_t kIdleThreads = 10;

constexpr int kNameLength = 24;
constexpr uint64_t kFirstIno = 1u << 20;

constexpr double kValidSeconds = 3;

struct ServeOptions {
  uint64_t entries = 1'000'000;
  bool plus = false;
  bool keep = false;
};

fuse_attr file_attr(uint64_t ino) {
  fuse_attr attr{};
  attr.ino = ino;
  attr.mode = S_IFREG | 0644;
  attr.nlink = 1;
  attr.blksize = 4096;
  return attr;
}

// "." and "..", then the files: every file's dirent has one size, so an offset gives its place.
class ReadyListing {
 public:
  explicit ReadyListing(const ServeOptions& options)
      : options_(options), files_(options.entries), prefix_(options.plus ? kPlusBytes : 0) {
    bytes_.reserve(place(kDots + files_));
    append(".", FUSE_ROOT_ID, S_IFDIR >> 12, 1);
    append("..", FUSE_ROOT_ID, S_IFDIR >> 12, 2);
    for (uint64_t i = 0; i < files_; ++i) {
      char name[32];
      std::snprintf(name, sizeof name, "file-%019llu", static_cast<unsigned long long>(i));
      append({name, kNameLength}, kFirstIno + i, S_IFREG >> 12, kDots + i + 1);
    }
  }

  [[nodiscard]] const ServeOptions& options() const { return options_; }
  [[nodiscard]] bool is_file(uint64_t ino) const {
    return ino >= kFirstIno && ino - kFirstIno < files_;
  }

  // The dirents after `offset` that fit into `size` bytes.
  [[nodiscard]] std::string_view reply(uint64_t offset, size_t size) const {
    const uint64_t all = kDots + files_;
    if (offset >= all) return {};
    const size_t from = place(offset);
    size_t to = std::min(from + size, bytes_.size());
    if (to < place(kDots)) return {};  // no room for the dots: no caller's page is that small
    to -= (to - place(kDots)) % (prefix_ + kFileBytes);
    return {bytes_.data() + from, to - from};
  }

 private:
  static constexpr uint64_t kDots = 2;
  static constexpr size_t kDotBytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + 2);
  static constexpr size_t kFileBytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + kNameLength);

  static constexpr size_t kPlusBytes = sizeof(fuse_entry_out);

  [[nodiscard]] size_t place(uint64_t index) const {
    const size_t dot = prefix_ + kDotBytes;
    return index < kDots ? index * dot : kDots * dot + (index - kDots) * (prefix_ + kFileBytes);
  }

  void append(std::string_view name, uint64_t ino, uint32_t type, uint64_t offset) {
    const fuse_dirent header = {
        .ino = ino, .off = offset, .namelen = static_cast<uint32_t>(name.size()), .type = type};
    const size_t begin = bytes_.size();
    bytes_.resize(begin + prefix_ + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name.size()));
    if (prefix_ != 0 && type == S_IFREG >> 12) {
      fuse_entry_out entry{};
      entry.nodeid = ino;
      entry.entry_valid = entry.attr_valid = static_cast<uint64_t>(kValidSeconds);
      entry.attr = file_attr(ino);
      std::memcpy(&bytes_[begin], &entry, sizeof entry);
    }
    std::memcpy(&bytes_[begin + prefix_], &header, FUSE_NAME_OFFSET);
    std::memcpy(&bytes_[begin + prefix_ + FUSE_NAME_OFFSET], name.data(), name.size());
  }

  const ServeOptions options_;
  const uint64_t files_;
  const size_t prefix_;  // of each dirent, in bytes
  std::vector<char> bytes_;
};

const ReadyListing& listing_of(fuse_req_t req) {
  return *static_cast<const ReadyListing*>(fuse_req_userdata(req));
}

void operation_init(void* listing, fuse_conn_info* connection) {
  const bool plus = static_cast<const ReadyListing*>(listing)->options().plus;
  connection->want &= ~(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ |
                        FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
  connection->want |= connection->capable & FUSE_CAP_PARALLEL_DIROPS;
  if (plus) connection->want |= connection->capable & FUSE_CAP_READDIRPLUS;
  connection->max_write = kMaxRequestBytes;
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kMaxBackground * 3 / 4;
}

void operation_lookup(fuse_req_t req, fuse_ino_t, const char*) { fuse_reply_err(req, ENOENT); }

void operation_forget(fuse_req_t req, fuse_ino_t, uint64_t) { fuse_reply_none(req); }

void operation_forget_multi(fuse_req_t req, size_t, fuse_forget_data*) { fuse_reply_none(req); }

void operation_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  if (ino != FUSE_ROOT_ID && !listing_of(req).is_file(ino)) {
    fuse_reply_err(req, ENOENT);
    return;
  }
  struct stat attr {};
  attr.st_ino = ino;
  attr.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
  attr.st_nlink = ino == FUSE_ROOT_ID ? 2 : 1;
  attr.st_uid = ::getuid();
  attr.st_gid = ::getgid();
  fuse_reply_attr(req, &attr, kValidSeconds);
}

void operation_opendir(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  if (listing_of(req).options().keep) info->cache_readdir = info->keep_cache = 1;
  fuse_reply_open(req, info);
}

void operation_readdir(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  const std::string_view reply = listing_of(req).reply(static_cast<uint64_t>(offset),
                                                       std::min<size_t>(size, kMaxRequestBytes));
  fuse_reply_buf(req, reply.data(), reply.size());
}

void operation_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, 0); }

int serve(fuse_session* session) {
  fuse_loop_config* const config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(config, 0);
  fuse_loop_cfg_set_max_threads(config, kMaxThreads);
  fuse_loop_cfg_set_idle_threads(config, kIdleThreads);
  const int result = fuse_session_loop_mt(session, config);
  fuse_loop_cfg_destroy(config);
  return result < 0 ? 1 : 0;  // positive: ended by that signal
}

int run(const ServeOptions& options, const std::string& mountpoint) {
  ReadyListing listing(options);
  fuse_lowlevel_ops operations{};
  operations.init = operation_init;
  operations.lookup = operation_lookup;
  operations.forget = operation_forget;
  operations.forget_multi = operation_forget_multi;
  operations.getattr = operation_getattr;
  operations.opendir = operation_opendir;
  // The kernel asks for the one or for the other, and for nothing else.
  (options.plus ? operations.readdirplus : operations.readdir) = operation_readdir;
  operations.releasedir = operation_releasedir;
  std::string words[] = {"bench_reference", "-ofsname=bench_reference"};
  char* pointers[] = {words[0].data(), words[1].data(), nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(2, pointers);
  fuse_session* const session =
      fuse_session_new(&arguments, &operations, sizeof operations, &listing);
  fuse_opt_free_args(&arguments);
  if (session == nullptr) return 1;
  int result = 1;
  if (fuse_set_signal_handlers(session) == 0) {
    if (fuse_session_mount(session, mountpoint.c_str()) == 0) {
      result = serve(session);
      fuse_session_unmount(session);
    }
    fuse_remove_signal_handlers(session);
  }
  fuse_session_destroy(session);
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("Serves one directory of ready-made dirents: the limit of FUSE");
  ServeOptions options;
  std::string mountpoint;
  bool foreground = false;
  app.add_option("--entries", options.entries, "files in the directory")
      ->check(CLI::Range(1, 100'000'000));
  app.add_flag("--plus", options.plus, "give attributes with every listing (READDIRPLUS)");
  app.add_flag("--keep", options.keep, "let the kernel keep the listing (FOPEN_CACHE_DIR)");
  app.add_option("MOUNTPOINT", mountpoint, "where to mount")->required();
  app.add_flag("-f", foreground, "stay in the foreground (it always does)");
  CLI11_PARSE(app, argc, argv);
  return run(options, mountpoint);
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_reference: %s\n", error.what());
  return 1;
}
