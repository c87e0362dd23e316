#include "fusefs/made_ahead.h"

namespace fusefs {

using cache::MutexLock;

uint64_t MadeAhead::begin(uint64_t parent, std::string name) {
  MutexLock lock(mutex_);
  items_[++last_].file = {.parent = parent, .nodeid = 0, .name = std::move(name)};
  return last_;
}

void MadeAhead::introduced(uint64_t number, uint64_t nodeid) {
  {
    MutexLock lock(mutex_);
    const auto found = items_.find(number);
    if (found == items_.end()) return;
    found->second.introduced = true;
    found->second.file.nodeid = nodeid;
    if (nodeid == 0) found->second.answer = Status::error(ENOENT);
  }
  settle_if_ready(number);
}

void MadeAhead::answered(uint64_t number, const Answer& answer) {
  {
    MutexLock lock(mutex_);
    const auto found = items_.find(number);
    if (found == items_.end()) return;
    found->second.answer = answer;
  }
  settle_if_ready(number);
}

// It stays among the items until it is settled, for those who wait.
void MadeAhead::settle_if_ready(uint64_t number) {
  File file;
  std::optional<Answer> answer;
  {
    MutexLock lock(mutex_);
    const auto found = items_.find(number);
    if (closed_ || found == items_.end()) return;
    if (!found->second.introduced || !found->second.answer) return;
    file = found->second.file;
    answer.swap(found->second.answer);
    ++settling_;
  }
  if (file.nodeid != 0) settle_(file, *answer);
  std::vector<std::function<void()>> waiters;
  {
    MutexLock lock(mutex_);
    items_.erase(number);
    waiters = take_waiters();
    if (--settling_ == 0) idle_.notify_all();
  }
  for (const auto& waiter : waiters) waiter();
}

std::vector<std::function<void()>> MadeAhead::take_waiters() {
  const uint64_t first = items_.empty() || closed_ ? ~uint64_t{0} : items_.begin()->first;
  std::vector<std::function<void()>> taken;
  const auto end = waiters_.lower_bound(first);
  for (auto it = waiters_.begin(); it != end; ++it) taken.push_back(std::move(it->second));
  waiters_.erase(waiters_.begin(), end);
  return taken;
}

void MadeAhead::when_settled(std::function<void()> then) {
  {
    MutexLock lock(mutex_);
    if (!items_.empty() && !closed_) {
      waiters_.emplace(last_, std::move(then));
      return;
    }
  }
  then();
}

size_t MadeAhead::close() {
  size_t left = 0;
  std::vector<std::function<void()>> waiters;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    while (settling_ > 0) idle_.wait(mutex_);
    left = items_.size();
    items_.clear();
    waiters = take_waiters();
  }
  for (const auto& waiter : waiters) waiter();
  return left;
}

}  // namespace fusefs
