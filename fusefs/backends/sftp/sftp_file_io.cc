#include "fusefs/backends/sftp/sftp_file_io.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fusefs/backends/sftp/failure_reason.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs::sftp {

// ---- Reading ------------------------------------------------------------------------------------

void SftpFileIo::read(FileHandle number, uint64_t offset, uint32_t size, Done<std::string> done) {
  const FilePtr file = files_.find(number);
  if (!file || !file->readable()) return done(Status::error(EBADF));
  const auto reading = std::make_shared<Reading>();
  reading->file = file;
  reading->offset = offset;
  reading->bytes.resize(size);
  reading->done = std::move(done);
  begin_read(reading);
}

void SftpFileIo::begin_read(const ReadingPtr& reading) {
  if (++reading->attempts > SftpFiles::kMaxAttempts) return reading->done(Status::error(EIO));
  files_.with_handle(reading->file, [this, reading](int error) {
    if (error != 0) return reading->done(Status::error(error));
    const uint64_t size = reading->bytes.size();
    const uint64_t length = client_.read_length();
    reading->error = 0;
    reading->end = size;
    if (size == 0) return end_read(reading);
    reading->under_way = static_cast<uint32_t>((size + length - 1) / length);
    for (uint64_t from = 0; from < size; from += length) {
      ask(reading, from, std::min(from + length, size));
    }
  });
}

void SftpFileIo::ask(const ReadingPtr& reading, uint64_t from, uint64_t to) {
  client_.submit(
      read_request(reading->file->handle, reading->offset + from, static_cast<uint32_t>(to - from)),
      reading->file->connection, [this, reading, from, to](const SftpClient::Answer& answer) {
        on_data(reading, from, to, answer);
      });
}

void SftpFileIo::on_data(const ReadingPtr& reading, uint64_t from, uint64_t to,
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
  if (--reading->under_way == 0) end_read(reading);
}

void SftpFileIo::end_read(const ReadingPtr& reading) {
  if (reading->error == ECONNRESET) return begin_read(reading);  // opens it again
  if (reading->error != 0) return reading->done(Status::error(reading->error));
  reading->bytes.resize(reading->end);
  reading->done(std::move(reading->bytes));
}

// ---- Writing ------------------------------------------------------------------------------------

void SftpFileIo::write(FileHandle number, uint64_t offset, std::string bytes,
                       Done<WriteAnswer> done) {
  const FilePtr file = files_.find(number);
  if (!file || !file->writable()) return done(Status::error(EBADF));
  if (bytes.empty()) return done(WriteAnswer{});
  const auto writing = std::make_shared<Writing>();
  writing->file = file;
  writing->offset = offset;
  writing->bytes = std::make_shared<const std::string>(std::move(bytes));
  writing->done = std::move(done);
  begin_write(writing);
}

void SftpFileIo::begin_write(const WritingPtr& writing) {
  ++writing->attempts;
  files_.with_handle(writing->file, [this, writing](int error) {
    const SftpFiles::File& file = *writing->file;
    const bool sent_before = writing->attempts > 1;
    if (error != 0 && sent_before) SftpFiles::end_change(*file.object, nullptr);
    if (error != 0) return writing->done(Status::error(error));
    const uint64_t end = writing->offset + writing->bytes->size();
    if (!sent_before) SftpFiles::begin_change(*file.object, {.least = end, .most = end});
    std::vector<Request> requests;
    const uint64_t length = client_.write_length();
    for (uint64_t from = 0; from < writing->bytes->size(); from += length) {
      const uint64_t count = std::min(length, writing->bytes->size() - from);
      requests.push_back(
          write_request(file.handle, writing->offset + from, writing->bytes, from, count));
    }
    // What it has become, to know it by after the next connection.
    requests.push_back(fstat_request(file.handle));
    submit_group(client_, std::move(requests), file.connection,
                 [this, writing](const GroupAnswer& answer) { on_written(writing, answer); });
  });
}

void SftpFileIo::on_written(const WritingPtr& writing, const GroupAnswer& answer) {
  // The same bytes in the same place: it does no harm to write them once more.
  if (answer.error == ECONNRESET && writing->attempts < SftpFiles::kMaxAttempts) {
    return begin_write(writing);
  }
  const Result<FileAttrs> after = attrs_of(answer.answers.back());
  SftpFiles::end_change(*writing->file->object, after.ok() ? &after.value() : nullptr);
  if (answer.error != 0) return writing->done(Status::error(answer.error));
  for (size_t i = 0; i + 1 < answer.answers.size(); ++i) {
    if (status_of(answer.answers[i]) != 0) return explain_write(writing, answer.answers[i]);
  }
  writing->done(WriteAnswer{.stable = true, .verifier = 0});
}

void SftpFileIo::explain_write(const WritingPtr& writing, const SftpClient::Answer& failed) {
  if (!is_failure(failed) || !client_.extensions().fstatvfs) {
    return writing->done(Status::error(status_of(failed)));
  }
  find_reason(client_, fstatvfs_request(writing->file->handle), writing->file->connection,
              writing->bytes->size(),
              [writing](int error) { writing->done(Status::error(error)); });
}

// ---- Asking -------------------------------------------------------------------------------------

