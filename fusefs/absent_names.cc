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
  const int error = ask_for(session, request, parent, other);
  if (error == 0) {
    names.settle(false);  // or both are there, which is rare
  } else if (error == ENOENT) {
    // Unless the name itself has gone.
    const int known = ask_for(session, request, parent, *sample);
    if (known == 0) names.settle(true);
    if (known == ENOENT) dir.doubt();  // nor can the listing be believed
  }
  return names.known() == Known::kTold;
}

}  // namespace

std::optional<cache::TimePoint> find_absent(SessionImpl& session, FuseRequest& request,
                                            const Inode& parent, DirState& dir, const char* name) {
  if (session.options().ttl <= cache::Duration::zero()) return std::nullopt;
  if (!dir.absent_since(name)) return std::nullopt;
  if (!tells_case(session, request, parent, dir, name)) return std::nullopt;
  if (dir.token_expired(session.now()) && !session.confirm_token(request, parent, dir).ok()) {
    return std::nullopt;
  }
  // In that order: what was known before may have been forgotten since.
  return dir.token_expired(session.now()) ? std::nullopt : dir.absent_since(name);
}

void note_miss(SessionImpl& session, const Inode& parent, const char* name, cache::TimePoint asked,
               cache::Duration took) {
  if (session.options().ttl <= cache::Duration::zero() || may_be_unlisted(name)) return;
  const auto dir = session.inodes().dir(parent);
  if (dir && dir->name_case().known() == Known::kNotTold && has_letters(name)) return;
  session.misses().note_miss(parent.nodeid(), asked, took);
}

bool read_for_absent(SessionImpl& session, FuseRequest& request, const Inode& parent,
                     const char* name) {
  const auto pays = session.misses().take(parent.nodeid());
  if (!pays) return false;
  const std::shared_ptr<DirState> dir = session.obtain_dir(parent);
  const bool expired = dir->token_expired(session.now());
  if (expired && !session.confirm_token(request, parent, *dir).ok()) return false;
  using Presence = cache::Directory::Presence;
  if (dir->directory().presence(name) != Presence::kUnsure) return true;
  {
    const Waiting waiting(session, request);
    if (CallerPtr caller = session.caller(request)) dir->act_first_for(caller);
    cache::ReadOptions options;
    options.ahead = true;
    // The name alone can still be asked for when this takes too long.
    options.deadline = std::min(waiting.patience().deadline, session.now() + *pays);
    options.interrupt = waiting.patience().interrupt;
    dir->complete(session.now(), options);
  }
  const bool sure = dir->directory().presence(name) != Presence::kUnsure;
  session.misses().note_read(parent.nodeid(), sure);
  return sure;
}

}  // namespace fusefs
