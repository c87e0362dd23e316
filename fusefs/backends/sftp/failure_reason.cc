#include "fusefs/backends/sftp/failure_reason.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "fusefs/backends/sftp/request_group.h"

namespace fusefs::sftp {
namespace {

std::optional<Statvfs> statvfs_of(const SftpClient::Answer& answer) {
  const bool told = answer.error == 0 && answer.type == PacketType::kExtendedReply;
  return told ? parse_statvfs(answer.body) : std::nullopt;
}

int reason_in(const std::optional<Statvfs>& figures, uint64_t bytes) {
  if (!figures) return EIO;
  if ((figures->flags & Statvfs::kReadOnly) != 0) return EROFS;
  const uint64_t unit = std::max<uint64_t>(figures->fragment_size, 1);
  const bool room = figures->blocks_available > 0 && figures->blocks_available >= bytes / unit;
  const bool files = figures->files == 0 || figures->files_free > 0;  // some don't count them
  return room && files ? EIO : ENOSPC;
}

}  // namespace

void find_reason(SftpClient& client, Request statvfs, uint64_t connection, uint64_t bytes,
                 std::function<void(int)> done) {
  client.submit(std::move(statvfs), connection,
                [bytes, done = std::move(done)](const SftpClient::Answer& answer) {
                  done(reason_in(statvfs_of(answer), bytes));
                });
}

void find_reason_of_two(SftpClient& client, Request statvfs_from, Request statvfs_to,
                        std::function<void(int)> done) {
  std::vector<Request> requests;
  requests.push_back(std::move(statvfs_from));
  requests.push_back(std::move(statvfs_to));
  submit_group(client, std::move(requests), SftpClient::kOneConnection,
               [done = std::move(done)](const GroupAnswer& group) {
                 const auto from = statvfs_of(group.answers[0]);
                 const auto to = statvfs_of(group.answers[1]);
                 if (from && to && from->filesystem != to->filesystem) return done(EXDEV);
                 done(reason_in(to, 0));
               });
}

}  // namespace fusefs::sftp