void SftpFileIo::ask_handle(const FilePtr& file,
                            std::function<Request(const std::string& handle)> request,
                            uint32_t attempt, Answered done) {
  files_.with_handle(
      file, [this, file, request = std::move(request), attempt, done = std::move(done)](int error) {
        if (error != 0) return done({.error = error, .answers = {}});
        std::vector<Request> one;
        one.push_back(request(file->handle));
        submit_group(client_, std::move(one), file->connection,
                     [this, file, request, attempt, done](const GroupAnswer& answer) {
                       if (answer.error == ECONNRESET && attempt < SftpFiles::kMaxAttempts) {
                         return ask_handle(file, request, attempt + 1, done);
                       }
                       done(answer);
                     });
      });
}

void SftpFileIo::sync(FileHandle number, Done<Nothing> done) {
  const FilePtr file = files_.find(number);
  if (!file) return done(Status::error(EBADF));
  ask_handle(
      file,
      // Where it can't be asked to, one that changes nothing tells that the file is still ours.
      [this](const std::string& handle) {
        return client_.extensions().fsync ? fsync_request(handle) : fstat_request(handle);
      },
      1,
      [done = std::move(done)](const GroupAnswer& answer) {
        if (answer.error != 0) return done(Status::error(answer.error));
        const int error = status_of(answer.answers[0]);
        if (error != 0 && !attrs_of(answer.answers[0]).ok()) return done(Status::error(error));
        done(Nothing{});
      });
}

void SftpFileIo::getattr(FileHandle number, Done<Attr> done) {
  const FilePtr file = files_.find(number);
  if (!file) return done(Status::error(EBADF));
  ask_handle(file, fstat_request, 1, [file, done = std::move(done)](const GroupAnswer& answer) {
    if (answer.error != 0) return done(Status::error(answer.error));
    const Result<FileAttrs> attrs = attrs_of(answer.answers[0]);
    if (!attrs.ok()) return done(attrs.status());
    SftpFiles::note(*file->object, attrs.value());
    done(to_attr(attrs.value(), inode_of(file->object->id), wall_seconds_now()));
  });
}

// ---- Copying ------------------------------------------------------------------------------------

void SftpFileIo::copy(FileHandle from, uint64_t from_offset, FileHandle to, uint64_t to_offset,
                      uint64_t length, Done<uint64_t> done) {
  const auto copying = std::make_shared<Copying>();
  copying->from = files_.find(from);
  copying->to = files_.find(to);
  if (!copying->from || !copying->to || !copying->from->readable() || !copying->to->writable()) {
    return done(Status::error(EBADF));
  }
  // The server copies between two handles of two files only.
  if (copying->from->object == copying->to->object) return done(Status::error(EOPNOTSUPP));
  if (length == 0) return done(uint64_t{0});
  copying->from_offset = from_offset;
  copying->to_offset = to_offset;
  copying->length = std::min(length, kMaxCopy);
  copying->done = std::move(done);
  begin_copy(copying);
}

void SftpFileIo::begin_copy(const CopyingPtr& copying) {
  ++copying->attempts;
  const auto fail = [copying](int error) {
    if (copying->sent) SftpFiles::end_change(*copying->to->object, nullptr);
    copying->done(Status::error(error));
  };
  files_.with_handle(copying->from, [this, copying, fail](int error) {
    if (error != 0) return fail(error);
    files_.with_handle(copying->to, [this, copying, fail](int second_error) {
      if (second_error != 0) return fail(second_error);
      if (!client_.extensions().copy_data) return fail(EOPNOTSUPP);
      send_copy(copying);
    });
  });
}

void SftpFileIo::send_copy(const CopyingPtr& copying) {
  const SftpFiles::File& from = *copying->from;
  const SftpFiles::File& to = *copying->to;
  const uint64_t end = copying->to_offset + copying->length;
  if (!std::exchange(copying->sent, true))
    SftpFiles::begin_change(*to.object, {.least = end, .most = end});
  std::vector<Request> requests;
  requests.push_back(fstat_request(from.handle));
  requests.push_back(copy_data_request(from.handle, copying->from_offset, copying->length,
                                       to.handle, copying->to_offset));
  requests.push_back(fstat_request(to.handle));
  // Where the first file's handle is of an older connection, this one's loss has told it already.
  submit_group(client_, std::move(requests), std::min(from.connection, to.connection),
               [this, copying](const GroupAnswer& answer) { on_copied(copying, answer); });
}

void SftpFileIo::on_copied(const CopyingPtr& copying, const GroupAnswer& answer) {
  if (answer.error == ECONNRESET && copying->attempts < SftpFiles::kMaxAttempts) {
    return begin_copy(copying);
  }
  const Result<FileAttrs> after = attrs_of(answer.answers[2]);
  SftpFiles::end_change(*copying->to->object, after.ok() ? &after.value() : nullptr);
  if (answer.error != 0) return copying->done(Status::error(answer.error));
  const Result<FileAttrs> source = attrs_of(answer.answers[0]);
  const int error = source.ok() ? status_of(answer.answers[1]) : source.error_number();
  // No reason given: it takes handles for one file whose names were the same at different times, or
  // there is no space, which the caller's own reads and writes find out.
  if (source.ok() && is_failure(answer.answers[1])) {
    return copying->done(Status::error(EOPNOTSUPP));
  }
  if (error != 0) return copying->done(Status::error(error));
  const uint64_t size = source.value().size;
  const uint64_t there = size > copying->from_offset ? size - copying->from_offset : 0;
  copying->done(std::min(copying->length, there));
}

}  // namespace fusefs::sftp
