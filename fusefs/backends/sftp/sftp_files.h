// SftpFiles: open files, to be read.
//
// Purpose:        keeps a handle on the server for every open file, and opens it again where the
//                 connection was lost: then only as long as size and modification time are what
//                 they were, so that no reader gets half of one file and half of another.
// Ownership:      owns the table; handles are closed with release().
// Thread-safety:  the client's loop only. Completions run on it.
// Errors:         as the server says; ESTALE: the file was replaced or changed while the connection
//                 was lost.
// Bounds:         a read is split into requests of kChunk bytes, all under way at once.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "cache/base/result.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/sftp/sftp_client.h"

namespace fusefs::sftp {

class SftpFiles {
 public:
  using FileHandle = Backend::FileHandle;
  template <typename T>
  using Done = std::function<void(Result<T>)>;

  static constexpr uint32_t kChunk = 32 << 10;  // bytes: what every server can

  explicit SftpFiles(SftpClient& client) : client_(client) {}

  void open(const std::string& path, Done<FileHandle> done);
  void read(FileHandle file, uint64_t offset, uint32_t size, Done<std::string> done);
  void release(FileHandle file);
  void clear() { files_.clear(); }

 private:
  struct File {
    std::string path;
    FileAttrs attrs;  // when it was opened first
    std::string handle;
    uint64_t connection = 0;
    bool released = false;
  };
  using FilePtr = std::shared_ptr<File>;
  // One read() on its way.
  struct Reading {
    FilePtr file;
    uint64_t offset = 0;
    std::string bytes;       // of the size that was asked for
    uint64_t end;            // where the file is known to end, within `bytes`
    uint32_t under_way = 0;  // requests
    uint32_t reopens = 0;
    int error = 0;
    Done<std::string> done;
  };
  using ReadingPtr = std::shared_ptr<Reading>;
  static constexpr uint32_t kMaxReopens = 8;

  // Opens `file` on the server, or again.
  void open_on_server(const FilePtr& file, const std::function<void(int error)>& done);
  void begin(const ReadingPtr& reading);
  void ask(const ReadingPtr& reading, uint64_t from, uint64_t to);
  void on_data(const ReadingPtr& reading, uint64_t from, uint64_t to,
               const SftpClient::Answer& answer);
  void end(const ReadingPtr& reading);
  void close(const File& file);

  SftpClient& client_;
  std::unordered_map<FileHandle, FilePtr> files_;
  FileHandle last_ = 0;
};

// The errno of an answer that is not of the type that was asked for, or is malformed.
int error_of(const SftpClient::Answer& answer);

}  // namespace fusefs::sftp
