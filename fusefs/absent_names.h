// Names that are not there: a complete listing that is held tells of them without the remote.
//
// How a LOOKUP of such a name goes:
//   1. find_absent       the listing is held, right, and lacks it: no request, or one that confirms
//                        the listing where it was right too long ago
//   2. read_for_absent   where that is paid for, the listing is read, and 1. tried again
//   3. the remote is asked; note_miss: what it does not have pays for a listing (miss_credit.h)
// Whether the listing can be believed in this, name_case.h says; where not, nothing is paid.
//
// Thread-safety:  any worker.
// Errors:         what can't be told here is left to the remote, whatever the reason.
#pragma once

#include <optional>

#include "fusefs/dir_state.h"
#include "fusefs/session_impl.h"

namespace fusefs {

// Since when it is known that there is no such name; none: it is not known.
std::optional<cache::TimePoint> find_absent(SessionImpl& session, FuseRequest& request,
                                            const Inode& parent, DirState& dir, const char* name);
// The remote was asked for a name then, and said `took` later that it is not there.
void note_miss(SessionImpl& session, const Inode& parent, const char* name, cache::TimePoint asked,
               cache::Duration took);
// find_absent(), after the listing has been read where that is paid for.
std::optional<cache::TimePoint> read_for_absent(SessionImpl& session, FuseRequest& request,
                                                const Inode& parent, const char* name);

}  // namespace fusefs
