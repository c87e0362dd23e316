// Thread: a joining thread with a stack of a given size.
//
// Purpose:        libnfs decodes listings by recursion: the thread that does needs a large stack.
// Ownership:      the destructor joins. The stack is address space until it is used.
// Errors:         std::system_error when no thread can be had.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>

namespace fusefs::nfs {

class Thread {
 public:
  Thread(size_t stack_bytes, std::function<void()> body) {
    auto owned = std::make_unique<std::function<void()>>(std::move(body));
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    const int failed = pthread_create(&thread_, &attributes, run, owned.get());
    pthread_attr_destroy(&attributes);
    if (failed != 0) throw std::system_error(failed, std::generic_category(), "no thread");
    (void)owned.release();  // the thread has it
  }
  ~Thread() { pthread_join(thread_, nullptr); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

 private:
  static void* run(void* body) {
    const std::unique_ptr<std::function<void()>> owned(static_cast<std::function<void()>*>(body));
    (*owned)();
    return nullptr;
  }

  pthread_t thread_{};
};

}  // namespace fusefs::nfs
