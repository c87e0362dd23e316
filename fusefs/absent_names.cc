#include "fusefs/absent_names.h"

#include <algorithm>
#include <string>
#include <utility>

namespace fusefs {
namespace {

using Known = NameCase::Known;

// What the remote says of a name: 0, or the errno.
int ask_for(SessionImpl& session, FuseRequest& request, const Inode& parent,
            const std::string& name) {
  const auto answer = session.ask<LookupAnswer>(request, [&](Backend::Done<LookupAnswer> done) {
    return session.backend().lookup(session.caller(request), session.inodes().object(parent), name,
                                    std::move(done));
  });
  return answer.error_number();
}

// Whether names that differ in the case of their letters are names of different files here. Asks
// the remote, once.
bool tells_case(SessionImpl& session, FuseRequest& request, const Inode& parent, DirState& dir,
                const char* name) {
  if (!has_letters(name)) return true;
  NameCase& names = dir.name_case();
  if (names.known() != Known::kNo) return names.known() == Known::kTold;
  const auto sample = dir.lettered_name();
  if (!sample) return false;
  if (sample->empty()) return true;  // there is none that could be taken for another
  const std::string other = in_other_case(*sample);
  using Presence = cache::Directory::Presence;
  const bool both = dir.directory().presence(other) == Presence::kThere;
  const int error = both ? ENOENT : ask_for(session, request, parent, other);
  if (error == 0) {
    names.settle(false);
  } else if (error == ENOENT && ask_for(session, request, parent, *sample) == 0) {
    names.settle(true);  // and it has not gone meanwhile
  }
  return names.known() == Known::kTold;
}

}  // namespace

std::optional<cache::TimePoint> find_absent(SessionImpl& session, FuseRequest& request,
                                            const Inode& parent, DirState& dir, const char* name) {
  if (session.options().ttl <= cache::Duration::zero()) return std::nullopt;
  const auto since = dir.absent_since(name);
  if (!since || !tells_case(session, request, parent, dir, name)) return std::nullopt;
  if (!dir.token_expired(session.now())) return since;
  if (!session.confirm_token(request, parent, dir).ok()) return std::nullopt;
  return dir.token_expired(session.now()) ? std::nullopt : dir.absent_since(name);
}

void note_miss(SessionImpl& session, const Inode& parent, cache::TimePoint asked,
               cache::Duration took) {
  if (session.options().ttl <= cache::Duration::zero()) return;
  session.misses().note_miss(parent.nodeid(), asked, took);
}

bool read_for_absent(SessionImpl& session, FuseRequest& request, const Inode& parent) {
  const auto pays = session.misses().take(parent.nodeid());
  if (!pays) return false;
  const std::shared_ptr<DirState> held = session.obtain_dir(parent);
  DirState& dir = *held;
  const bool expired = dir.token_expired(session.now());
  if (expired && !session.confirm_token(request, parent, dir).ok()) return false;
  const Waiting waiting(session, request);
  if (CallerPtr caller = session.caller(request)) dir.act_first_for(caller);
  cache::ReadOptions options;
  // The name alone can still be asked for when this takes too long.
  options.deadline = std::min(waiting.patience().deadline, session.now() + *pays);
  options.interrupt = waiting.patience().interrupt;
  const bool complete = dir.complete(session.now(), options);
  session.misses().note_read(parent.nodeid(), complete);
  return complete;
}

}  // namespace fusefs
