#include "fusefs/backends/sftp/sftp_setattr.h"

#include <sys/stat.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "fusefs/backends/sftp/failure_reason.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs::sftp {
namespace {

constexpr uint32_t kAnyAtime = SetAttr::kAtime | SetAttr::kAtimeNow;
constexpr uint32_t kAnyMtime = SetAttr::kMtime | SetAttr::kMtimeNow;

uint32_t wire_seconds(int64_t seconds) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(seconds, 0, std::numeric_limits<uint32_t>::max()));
}

// One of two is to be set, which can only be set together.
bool half_of_two(const SetAttr& set) {
  return set.has(SetAttr::kUid) != set.has(SetAttr::kGid) ||
         set.has(kAnyAtime) != set.has(kAnyMtime);
}

// The time of access alone is missing. It may be as it was seen last: it says little. That of the
// change may not: it tells of others' changes.
bool lacks_only_atime(const SetAttr& set) {
  return set.has(kAnyMtime) && !set.has(kAnyAtime) &&
         set.has(SetAttr::kUid) == set.has(SetAttr::kGid);
}

SftpFiles::Effect effect_of(const SetAttr& set) {
  SftpFiles::Effect effect;
  if (set.has(SetAttr::kSize)) effect.least = effect.most = set.size;
  effect.any_time = set.has(kAnyAtime | kAnyMtime);
  return effect;
}

}  // namespace

std::vector<FileAttrs> setattr_steps(const SetAttr& set, const FileAttrs& before,
                                     int64_t wall_seconds) {
  std::vector<FileAttrs> steps;
  if (set.has(SetAttr::kUid | SetAttr::kGid)) {
    FileAttrs& owner = steps.emplace_back();
    owner.flags = FileAttrs::kUidGid;
    owner.uid = set.has(SetAttr::kUid) ? set.uid : before.uid;
    owner.gid = set.has(SetAttr::kGid) ? set.gid : before.gid;
  }
  if (set.has(SetAttr::kMode)) {
    FileAttrs& mode = steps.emplace_back();
    mode.flags = FileAttrs::kPermissions;
    mode.permissions = set.mode & 07777;
  }
  if (set.has(SetAttr::kSize)) {
    FileAttrs& size = steps.emplace_back();
    size.flags = FileAttrs::kSize;
    size.size = set.size;
  }
  if (set.has(kAnyAtime | kAnyMtime)) {
    FileAttrs& times = steps.emplace_back();
    times.flags = FileAttrs::kTimes;
    times.atime = times.mtime = wire_seconds(wall_seconds);
    if (!set.has(kAnyAtime)) times.atime = before.atime;
    if (!set.has(kAnyMtime)) times.mtime = before.mtime;
    if (set.has(SetAttr::kAtime)) times.atime = wire_seconds(set.atime.seconds);
    if (set.has(SetAttr::kMtime)) times.mtime = wire_seconds(set.mtime.seconds);
  }
  return steps;
}

void SftpSetattr::setattr(const ObjectId& id, FileHandle number, const SetAttr& set, Done done) {
  const auto setting = std::make_shared<Setting>();
  setting->file = number != 0 ? files_.find(number) : nullptr;
  setting->id = id;
  setting->set = set;
  setting->done = std::move(done);
  const bool sizes = set.has(SetAttr::kSize);
  const bool times = set.has(kAnyAtime | kAnyMtime);
  if (setting->file && sizes && !setting->file->writable()) {
    // Its name may be another's by now.
    if (setting->file->object->unlinked) return fail(setting, EINVAL);
    setting->file = nullptr;
  }
  if (sizes || times) setting->object = setting->file ? setting->file->object : files_.object(id);
  begin(setting);
}

void SftpSetattr::begin(const SettingPtr& setting) {
  if (++setting->attempts > SftpFiles::kMaxAttempts) return fail(setting, ECONNRESET);
  setting->before.reset();
  if (setting->file && lacks_only_atime(setting->set)) {
    const FileAttrs& seen = setting->file->object->attrs;
    if (seen.has(FileAttrs::kTimes)) setting->before = seen;
  }
  if (!setting->file) return must_look(*setting) ? look(setting) : apply(setting);
  files_.with_handle(setting->file, [this, setting](int error) {
    if (error != 0) return fail(setting, error);
    must_look(*setting) ? look(setting) : apply(setting);
  });
}

bool SftpSetattr::must_look(const Setting& setting) const {
  if (setting.before) return false;
  if (half_of_two(setting.set)) return true;
  const bool only_size = (setting.set.valid & ~SetAttr::kSize) == 0;
  const bool may_be_link = !setting.file && !setting.id.empty() && !only_size;
  return may_be_link && (!client_.extensions().lsetstat || setting.no_lsetstat);
}

