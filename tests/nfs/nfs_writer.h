// NfsWriter: a second client of a server, by libnfs' own blocking interface: what it changes, the
// server knows of at once.
//
// Thread-safety:  one thread.
// Errors:         exceptions with libnfs' words; unlink() tells whether there was something.
#pragma once

#include <fcntl.h>
#include <nfsc/libnfs.h>

#include <cerrno>
#include <stdexcept>
#include <string>

namespace test {

class NfsWriter {
 public:
  explicit NfsWriter(const std::string& url) : nfs_(nfs_init_context()) {
    nfs_url* const parsed = nfs_parse_url_dir(nfs_, url.c_str());
    if (parsed == nullptr) throw std::runtime_error(nfs_get_error(nfs_));
    const int mounted = nfs_mount(nfs_, parsed->server, parsed->path);
    nfs_destroy_url(parsed);
    check(mounted);
  }
  ~NfsWriter() { nfs_destroy_context(nfs_); }
  NfsWriter(const NfsWriter&) = delete;
  NfsWriter& operator=(const NfsWriter&) = delete;

  void create(const std::string& path) {
    nfsfh* file = nullptr;
    check(nfs_creat(nfs_, path.c_str(), 0644, &file));
    check(nfs_close(nfs_, file));
  }
  void mkdir(const std::string& path) { check(nfs_mkdir(nfs_, path.c_str())); }
  void rename(const std::string& from, const std::string& to) {
    check(nfs_rename(nfs_, from.c_str(), to.c_str()));
  }
  bool unlink(const std::string& path) {
    const int result = nfs_unlink(nfs_, path.c_str());
    if (result == -ENOENT) return false;
    check(result);
    return true;
  }
  void rmdir(const std::string& path) { check(nfs_rmdir(nfs_, path.c_str())); }

 private:
  void check(int result) {
    if (result < 0) throw std::runtime_error(nfs_get_error(nfs_));
  }

  nfs_context* const nfs_;
};

}  // namespace test
