#include "fusefs/request.h"

namespace fusefs {

ActiveCalls::Member::Member(ActiveCalls& calls) : calls_(calls) {
  cache::MutexLock lock(calls_.mutex_);
  calls_.members_.push_back(*this);
  if (calls_.stopped_) interrupt_.trigger();
}

ActiveCalls::Member::~Member() {
  cache::MutexLock lock(calls_.mutex_);
  calls_.members_.erase(calls_.members_.iterator_to(*this));
}

void ActiveCalls::stop() {
  // The wakers take leaf locks only; a member can't leave, and so die, before it was told.
  cache::MutexLock lock(mutex_);
  stopped_ = true;
  for (Member& member : members_) member.interrupt().trigger();
}

size_t ActiveCalls::count() {
  cache::MutexLock lock(mutex_);
  return members_.size();
}

}  // namespace fusefs
