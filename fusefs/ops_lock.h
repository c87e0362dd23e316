// What operations on open files need to know of locks.
//
// Thread-safety:  any thread.
#pragma once

#include <cstdint>
#include <functional>

#include "fusefs/fuse_request.h"
#include "fusefs/handles.h"

namespace fusefs {

// serve(), on a thread of its own kind (JobThreads): for what may wait for somebody who needs a
// worker.
void serve_apart(fuse_req_t req, std::function<void(SessionImpl&, FuseRequest&)> body) noexcept;

// The process that has closed a file may have locks of its ranges. `closed`: as FLUSH has it.
bool holds_locks(SessionImpl& session, uint64_t nodeid, const fuse_file_info& closed);
// They end, once what was written under them is at the remote; waits for that, unless interrupted:
// then that goes on. Not on a worker.
void end_locks(SessionImpl& session, FuseRequest& request, FileHandle& handle,
               const fuse_file_info& closed);
// The open file of that number is closed for good: whoever locked through it. Waits for nothing.
void end_locks_of_closed(SessionImpl& session, FileHandle& handle, uint64_t number);

}  // namespace fusefs
