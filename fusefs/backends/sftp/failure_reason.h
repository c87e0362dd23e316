// What SFTP's FAILURE may have meant.
//
// Purpose:        FAILURE stands for every errno that has no word of its own. Where what is known
//                 of the objects does not explain it, the file system's figures may.
// Thread-safety:  the client's loop only.
#pragma once

#include <cstdint>
#include <functional>

#include "fusefs/backends/sftp/sftp_client.h"

namespace fusefs::sftp {

// `statvfs` asks for the figures, of a path or a handle; `connection` as in submit(). Then `done`
// with EROFS, ENOSPC (less than `bytes` are free, or no file), else EIO.
void find_reason(SftpClient& client, Request statvfs, uint64_t connection, uint64_t bytes,
                 std::function<void(int error)> done);

// Renaming or linking from one to the other: EXDEV where these are two file systems, else as above.
void find_reason_of_two(SftpClient& client, Request statvfs_from, Request statvfs_to,
                        std::function<void(int error)> done);

}  // namespace fusefs::sftp
