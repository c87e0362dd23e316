#include "cache/data/write_back.h"

#include <algorithm>

#include "cache/data/file_core.h"
#include "cache/data/write_back_core.h"

namespace cache {
namespace {

constexpr uint64_t kChunk = uint64_t{128} << 10;

uint64_t bytes_of(const Gauge& gauge) {
  return static_cast<uint64_t>(std::max<int64_t>(gauge.get(), 0));
}

}  // namespace

WriteBackCore::WriteBackCore(PageCache& cache, const WriteBackOptions& options)
    : cache_(cache),
      hooks_(cache.hook_table<DataHooks>()),
      options_(options),
      writes_(options.most_inflight, options.line_wait),
      reads_(kMostAhead, options.line_wait),
      write_request_(writes_.request()),
      read_window_(reads_.bytes()),
      read_request_(reads_.request()) {}

void WriteBackCore::start() {
  thread_ = std::thread([this] { run(); });
}

void WriteBackCore::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
  MutexLock lock(mutex_);
  CACHE_CHECK(due_.empty() && "a file outlives its write-back");
}

uint64_t WriteBackCore::dirty_limit() const {
  return std::max(cache_.bound_bytes() / 100 * options_.dirty_percent, kDataPage);
}

uint64_t WriteBackCore::background_limit() const {
  return std::min(commit_limit(), options_.background_bytes);
}

uint64_t WriteBackCore::commit_limit() const {
  return cache_.bound_bytes() / 100 * options_.background_percent;
}

uint64_t WriteBackCore::pending() const {
  const Stats& stats = cache_.stats();
  return bytes_of(stats.dirty_bytes) + bytes_of(stats.writeback_bytes) +
         bytes_of(stats.unstable_bytes);
}

uint64_t WriteBackCore::chunk() const {
  return std::clamp(dirty_limit() / 4 / kDataPage * kDataPage, kDataPage, kChunk);
}

Status WriteBackCore::reserve(uint64_t bytes, const DataWait& wait) {
  const uint64_t limit = dirty_limit();
  const auto fits = [&]() REQUIRES(mutex_) {
    const uint64_t all = pending() + reserved_;
    return all == 0 || all + bytes <= limit;
  };
  {
    MutexLock lock(mutex_);
    if (fits()) {
      reserved_ += bytes;
      return {};
    }
  }
  cache_.stats().dirty_throttled.add();
  if (wait.interrupt != nullptr) {
    wait.interrupt->set_waker([weak = weak_from_this()] {
      if (const auto core = weak.lock()) core->changed();
    });
  }
  Status status;
  {
    MutexLock lock(mutex_);
    ++throttled_;
    wake();
    while (!fits()) {
      if (wait.interrupt != nullptr && wait.interrupt->triggered()) {
        status = Status::error(EINTR);
        break;
      }
      if (wait.deadline == TimePoint::max()) {
        room_.wait(mutex_);
      } else if (!room_.wait_until(mutex_, wait.deadline) &&
                 std::chrono::steady_clock::now() >= wait.deadline && !fits()) {
        status = Status::error(ETIMEDOUT);
        break;
      }
    }
    if (status.ok()) reserved_ += bytes;
    --throttled_;
  }
  if (wait.interrupt != nullptr) wait.interrupt->set_waker(nullptr);
  return status;
}

void WriteBackCore::unreserve(uint64_t bytes) {
  MutexLock lock(mutex_);
  reserved_ -= bytes;
  if (throttled_ > 0) room_.notify_all();
}

bool WriteBackCore::take_room(uint64_t bytes, LineUse* use) {
  MutexLock lock(mutex_);
  if (inflight_ != 0 && inflight_ + bytes > writes_.bytes()) return false;
  *use = {.bytes = bytes, .before = inflight_, .sent = std::chrono::steady_clock::now()};
  inflight_ += bytes;
  return true;
}

void WriteBackCore::give_room(uint64_t bytes) {
  MutexLock lock(mutex_);
  inflight_ -= bytes;
  wake();
}

void WriteBackCore::note_taken(const LineUse& use) {
  taken_.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  writes_.answered(use, std::chrono::steady_clock::now());
  write_request_.store(writes_.request(), kRelaxed);
}

