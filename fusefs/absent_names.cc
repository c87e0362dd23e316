#include "fusefs/absent_names.h"

#include <algorithm>
#include <string>
#include <utility>

namespace fusefs {
namespace {

// Whether names that differ in the case of their letters are names of different files here. Asks
// the remote, once.
bool tells_case(SessionImpl& session, FuseRequest& request, const Inode& parent, DirState& dir,
                const char* name) {
  NameCase& names = dir.name_case();
  if (const auto known = names.told_apart(name)) return *known;
  const auto sample = dir.lettered_name();
  if (!sample) return false;
  if (sample->empty()) return true;  // there is none that could be taken for another
  const auto ask_for = [&](const std::string& asked) {
    return session.look_up(request, session.inodes().object(parent), asked).error_number();
  };
  const int other = ask_for(in_other_case(*sample));
  if (other == 0) names.settle(false);  // or both are there, which is rare
  if (other != ENOENT) return false;
  // Unless the name itself has gone.
  const int itself = ask_for(*sample);
  if (itself == 0) names.settle(true);
  if (itself == ENOENT) dir.doubt();  // nor can the listing be believed
  return itself == 0;
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
  if (may_be_unlisted(name)) return;
  const auto dir = session.inodes().dir(parent);
  if (dir && dir->name_case().told_apart(name) == false) return;
  session.misses().note_miss(parent.nodeid(), asked, took);
}

std::optional<cache::TimePoint> read_for_absent(SessionImpl& session, FuseRequest& request,
                                                const Inode& parent, const char* name) {
  const auto pays = session.misses().take(parent.nodeid());
  if (!pays) return std::nullopt;
  const std::shared_ptr<DirState> dir = session.obtain_dir(parent);
  const bool expired = dir->token_expired(session.now());
  if (expired && !session.confirm_token(request, parent, *dir).ok()) return std::nullopt;
  const auto tells = [&] {
    return dir->directory().presence(name) != cache::Directory::Presence::kUnsure;
  };
  if (!tells()) {
    const Waiting waiting(session, request);
    if (CallerPtr caller = session.caller(request)) dir->act_first_for(caller);
    cache::ReadOptions options;
    options.ahead = true;
    // The name alone can still be asked for when this takes too long.
    options.deadline = std::min(waiting.patience().deadline, session.now() + *pays);
    options.interrupt = waiting.patience().interrupt;
    dir->complete(session.now(), options);
    session.misses().note_read(parent.nodeid(), tells());
  }
  return find_absent(session, request, parent, *dir, name);
}

}  // namespace fusefs
