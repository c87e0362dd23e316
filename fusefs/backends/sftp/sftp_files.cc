#include "fusefs/backends/sftp/sftp_files.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fusefs::sftp {

int error_of(const SftpClient::Answer& answer) {
  const bool nonsense = answer.error == EPROTO || answer.error == EBADMSG;
  if (answer.error != 0) return nonsense ? EIO : answer.error;
  const auto status = answer.type == PacketType::kStatus ? parse_status(answer.body) : std::nullopt;
  const bool tells = status && *status != StatusCode::kOk && *status != StatusCode::kEof;
  return tells ? errno_of(*status) : EIO;
}

void SftpFiles::open(const std::string& path, Done<FileHandle> done) {
  auto file = std::make_shared<File>();
  file->path = path;
  open_on_server(file, [this, file, done = std::move(done)](int error) {
    if (error != 0) return done(Status::error(error));
    files_.emplace(++last_, file);
    done(last_);
  });
}

void SftpFiles::open_on_server(const FilePtr& file, const std::function<void(int)>& done) {
  struct Opening {
    int error = 0;
    FileAttrs attrs;
  };
  const auto opening = std::make_shared<Opening>();
  // Its attributes and its handle, together.
  client_.submit(stat_request(file->path), SftpClient::kAnyConnection,
                 [opening](const SftpClient::Answer& answer) {
                   const auto attrs = answer.error == 0 && answer.type == PacketType::kAttrs
                                          ? parse_attrs(answer.body)
                                          : std::nullopt;
                   if (attrs) opening->attrs = *attrs;
                   if (!attrs) opening->error = error_of(answer);
                 });
  client_.submit(open_request(file->path), SftpClient::kAnyConnection,
                 [this, file, opening, done](const SftpClient::Answer& answer) {
                   const auto handle = answer.error == 0 && answer.type == PacketType::kHandle
                                           ? parse_handle(answer.body)
                                           : std::nullopt;
                   if (!handle) return done(error_of(answer));
                   const bool first = file->connection == 0;
                   if (!file->handle.empty()) close(*file);  // another reader was faster
                   file->handle = *handle;
                   file->connection = client_.connection();
                   if (first) file->attrs = opening->attrs;
                   const bool changed = file->attrs.size != opening->attrs.size ||
                                        file->attrs.mtime != opening->attrs.mtime;
                   if (changed || file->released) {
                     close(*file);
                     file->handle.clear();
                   }
                   done(changed || file->released ? ESTALE : 0);
                 });
}

void SftpFiles::release(FileHandle number) {
  const auto found = files_.find(number);
  if (found == files_.end()) return;
  found->second->released = true;
  close(*found->second);
  found->second->handle.clear();
  files_.erase(found);
}

void SftpFiles::close(const File& file) {
  if (file.handle.empty() || file.connection != client_.connection()) return;
  client_.submit(close_request(file.handle), file.connection, [](const SftpClient::Answer&) {});
}

// ---- Reading ------------------------------------------------------------------------------------

void SftpFiles::read(FileHandle number, uint64_t offset, uint32_t size, Done<std::string> done) {
  const auto found = files_.find(number);
  if (found == files_.end()) return done(Status::error(EBADF));
  auto reading = std::make_shared<Reading>();
  reading->file = found->second;
  reading->offset = offset;
  reading->bytes.resize(size);
  reading->end = size;
  reading->done = std::move(done);
  begin(reading);
}

void SftpFiles::begin(const ReadingPtr& reading) {
  const FilePtr& file = reading->file;
  if (file->handle.empty() || file->connection != client_.connection()) {
    if (++reading->reopens > kMaxReopens) return reading->done(Status::error(EIO));
    file->handle.clear();
    return open_on_server(file, [this, reading](int error) {
      if (error != 0) return reading->done(Status::error(error));
      begin(reading);
    });
  }
  reading->error = 0;
  reading->end = reading->bytes.size();
  if (reading->bytes.empty()) return end(reading);
  const uint64_t size = reading->bytes.size();
  reading->under_way = static_cast<uint32_t>((size + kChunk - 1) / kChunk);
  for (uint64_t from = 0; from < size; from += kChunk) {
    ask(reading, from, std::min<uint64_t>(from + kChunk, size));
  }
}

void SftpFiles::ask(const ReadingPtr& reading, uint64_t from, uint64_t to) {
  client_.submit(
      read_request(reading->file->handle, reading->offset + from, static_cast<uint32_t>(to - from)),
      reading->file->connection, [this, reading, from, to](const SftpClient::Answer& answer) {
        on_data(reading, from, to, answer);
      });
}

void SftpFiles::on_data(const ReadingPtr& reading, uint64_t from, uint64_t to,
                        const SftpClient::Answer& answer) {
  const bool is_data = answer.error == 0 && answer.type == PacketType::kData;
  const std::string_view data = is_data ? parse_data(answer.body).value_or("") : "";
  const bool at_end = answer.error == 0 && answer.type == PacketType::kStatus &&
                      parse_status(answer.body) == StatusCode::kEof;
  if (at_end) {
    reading->end = std::min(reading->end, from);
  } else if (data.empty() || data.size() > to - from) {
    if (reading->error == 0) reading->error = error_of(answer);
  } else {
    std::memcpy(reading->bytes.data() + from, data.data(), data.size());
    // A short answer is the end or the server's own bound: the next one tells which.
    if (data.size() < to - from && reading->error == 0) {
      return ask(reading, from + data.size(), to);
    }
  }
  if (--reading->under_way == 0) end(reading);
}

void SftpFiles::end(const ReadingPtr& reading) {
  if (reading->error == ECONNRESET) return begin(reading);  // opens it again
  if (reading->error != 0) return reading->done(Status::error(reading->error));
  reading->bytes.resize(reading->end);
  reading->done(std::move(reading->bytes));
}

}  // namespace fusefs::sftp
