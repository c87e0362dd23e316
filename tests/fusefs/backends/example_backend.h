// ExampleBackend: the smallest whole back end, for whoever writes another.
//
// Purpose:        a fixed tree in memory: the root holds one directory, "names", with `count` empty
//                 files in it. The example of fusefs/backends/README.md.
// Object ids:     "/" the root, "d" the directory, "f" and its number a file.
// Ownership:      owns one thread, joined by the destructor; listings not yet run are dropped.
// Thread-safety:  all members from any thread. Listings complete on the thread, all else at once.
// Locks:          LockRank::kBackend, never while a completion runs.
// Errors:         ENOENT for a name and ESTALE for an id that are not there; ENOTDIR.
#pragma once

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <map>
#include <thread>
#include <utility>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

class ExampleBackend final : public Backend {
 public:
  explicit ExampleBackend(uint64_t count) : count_(count) {}
  ~ExampleBackend() override {
    {
      cache::MutexLock lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

  // A real one reaches its server here. The daemon has forked by now, so threads may start; signals
  // are the main thread's.
  Result<LookupAnswer> connect(std::string* /*error_text*/) override {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return LookupAnswer{"/", attr_of("/").value()};
  }

  RequestId lookup(const CallerPtr& /*caller*/, const ObjectId& parent, const std::string& name,
                   Done<LookupAnswer> done) override {
    const ObjectId id = find(parent, name);
    Result<Attr> attr = id.empty() ? Result<Attr>(Status::error(ENOENT)) : attr_of(id);
    done(attr.ok() ? Result<LookupAnswer>({id, attr.value()}) : attr.status());
    return 0;
  }
  RequestId getattr(const CallerPtr& /*caller*/, const ObjectId& id, Done<Attr> done) override {
    done(attr_of(id));
    return 0;
  }
  RequestId readlink(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                     Done<std::string> done) override {
    done(Status::error(EINVAL));  // nothing here is a link
    return 0;
  }
  RequestId statfs(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                   Done<StatfsAnswer> done) override {
    done(StatfsAnswer{.files = count_ + 2});
    return 0;
  }

  RequestId open(const CallerPtr& /*caller*/, const ObjectId& id, int /*flags*/,
                 Done<FileHandle> done) override {
    const Result<Attr> attr = attr_of(id);
    done(attr.ok() ? Result<FileHandle>(attr.value().ino) : attr.status());
    return 0;
  }
  RequestId read(const CallerPtr& /*caller*/, FileHandle /*file*/, uint64_t /*offset*/,
                 uint32_t /*size*/, Done<std::string> done) override {
    done(std::string());  // all files are empty, so this is their end
    return 0;
  }
  void release(FileHandle /*file*/) override {}

  RequestId getxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                     const std::string& /*name*/, Done<std::string> done) override {
    done(Status::error(ENOSYS));
    return 0;
  }
  RequestId listxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                      Done<std::string> done) override {
    done(Status::error(ENOSYS));
    return 0;
  }

