#include "fusefs/backends/sftp/request_group.h"

#include <cerrno>
#include <memory>
#include <utility>

#include "fusefs/backends/sftp/sftp_paths.h"

namespace fusefs::sftp {
namespace {

using cache::Result;
using cache::Status;

struct Group {
  std::vector<SftpClient::Answer> answers;
  std::vector<std::string> bodies;
  size_t left = 0;
  std::function<void(const GroupAnswer&)> done;
};

// What became of them all.
int error_of_all(const std::vector<SftpClient::Answer>& answers) {
  int error = 0;
  for (const SftpClient::Answer& answer : answers) {
    if (answer.error == ECONNRESET || answer.error == EBADMSG) return ECONNRESET;
    if (answer.error != 0) error = answer.error;
  }
  return error == EPROTO ? EIO : error;
}

void on_answer(Group& group, size_t index, const SftpClient::Answer& answer) {
  group.bodies[index] = answer.body;
  group.answers[index] = answer;
  group.answers[index].body = group.bodies[index];
  if (--group.left > 0) return;
  GroupAnswer all;
  all.error = error_of_all(group.answers);
  all.answers = std::move(group.answers);
  group.done(all);
}

}  // namespace

void submit_group(SftpClient& client, std::vector<Request> requests, uint64_t connection,
                  std::function<void(const GroupAnswer&)> done) {
  const auto group = std::make_shared<Group>();
  group->left = requests.size();
  group->answers.resize(group->left);
  group->bodies.resize(group->left);
  group->done = std::move(done);
  for (size_t i = 0; i < requests.size(); ++i) {
    client.submit(std::move(requests[i]), connection,
                  [group, i](const SftpClient::Answer& answer) { on_answer(*group, i, answer); });
  }
}

int error_of(const SftpClient::Answer& answer) {
  const bool nonsense = answer.error == EPROTO || answer.error == EBADMSG;
  if (answer.error != 0) return nonsense ? EIO : answer.error;
  const auto status = answer.type == PacketType::kStatus ? parse_status(answer.body) : std::nullopt;
  const bool tells = status && *status != StatusCode::kOk && *status != StatusCode::kEof;
  return tells ? errno_of(*status) : EIO;
}

int status_of(const SftpClient::Answer& answer) {
  const bool is_status = answer.error == 0 && answer.type == PacketType::kStatus;
  if (is_status && parse_status(answer.body) == StatusCode::kOk) return 0;
  return error_of(answer);
}

bool is_failure(const SftpClient::Answer& answer) {
  return answer.error == 0 && answer.type == PacketType::kStatus &&
         parse_status(answer.body) == StatusCode::kFailure;
}

Result<FileAttrs> attrs_of(const SftpClient::Answer& answer) {
  if (answer.error == 0 && answer.type == PacketType::kAttrs) {
    if (const auto attrs = parse_attrs(answer.body)) return *attrs;
  }
  return Status::error(error_of(answer));
}

Result<std::string> handle_of(const SftpClient::Answer& answer) {
  if (answer.error == 0 && answer.type == PacketType::kHandle) {
    const auto handle = parse_handle(answer.body);
    if (handle && !handle->empty()) return std::string(*handle);
  }
  return Status::error(error_of(answer));
}

Result<std::string> path_of(const SftpClient::Answer& answer) {
  if (answer.error == 0 && answer.type == PacketType::kName) {
    const auto names = parse_names(answer.body);
    if (!names || names->entries.size() != 1) return Status::error(EIO);
    std::string path(names->name(names->entries.front()));
    if (path.empty() || path.find('\0') != std::string::npos) return Status::error(EIO);
    if (path.size() >= kMaxPath) return Status::error(ENAMETOOLONG);
    return path;
  }
  return Status::error(error_of(answer));
}

}  // namespace fusefs::sftp
