// SftpFileIo: what is done with open files.
//
// Purpose:        reads, writes, syncs, and copies within the server. Each is begun anew, on the
//                 file's new handle, where the connection was lost in the middle.
// Thread-safety:  the client's loop only. Completions run on it.
// Errors:         as the server says. A WRITE that fails without a word for it: ENOSPC or EROFS
//                 where the file system's figures tell that, else EIO.
// Writing:        what the server has confirmed is in its system's cache. Where it does not offer
//                 fsync@openssh.com, there is no way to ask for more, and sync() has nothing to do.
// Bounds:         a read or write is split into requests of what the server takes
//                 (limits@openssh.com), all under way at once; kMaxCopy bytes a copy, since the
//                 server does nothing else meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cache/data/file_source.h"
#include "fusefs/backends/sftp/sftp_files.h"

namespace fusefs::sftp {

class SftpFileIo {
 public:
  using FileHandle = Backend::FileHandle;
  template <typename T>
  using Done = std::function<void(Result<T>)>;

  static constexpr uint64_t kMaxCopy = 16 << 20;

  SftpFileIo(SftpClient& client, SftpFiles& files) : client_(client), files_(files) {}

  void read(FileHandle file, uint64_t offset, uint32_t size, Done<std::string> done);
  void write(FileHandle file, uint64_t offset, std::string bytes, Done<WriteAnswer> done);
  void sync(FileHandle file, Done<Nothing> done);
  void getattr(FileHandle file, Done<Attr> done);
  // How many bytes were copied: as many as there were, and at most kMaxCopy.
  void copy(FileHandle from, uint64_t from_offset, FileHandle to, uint64_t to_offset,
            uint64_t length, Done<uint64_t> done);

 private:
  using FilePtr = SftpFiles::FilePtr;
  // One read() on its way.
  struct Reading {
    FilePtr file;
    uint64_t offset = 0;
    std::string bytes;       // of the size that was asked for
    uint64_t end = 0;        // where the file is known to end, within `bytes`
    uint32_t under_way = 0;  // requests
    uint32_t attempts = 0;
    int error = 0;
    Done<std::string> done;
  };
  struct Writing {
    FilePtr file;
    uint64_t offset = 0;
    std::shared_ptr<const std::string> bytes;
    uint32_t attempts = 0;
    Done<WriteAnswer> done;
  };
  struct Copying {
    FilePtr from, to;
    uint64_t from_offset = 0, to_offset = 0, length = 0;
    uint32_t attempts = 0;
    bool sent = false;
    Done<uint64_t> done;
  };
  using ReadingPtr = std::shared_ptr<Reading>;
  using WritingPtr = std::shared_ptr<Writing>;
  using CopyingPtr = std::shared_ptr<Copying>;
  using Answered = std::function<void(const GroupAnswer&)>;

  void begin_read(const ReadingPtr& reading);
  void ask(const ReadingPtr& reading, uint64_t from, uint64_t to);
  void on_data(const ReadingPtr& reading, uint64_t from, uint64_t to,
               const SftpClient::Answer& answer);
  void end_read(const ReadingPtr& reading);

  void begin_write(const WritingPtr& writing);
  void on_written(const WritingPtr& writing, const GroupAnswer& answer);
  void explain_write(const WritingPtr& writing, const SftpClient::Answer& failed);

  void begin_copy(const CopyingPtr& copying);
  void send_copy(const CopyingPtr& copying);
  void on_copied(const CopyingPtr& copying, const GroupAnswer& answer);

  // One request with the file's handle, begun anew as often as it takes.
  void ask_handle(const FilePtr& file, std::function<Request(const std::string& handle)> request,
                  uint32_t attempt, Answered done);

  SftpClient& client_;
  SftpFiles& files_;
};

}  // namespace fusefs::sftp