  // Queued always: a listing never completes from within this call.
  RequestId read_dir(const CallerPtr& /*caller*/, const ObjectId& directory,
                     cache::DirRequest request, cache::DirSource::Completion done) override {
    cache::MutexLock lock(mutex_);
    queue_.emplace(++last_id_, Listing{directory, std::move(request), std::move(done)});
    counters_.requests += 1;
    counters_.inflight_peak = std::max<uint64_t>(counters_.inflight_peak, queue_.size());
    changed_.notify_all();
    return last_id_;
  }
  void cancel(RequestId id) override {
    decltype(queue_)::node_type dropped;  // what it captured is destroyed outside the lock
    cache::MutexLock lock(mutex_);
    dropped = queue_.extract(id);  // an id that has run, or 0, is not there
  }

  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kNative;
  }
  [[nodiscard]] uint32_t max_batch() const override { return 1000; }
  [[nodiscard]] ObjectId child_id(const ObjectId& parent, std::string_view name,
                                  uint64_t /*ino*/) const override {
    return find(parent, name);
  }
  [[nodiscard]] BackendCounters counters() const override {
    cache::MutexLock lock(mutex_);
    BackendCounters counters = counters_;
    counters.inflight = queue_.size();
    return counters;
  }
  [[nodiscard]] std::string description() const override {
    return "example:count=" + std::to_string(count_);
  }

  static std::string name_of(uint64_t number) {
    char text[32];
    std::snprintf(text, sizeof(text), "name-%07llu", static_cast<unsigned long long>(number));
    return text;
  }

 private:
  struct Listing {
    ObjectId directory;
    cache::DirRequest request;
    cache::DirSource::Completion done;
  };

  // The number in "f7" or "name-0000007"; `count_` where it is none of ours.
  [[nodiscard]] uint64_t number_in(std::string_view text, std::string_view before) const {
    uint64_t number = count_;
    if (!text.starts_with(before)) return count_;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + before.size(), end, number);
    return parsed.ec == std::errc() && parsed.ptr == end ? std::min(number, count_) : count_;
  }

  // The one id of an object, for lookup() and child_id(). Empty: there is no such name.
  [[nodiscard]] ObjectId find(const ObjectId& parent, std::string_view name) const {
    if (name == "." && (parent == "/" || parent == "d")) return parent;
    if (name == ".." && (parent == "/" || parent == "d")) return "/";
    if (parent == "/") return name == "names" ? "d" : "";
    const uint64_t number = parent == "d" ? number_in(name, "name-") : count_;
    return number < count_ && name_of(number) == name ? "f" + std::to_string(number) : "";
  }

  [[nodiscard]] Result<Attr> attr_of(const ObjectId& id) const {
    const bool directory = id == "/" || id == "d";
    const uint64_t number = number_in(id, "f");
    if (!directory && number == count_) return Status::error(ESTALE);
    Attr attr;
    attr.ino = id == "/" ? 1 : id == "d" ? 2 : number + 3;
    attr.mode = directory ? S_IFDIR | 0555 : S_IFREG | 0444;
    attr.nlink = directory ? 2 : 1;
    attr.change = 1;  // for ever: nothing here changes
    return attr;
  }

  // The cookie of entry i is i + 1: the place after it.
  [[nodiscard]] cache::DirAnswer list(const Listing& listing) const {
    cache::DirAnswer answer;
    const Result<Attr> attr = attr_of(listing.directory);
    const bool directory = attr.ok() && S_ISDIR(attr.value().mode);
    if (!directory) answer.error = attr.ok() ? ENOTDIR : attr.error_number();
    if (answer.error != 0) return answer;
    const uint64_t size = listing.directory == "/" ? 1 : count_;
    const uint64_t from = listing.request.after.cookie;
    if (from > size) answer.error = cache::kErrBadCookie;
    if (answer.error != 0) return answer;
    const uint64_t to = from + std::min<uint64_t>(listing.request.max_entries, size - from);
    answer.has_attrs = listing.request.want_attrs;
    for (uint64_t i = from; i < to; ++i) {
      const std::string name = listing.directory == "/" ? "names" : name_of(i);
      const Attr child = attr_of(find(listing.directory, name)).value();
      answer.add(name, child.ino, S_ISDIR(child.mode) ? DT_DIR : DT_REG, i + 1);
      if (answer.has_attrs) answer.attrs.push_back(child);
    }
    answer.eof = to == size;
    answer.change = attr.value().change;
    return answer;
  }

  void serve() {
    for (;;) {
      decltype(queue_)::node_type job;
      {
        cache::MutexLock lock(mutex_);
        while (queue_.empty() && !stopping_) changed_.wait(mutex_);
        if (stopping_) return;
        job = queue_.extract(queue_.begin());
      }
      cache::DirAnswer answer = list(job.mapped());
      if (answer.error != 0) {
        cache::MutexLock lock(mutex_);
        counters_.errors += 1;
      }
      job.mapped().done(std::move(answer));  // no lock is held: it may ask for the next part
    }
  }

  const uint64_t count_;
  std::thread thread_;
  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  cache::CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  RequestId last_id_ GUARDED_BY(mutex_) = 0;
  std::map<RequestId, Listing> queue_ GUARDED_BY(mutex_);
  BackendCounters counters_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