void SftpSetattr::look(const SettingPtr& setting) {
  std::vector<Request> requests;
  requests.push_back(look_request(*setting));
  submit_group(client_, std::move(requests), connection_of(*setting),
               [this, setting](const GroupAnswer& answer) {
                 if (answer.error == ECONNRESET) return begin(setting);
                 if (answer.error != 0) return fail(setting, answer.error);
                 const Result<FileAttrs> attrs = attrs_of(answer.answers[0]);
                 if (!attrs.ok()) return fail(setting, gone_is_stale(attrs.error_number()));
                 setting->before = attrs.value();
                 apply(setting);
               });
}

void SftpSetattr::apply(const SettingPtr& setting) {
  // What the server offers is known for sure only once it has answered.
  if (must_look(*setting)) return look(setting);
  const FileAttrs before = setting->before.value_or(FileAttrs{});
  const auto steps = setattr_steps(setting->set, before, wall_seconds_now());
  const bool link = setting->before && S_ISLNK(before.permissions);
  std::vector<Request> requests;
  for (const FileAttrs& step : steps) {
    if (link && !by_lsetstat(*setting, step)) return fail(setting, EOPNOTSUPP);
    requests.push_back(step_request(*setting, step));
  }
  requests.push_back(look_request(*setting));
  if (setting->object) SftpFiles::begin_change(*setting->object, effect_of(setting->set));
  submit_group(
      client_, std::move(requests), connection_of(*setting),
      [this, setting, steps](const GroupAnswer& answer) { on_applied(setting, steps, answer); });
}

void SftpSetattr::on_applied(const SettingPtr& setting, const std::vector<FileAttrs>& steps,
                             const GroupAnswer& answer) {
  const Result<FileAttrs> after = attrs_of(answer.answers.back());
  const FileAttrs* const known = after.ok() ? &after.value() : nullptr;
  if (setting->object) SftpFiles::end_change(*setting->object, known);
  if (answer.error == ECONNRESET) return begin(setting);
  if (answer.error != 0) return fail(setting, answer.error);
  const auto open = setting->file ? setting->file->object : files_.object(setting->id);
  if (open && known != nullptr) SftpFiles::note(*open, *known);
  for (size_t i = 0; i < steps.size(); ++i) {
    if (status_of(answer.answers[i]) == 0) continue;
    return explain(setting, steps[i], after, answer.answers[i]);
  }
  if (known == nullptr) return fail(setting, gone_is_stale(after.error_number()));
  const ObjectId& id = setting->file ? setting->file->object->id : setting->id;
  setting->done(to_attr(*known, inode_of(id), wall_seconds_now()));
}

void SftpSetattr::explain(const SettingPtr& setting, const FileAttrs& step,
                          const Result<FileAttrs>& after, const SftpClient::Answer& failed) {
  const int error = status_of(failed);
  const bool link = after.ok() && S_ISLNK(after.value().permissions);
  const bool directory = after.ok() && S_ISDIR(after.value().permissions);
  const bool now = setting->set.has(SetAttr::kAtimeNow) && setting->set.has(SetAttr::kMtimeNow);
  if (error == EACCES) {
    const bool writers_may = step.has(FileAttrs::kSize) || (step.has(FileAttrs::kTimes) && now);
    return fail(setting, writers_may ? EACCES : EPERM);
  }
  if (step.has(FileAttrs::kPermissions) && by_lsetstat(*setting, step) && error != ENOENT) {
    // Permissions of what is no link: not every server's system can do that without following.
    if (link || !after.ok()) return fail(setting, link ? EOPNOTSUPP : error);
    setting->no_lsetstat = true;
    return begin(setting);
  }
  if (step.has(FileAttrs::kSize) && directory) return fail(setting, EISDIR);
  if (!is_failure(failed)) return fail(setting, gone_is_stale(error));
  const uint64_t old_size = after.ok() ? after.value().size : 0;
  const uint64_t more = step.size > old_size ? 1 : 0;
  find_reason(client_, statvfs_request(root_.of(setting->id)), SftpClient::kAnyConnection, more,
              [setting](int reason) { fail(setting, reason); });
}

void SftpSetattr::fail(const SettingPtr& setting, int error) {
  setting->done(Status::error(error));
}

// ---- Requests -----------------------------------------------------------------------------------

bool SftpSetattr::by_lsetstat(const Setting& setting, const FileAttrs& step) const {
  if (setting.file || setting.id.empty() || step.has(FileAttrs::kSize)) return false;
  if (setting.no_lsetstat && step.has(FileAttrs::kPermissions)) return false;
  return client_.extensions().lsetstat;
}

uint64_t SftpSetattr::connection_of(const Setting& setting) const {
  return setting.file ? setting.file->connection : SftpClient::kOneConnection;
}

Request SftpSetattr::look_request(const Setting& setting) const {
  return setting.file ? fstat_request(setting.file->handle) : root_.attributes_request(setting.id);
}

Request SftpSetattr::step_request(const Setting& setting, const FileAttrs& step) const {
  if (setting.file) return fsetstat_request(setting.file->handle, step);
  const std::string path = root_.of(setting.id);
  return by_lsetstat(setting, step) ? lsetstat_request(path, step) : setstat_request(path, step);
}

}  // namespace fusefs::sftp
