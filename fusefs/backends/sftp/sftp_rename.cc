#include "fusefs/backends/sftp/sftp_rename.h"

#include <stdio.h>
#include <sys/stat.h>

#include <utility>

#include "fusefs/backends/sftp/failure_reason.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs::sftp {
namespace {

// The places in the group: both directories, both names, the change, both directories. Where there
// is one directory, it is looked at twice, for nothing but that the places are the same.
enum RenamePlace : size_t { kFromDir, kToDir, kFrom, kTo, kRenaming, kDirsAfter };
constexpr size_t kOfRemoval = kRenaming + 1;  // with a removal in front

bool is_directory(const Result<FileAttrs>& attrs) {
  return attrs.ok() && S_ISDIR(attrs.value().permissions);
}

}  // namespace

void SftpRename::rename(const Name& from, const Name& to, uint32_t flags, Done done) {
  if ((flags & ~uint32_t{RENAME_NOREPLACE}) != 0) return done(Status::error(EINVAL));
  const auto renaming = std::make_shared<Renaming>();
  renaming->from = from;
  renaming->to = to;
  renaming->replace = flags == 0;
  renaming->done = std::move(done);
  start(renaming);
}

void SftpRename::add_directories(const Renaming& renaming, std::vector<Request>* requests) const {
  requests->push_back(parts_.root.attributes_request(renaming.from.parent));
  requests->push_back(parts_.root.attributes_request(renaming.to.parent));
}

void SftpRename::add_names(const Renaming& renaming, std::vector<Request>* requests) const {
  requests->push_back(lstat_request(parts_.root.of(renaming.from.id)));
  requests->push_back(lstat_request(parts_.root.of(renaming.to.id)));
}

void SftpRename::start(const RenamingPtr& renaming) {
  if (++renaming->attempts > SftpFiles::kMaxAttempts) {
    return renaming->done(Status::error(ECONNRESET));
  }
  const std::string from = parts_.root.of(renaming->from.id);
  const std::string to = parts_.root.of(renaming->to.id);
  renaming->at_once = renaming->replace && parts_.client.extensions().posix_rename;
  std::vector<Request> requests;
  add_directories(*renaming, &requests);
  add_names(*renaming, &requests);
  requests.push_back(renaming->at_once ? posix_rename_request(from, to) : rename_request(from, to));
  add_directories(*renaming, &requests);
  submit_group(parts_.client, std::move(requests), SftpClient::kOneConnection,
               [this, renaming](const GroupAnswer& answer) { on_answer(renaming, answer); });
}

void SftpRename::on_answer(const RenamingPtr& renaming, const GroupAnswer& answer) {
  if (answer.error == ECONNRESET) return look(renaming);
  if (answer.error != 0) return renaming->done(Status::error(answer.error));
  if (status_of(answer.answers[kRenaming]) != 0) return explain(renaming, answer);
  succeed(renaming, renamed_answer(*renaming, answer, kDirsAfter));
}

RenamedAnswer SftpRename::renamed_answer(const Renaming& renaming, const GroupAnswer& answer,
                                         size_t after) {
  const auto note = [&](const ObjectId& directory, size_t before_at, size_t after_at) {
    const Result<FileAttrs> before = attrs_of(answer.answers[before_at]);
    const Result<FileAttrs> now = attrs_of(answer.answers[after_at]);
    if (!before.ok() || !now.ok()) return DirChange{};
    return parts_.tokens.note(directory, before.value(), now.value(), wall_seconds_now());
  };
  RenamedAnswer told;
  told.from = note(renaming.from.parent, kFromDir, after);
  told.to = renaming.one_directory() ? told.from : note(renaming.to.parent, kToDir, after + 1);
  return told;
}

void SftpRename::succeed(const RenamingPtr& renaming, const RenamedAnswer& answer) {
  const ObjectId& from = renaming->from.id;
  const ObjectId& to = renaming->to.id;
  parts_.files.moved(from, to);
  for (const ObjectId& id : {from, to}) {
    parts_.listing.forget(parts_.root.of(id));
    parts_.tokens.forget(id);
  }
  renaming->done(answer);
}