void WriteBackCore::note_read(const LineUse& use) {
  MutexLock lock(mutex_);
  reads_.answered(use, std::chrono::steady_clock::now());
  read_window_.store(reads_.bytes(), kRelaxed);
  read_request_.store(reads_.request(), kRelaxed);
}

void WriteBackCore::schedule(FileCore& file, TimePoint due) {
  MutexLock lock(mutex_);
  if (file.listed) due_.erase({file.due, &file});
  const bool first = due_.empty() || due < due_.begin()->first;
  file.listed = true;
  file.due = due;
  due_.insert({due, &file});
  if (first) wake_.notify_all();  // another time to wait for
}

void WriteBackCore::forget(FileCore& file) {
  MutexLock lock(mutex_);
  if (!file.listed) return;
  due_.erase({file.due, &file});
  file.listed = false;
}

void WriteBackCore::wake() {
  wanted_ = true;
  wake_.notify_all();
  if (throttled_ > 0) room_.notify_all();
}

// Called for every page that becomes dirty: looks at the limit without the lock.
void WriteBackCore::grown() {
  if (over_.load(std::memory_order_relaxed)) return;
  if (bytes_of(cache_.stats().dirty_bytes) <= background_limit()) return;
  if (over_.exchange(true, std::memory_order_relaxed)) return;
  MutexLock lock(mutex_);
  wake();
}

void WriteBackCore::changed() {
  MutexLock lock(mutex_);
  wake();
}

void WriteBackCore::poke() {
  MutexLock lock(mutex_);
  poked_ = true;
  wake();
}

bool WriteBackCore::urgent() {
  if (bytes_of(cache_.stats().dirty_bytes) > background_limit()) return true;
  MutexLock lock(mutex_);
  return throttled_ > 0 || poked_;
}

// The bound may be lowered at any time: looked at as often as dirty data expires.
bool WriteBackCore::wait_for_work() {
  MutexLock lock(mutex_);
  for (;;) {
    if (stopping_) return false;
    const TimePoint now = std::chrono::steady_clock::now();
    if (wanted_ || (!due_.empty() && has_room() && due_.begin()->first <= now)) break;
    if (due_.empty()) {
      wake_.wait(mutex_);
      continue;
    }
    const TimePoint look = now + std::max<Duration>(expire(), std::chrono::milliseconds(1));
    const TimePoint until = has_room() ? std::min(due_.begin()->first, look) : look;
    if (!wake_.wait_until(mutex_, until) && until == look) break;
  }
  wanted_ = false;
  over_.store(false, std::memory_order_relaxed);
  return true;
}

// The file puts itself back where it belongs.
std::shared_ptr<FileCore> WriteBackCore::take_due(TimePoint now, bool urgent) {
  MutexLock lock(mutex_);
  if (due_.empty() || !has_room() || stopping_) return nullptr;
  const auto [due, file] = *due_.begin();
  if (due > now && !urgent) return nullptr;
  due_.erase(due_.begin());
  file->due = TimePoint::max();
  due_.insert({file->due, file});
  return file->weak_from_this().lock();
}

void WriteBackCore::run() {
  while (wait_for_work()) {
    const bool hurry = urgent();
    const bool commit =
        hooks_.take_refused() || hurry || bytes_of(cache_.stats().unstable_bytes) > commit_limit();
    size_t left = 0;
    {
      MutexLock lock(mutex_);
      left = due_.size();
      poked_ = false;
    }
    const TimePoint now = std::chrono::steady_clock::now();
    for (; left > 0; --left) {
      const std::shared_ptr<FileCore> file = take_due(now, hurry || commit);
      if (file == nullptr) break;
      file->background(hurry ? FileCore::Need::kAll : FileCore::Need::kOld,
                       commit ? FileCore::Need::kAll : FileCore::Need::kOld);
    }
  }
}

WriteBack::WriteBack(PageCache& cache, const WriteBackOptions& options)
    : core_(std::make_shared<WriteBackCore>(cache, options)) {
  core_->start();
}

WriteBack::~WriteBack() { core_->stop(); }

}  // namespace cache
