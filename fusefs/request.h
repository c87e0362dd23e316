// Waiting for the remote: one back-end call, made by a worker that waits for its answer.
//
// Purpose:        turns the back end's completions into a wait that ends in time: by the answer, by
//                 the deadline (ETIMEDOUT), or by the caller's signal or an unmount (EINTR).
// Ownership:      the answer lives in a state shared by the waiter and the completion, so a late
//                 completion finds its place, and what it brought is disposed of there.
// Thread-safety:  call_backend() from any thread; ActiveCalls from any thread.
// Locks:          the waiter holds none. Leaf locks inside.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "cache/base/clock.h"
#include "cache/base/interrupt.h"
#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

// How long a call may wait, and what ends it early.
struct Patience {
  cache::TimePoint deadline = cache::TimePoint::max();
  cache::Interrupt* interrupt = nullptr;
};

// The meeting place of a waiter and a completion.
//
//   WAITING -> ANSWERED [complete]     -> taken [wait]
//   WAITING -> ABANDONED [wait]: deadline or interrupt; a later complete() goes to `dispose`
template <typename T>
class PendingCall : public std::enable_shared_from_this<PendingCall<T>> {
 public:
  using Dispose = std::function<void(T&&)>;  // of an answer that nobody waited for

  explicit PendingCall(Dispose dispose) : dispose_(std::move(dispose)) {}

  void complete(Result<T> answer);
  // To be called once. ETIMEDOUT, EINTR: the call is abandoned.
  Result<T> wait(const Patience& patience);
  [[nodiscard]] bool abandoned();

 private:
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  std::optional<Result<T>> answer_ GUARDED_BY(mutex_);
  bool abandoned_ GUARDED_BY(mutex_) = false;
  const Dispose dispose_;
};

template <typename T>
void PendingCall<T>::complete(Result<T> answer) {
  {
    cache::MutexLock lock(mutex_);
    if (!abandoned_) {
      answer_.emplace(std::move(answer));
      changed_.notify_all();
      return;
    }
  }
  if (dispose_ && answer.ok()) dispose_(std::move(answer).value());
}

template <typename T>
Result<T> PendingCall<T>::wait(const Patience& patience) {
  cache::Interrupt* const interrupt = patience.interrupt;
  if (interrupt != nullptr) {
    // Takes the mutex, so that no wake-up falls between the waiter's check and its sleep.
    interrupt->set_waker([self = this->shared_from_this()] {
      cache::MutexLock lock(self->mutex_);
      self->changed_.notify_all();
    });
  }
  Result<T> result = Status::error(EINTR);
  {
    cache::MutexLock lock(mutex_);
    bool in_time = true;
    while (!answer_ && in_time && !(interrupt != nullptr && interrupt->triggered())) {
      if (patience.deadline == cache::TimePoint::max()) {
        changed_.wait(mutex_);
      } else {
        in_time = changed_.wait_until(mutex_, patience.deadline);
      }
    }
    if (answer_) {
      result = std::move(*answer_);
    } else {
      abandoned_ = true;
      if (!in_time) result = Status::error(ETIMEDOUT);
    }
  }
  if (interrupt != nullptr) interrupt->set_waker(nullptr);
  return result;
}

template <typename T>
bool PendingCall<T>::abandoned() {
  cache::MutexLock lock(mutex_);
  return abandoned_;
}

// The call did not get ready, rather than being refused: what it was for may be tried again.
inline bool is_passing(int error_number) {
  return error_number == ETIMEDOUT || error_number == EINTR || error_number == ENOTCONN;
}

// Starts a call by `start(done)`, which returns the back end's request id, and waits for it. A call
// that is given up is cancelled. `dispose` gets an answer that comes after that.
template <typename T, typename Start>
Result<T> call_backend(Backend& backend, const Patience& patience, const Start& start,
                       typename PendingCall<T>::Dispose dispose = nullptr) {
  const auto pending = std::make_shared<PendingCall<T>>(std::move(dispose));
  const Backend::RequestId id = start(
      Backend::Done<T>([pending](Result<T> answer) { pending->complete(std::move(answer)); }));
  Result<T> result = pending->wait(patience);
  if (id != 0 && pending->abandoned()) backend.cancel(id);
  return result;
}

// Every request that may be waiting, so that an unmount ends all waits at once.
class ActiveCalls {
 public:
  // Registers an interrupt while it lives; once everything is stopped, it is born triggered.
  class Member : public boost::intrusive::list_base_hook<> {
   public:
    explicit Member(ActiveCalls& calls);
    ~Member();
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    cache::Interrupt& interrupt() { return interrupt_; }

   private:
    ActiveCalls& calls_;
    cache::Interrupt interrupt_;
  };

  ActiveCalls() = default;
  ActiveCalls(const ActiveCalls&) = delete;
  ActiveCalls& operator=(const ActiveCalls&) = delete;

  // Interrupts all requests, present and future.
  void stop();
  [[nodiscard]] size_t count();

 private:
  cache::Mutex mutex_{cache::LockRank::kSession};
  boost::intrusive::list<Member> members_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace fusefs