// ---- Why it failed ------------------------------------------------------------------------------

void SftpRename::explain(const RenamingPtr& renaming, const GroupAnswer& answer) {
  const auto fail = [renaming](int error) { renaming->done(Status::error(error)); };
  const Result<FileAttrs> from = attrs_of(answer.answers[kFrom]);
  const Result<FileAttrs> to = attrs_of(answer.answers[kTo]);
  const SftpClient::Answer& itself = answer.answers[kRenaming];
  for (const size_t directory : {kFromDir, kToDir}) {
    if (attrs_of(answer.answers[directory]).error_number() == ENOENT) return fail(ESTALE);
  }
  // It was not known yet, before there was a connection.
  const bool could = renaming->replace && parts_.client.extensions().posix_rename;
  if (could && !renaming->at_once) return start(renaming);
  if (!from.ok() || (!is_failure(itself) && !to.ok())) return fail(error_of(itself));
  if (to.ok()) {
    if (!renaming->replace) return fail(EEXIST);
    if (is_directory(from) && !is_directory(to)) return fail(ENOTDIR);
    if (!is_directory(from) && is_directory(to)) return fail(EISDIR);
    if (!is_failure(itself)) return fail(error_of(itself));
    // Without posix-rename it is in the way; with it, it is a directory that is not empty.
    if (!renaming->at_once) return remove_and_rename(renaming, is_directory(to));
    if (is_directory(to)) return fail(ENOTEMPTY);
  }
  find_reason_of_two(parts_.client, statvfs_request(parts_.root.of(renaming->from.parent)),
                     statvfs_request(parts_.root.of(renaming->to.parent)), fail);
}

void SftpRename::remove_and_rename(const RenamingPtr& renaming, bool directory) {
  const std::string from = parts_.root.of(renaming->from.id);
  const std::string to = parts_.root.of(renaming->to.id);
  std::vector<Request> requests;
  add_directories(*renaming, &requests);
  add_names(*renaming, &requests);
  requests.push_back(directory ? rmdir_request(to) : remove_request(to));
  requests.push_back(rename_request(from, to));
  add_directories(*renaming, &requests);
  submit_group(parts_.client, std::move(requests), SftpClient::kOneConnection,
               [this, renaming, directory](const GroupAnswer& answer) {
                 on_removed_and_renamed(renaming, directory, answer);
               });
}

void SftpRename::on_removed_and_renamed(const RenamingPtr& renaming, bool directory,
                                        const GroupAnswer& answer) {
  if (answer.error == ECONNRESET) return look(renaming);
  int error = answer.error;
  if (error == 0 && status_of(answer.answers[kOfRemoval]) != 0) {
    const SftpClient::Answer& removal = answer.answers[kRenaming];
    const bool stayed = status_of(removal) != 0;
    error = stayed ? status_of(removal) : status_of(answer.answers[kOfRemoval]);
    if (stayed && directory && is_failure(removal)) error = ENOTEMPTY;
  }
  if (error != 0) return renaming->done(Status::error(error));
  succeed(renaming, renamed_answer(*renaming, answer, kDirsAfter + 1));
}

// ---- Whether it happened ------------------------------------------------------------------------

void SftpRename::look(const RenamingPtr& renaming) {
  if (++renaming->attempts > SftpFiles::kMaxAttempts) {
    return renaming->done(Status::error(ECONNRESET));
  }
  std::vector<Request> requests;
  add_names(*renaming, &requests);
  submit_group(parts_.client, std::move(requests), SftpClient::kOneConnection,
               [this, renaming](const GroupAnswer& answer) {
                 if (answer.error == ECONNRESET) return look(renaming);
                 if (answer.error != 0) return renaming->done(Status::error(answer.error));
                 const bool left = attrs_of(answer.answers[0]).error_number() == ENOENT;
                 const bool arrived = attrs_of(answer.answers[1]).ok();
                 if (left && arrived) return succeed(renaming, {});
                 start(renaming);
               });
}

}  // namespace fusefs::sftp
