// Requests that go out together and are answered together.
//
// Purpose:        a server works its requests off in the order in which they come. So a change of
//                 a name and looks at it before and after can all be under way at once, and still
//                 tell what was before and what after, for one round trip.
// Ownership:      what is under way belongs to the client.
// Thread-safety:  the client's loop only.
// Errors:         of the group as a whole: ECONNRESET, the connection was lost before all were
//                 answered; ETIMEDOUT; else each answer has its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cache/base/result.h"
#include "fusefs/backends/sftp/sftp_client.h"

namespace fusefs::sftp {

// Answers in the order of the requests; valid during the call.
struct GroupAnswer {
  int error = 0;
  std::vector<SftpClient::Answer> answers;  // all of them, whatever `error` says
};

// As SftpClient::submit(); in place of kAnyConnection goes kOneConnection, or there would be no
// order. `done` is called once, later.
void submit_group(SftpClient& client, std::vector<Request> requests, uint64_t connection,
                  std::function<void(const GroupAnswer&)> done);

// ---- What answers say ---------------------------------------------------------------------------

// The errno of an answer that is not of the type that was asked for, or is malformed.
int error_of(const SftpClient::Answer& answer);
// Of an answer that should be STATUS OK: 0, or its errno.
int status_of(const SftpClient::Answer& answer);
// The status was FAILURE, SFTP's word for whatever has no other.
bool is_failure(const SftpClient::Answer& answer);

cache::Result<FileAttrs> attrs_of(const SftpClient::Answer& answer);
cache::Result<std::string> handle_of(const SftpClient::Answer& answer);
// The one name of a READLINK or REALPATH answer.
cache::Result<std::string> path_of(const SftpClient::Answer& answer);

}  // namespace fusefs::sftp
