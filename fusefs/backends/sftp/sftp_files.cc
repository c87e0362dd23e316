#include "fusefs/backends/sftp/sftp_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "fusefs/backends/sftp/failure_reason.h"

namespace fusefs::sftp {
namespace {

constexpr uint32_t kAccess = kOpenRead | kOpenWrite;

bool same_content(const FileAttrs& one, const FileAttrs& other) {
  return one.size == other.size && one.mtime == other.mtime;
}

}  // namespace

// ---- The table ----------------------------------------------------------------------------------

void SftpFiles::open(const ObjectId& id, uint32_t flags, Done<FileHandle> done) {
  const auto file = std::make_shared<File>();
  file->object = std::make_shared<Object>();
  file->object->id = id;
  file->access = flags & kAccess;
  file->waiting.emplace_back([this, file, done = std::move(done)](int error) {
    if (error != 0) return done(Status::error(error));
    done(enter(file));
  });
  file->opening = true;
  open_on_server(file, flags, 1);
}

SftpFiles::FileHandle SftpFiles::adopt(const ObjectId& id, uint32_t flags, const FileAttrs& attrs,
                                       const std::string& handle) {
  const auto file = std::make_shared<File>();
  file->object = object_of(id, flags, attrs);
  file->access = flags & kAccess;
  file->handle = handle;
  file->connection = client_.connection();
  return enter(file);
}

SftpFiles::FileHandle SftpFiles::promise(const ObjectId& id, uint32_t flags,
                                         const FileAttrs& attrs) {
  const auto file = std::make_shared<File>();
  file->object = object_of(id, flags, attrs);
  file->access = flags & kAccess;
  file->opening = true;
  return enter(file);
}

void SftpFiles::fulfil(const FilePtr& file, const FileAttrs& attrs, const std::string& handle) {
  note(*file->object, attrs);
  file->connection = client_.connection();
  if (file->released) return close(handle, file->connection);
  file->handle = handle;
  opened(file, 0);
}

void SftpFiles::fail(const FilePtr& file) {
  file->failed = true;
  opened(file, ESTALE);
}

SftpFiles::FileHandle SftpFiles::enter(const FilePtr& file) {
  ++file->object->open;
  objects_[file->object->id] = file->object;
  files_.emplace(++last_, file);
  return last_;
}

void SftpFiles::release(FileHandle number) {
  const auto found = files_.find(number);
  if (found == files_.end()) return;
  const FilePtr file = found->second;
  files_.erase(found);
  file->released = true;
  close(std::exchange(file->handle, {}), file->connection);
  if (--file->object->open == 0) {
    const auto object = objects_.find(file->object->id);
    if (object != objects_.end() && object->second == file->object) objects_.erase(object);
  }
  // Who waits for it keeps it, and would for as long as the server is away.
  for (const auto& done : std::exchange(file->waiting, {})) done(EBADF);
}

SftpFiles::FilePtr SftpFiles::find(FileHandle number) const {
  const auto found = files_.find(number);
  return found == files_.end() ? nullptr : found->second;
}

void SftpFiles::close(const std::string& handle, uint64_t connection) {
  if (handle.empty() || connection != client_.connection()) return;
  client_.submit(close_request(handle), connection, [](const SftpClient::Answer&) {});
}

void SftpFiles::clear() {
  // Who waits for a file keeps it.
  for (const auto& [number, file] : files_) file->waiting.clear();
  files_.clear();
  objects_.clear();
}

// ---- Opening, and opening again -----------------------------------------------------------------

void SftpFiles::with_handle(const FilePtr& file, std::function<void(int)> done) {
  if (file->released) return done(EBADF);
  if (!file->handle.empty() && file->connection == client_.connection()) return done(0);
  if (file->object->unlinked || file->failed) return done(ESTALE);
  file->handle.clear();
  file->waiting.push_back(std::move(done));
  if (std::exchange(file->opening, true)) return;
  open_on_server(file, file->access, 1);
}

void SftpFiles::open_on_server(const FilePtr& file, uint32_t flags, uint32_t attempt) {
  const std::string path = root_.of(file->object->id);
  std::vector<Request> requests;
  requests.push_back(open_request(path, flags));
  requests.push_back(stat_request(path));
  submit_group(client_, std::move(requests), SftpClient::kOneConnection,
               [this, file, flags, attempt](const GroupAnswer& answer) {
                 // To open once more does no harm, to truncate neither: nobody has written since.
                 if (answer.error == ECONNRESET && attempt < kMaxAttempts) {
                   return open_on_server(file, flags, attempt + 1);
                 }
                 on_open(file, flags, answer);
               });
}

void SftpFiles::on_open(const FilePtr& file, uint32_t flags, const GroupAnswer& answer) {
  const Result<std::string> handle = handle_of(answer.answers[0]);
  const Result<FileAttrs> attrs = attrs_of(answer.answers[1]);
  if (answer.error == 0 && !handle.ok()) return explain_open(file, flags, answer);
  int error = answer.error != 0 ? answer.error : attrs.error_number();
  const bool first = file->connection == 0;
  if (error == 0 && !first) {
    const bool same = !file->object->unlinked && unchanged(*file->object, attrs.value());
    if (file->released || !same) error = ESTALE;
  }
  if (error != 0) {
    if (handle.ok()) close(handle.value(), client_.connection());
    return opened(file, error);
  }
  if (first) file->object = object_of(file->object->id, flags, attrs.value());
  if (!first) note(*file->object, attrs.value());
  file->handle = handle.value();
  file->connection = client_.connection();
  opened(file, 0);
}

void SftpFiles::explain_open(const FilePtr& file, uint32_t flags, const GroupAnswer& answer) {
  const Result<FileAttrs> attrs = attrs_of(answer.answers[1]);
  const bool directory = attrs.ok() && S_ISDIR(attrs.value().permissions);
  if (!is_failure(answer.answers[0])) return opened(file, error_of(answer.answers[0]));
  if (directory || (flags & kOpenWrite) == 0) return opened(file, directory ? EISDIR : EIO);
  find_reason(client_, statvfs_request(root_.of(file->object->id)), SftpClient::kAnyConnection, 0,
              [this, file](int error) { opened(file, error); });
}

void SftpFiles::opened(const FilePtr& file, int error) {
  file->opening = false;
  const auto waiting = std::exchange(file->waiting, {});
  for (const auto& done : waiting) done(error);
}

// ---- What we do to files ------------------------------------------------------------------------

// What is open under that id already, unless that is another file by now (this one has just been
// made), or one that somebody else has changed: what its readers saw is not what the new one's
// will.
SftpFiles::ObjectPtr SftpFiles::object_of(const ObjectId& id, uint32_t flags,
                                          const FileAttrs& attrs) {
  ObjectPtr known = object(id);
  const bool truncated = (flags & kOpenTruncate) != 0;
  const bool is_new = (flags & kOpenExclusive) != 0;
  if (known && !is_new && (truncated || unchanged(*known, attrs))) {
    note(*known, attrs);
    return known;
  }
  auto made = std::make_shared<Object>();
  made->id = id;
  made->attrs = attrs;
  return made;
}

bool SftpFiles::unchanged(const Object& object, const FileAttrs& now) {
  if (same_content(object.attrs, now)) return true;
  if (object.changing == 0 && !object.unsure) return false;
  const Effect& effect = object.effect;
  return (effect.any_time || now.mtime >= object.attrs.mtime) &&
         now.size >= std::min(effect.least, object.attrs.size) &&
         now.size <= std::max(effect.most, object.attrs.size);
}

void SftpFiles::begin_change(Object& object, const Effect& effect) {
  if (object.changing == 0 && !object.unsure) object.effect = {};
  object.effect.least = std::min(object.effect.least, effect.least);
  object.effect.most = std::max(object.effect.most, effect.most);
  object.effect.any_time |= effect.any_time;
  ++object.changing;
}

void SftpFiles::end_change(Object& object, const FileAttrs* after) {
  --object.changing;
  if (after == nullptr) object.unsure = true;
  if (after != nullptr) note(object, *after);
}

void SftpFiles::note(Object& object, const FileAttrs& attrs) {
  object.attrs = attrs;
  if (object.changing == 0) object.unsure = false;
}

SftpFiles::ObjectPtr SftpFiles::object(const ObjectId& id) const {
  const auto found = objects_.find(id);
  return found == objects_.end() ? nullptr : found->second;
}

void SftpFiles::unlinked(const ObjectId& id) {
  const auto found = objects_.find(id);
  if (found == objects_.end()) return;
  found->second->unlinked = true;
  objects_.erase(found);
}

void SftpFiles::moved(const ObjectId& from, const ObjectId& to) {
  if (from == to) return;
  unlinked(to);
  std::vector<ObjectPtr> moving;
  std::erase_if(objects_, [&](const auto& item) {
    const bool moves = !moved_path(item.first, from, to).empty();
    if (moves) moving.push_back(item.second);
    return moves;
  });
  for (const ObjectPtr& object : moving) {
    object->id = moved_path(object->id, from, to);
    objects_[object->id] = object;
  }
}

}  // namespace fusefs::sftp
