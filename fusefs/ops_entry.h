// Telling the kernel of an object: by its name, what LOOKUP and all that makes objects have in
// common, and its attributes.
//
// Thread-safety:  any worker.
// Errors:         the reply is sent in every case.
#pragma once

#include <fuse_lowlevel.h>

#include "fusefs/session_impl.h"

namespace fusefs {

// An object that an answer told of, and where it is.
struct NamedObject {
  const Inode& parent;
  const char* name;
  LookupAnswer answer;
  cache::TimePoint asked;
};

// One more lookup of it, its attributes kept or asked for again, and the entry that says so.
struct Introduced {
  InodeRef inode;
  fuse_entry_param entry{};
};
// On an error the kernel is not told.
Result<Introduced> introduce(SessionImpl& session, FuseRequest& request, NamedObject object);

// fuse_reply_entry; an interrupted caller is not told, and so will not forget.
void reply_entry(SessionImpl& session, FuseRequest& request, const Introduced& introduced);

// fuse_reply_attr; the kernel trusts them for what is left of ttl.
void reply_attr(SessionImpl& session, FuseRequest& request, const Inode& inode,
                const TimedAttr& known);

}  // namespace fusefs
