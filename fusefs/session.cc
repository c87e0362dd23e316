#include "fusefs/session.h"

#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "cache/base/check.h"
#include "cache/mm/pressure_sampler.h"
#include "fusefs/control.h"
#include "fusefs/dirent_encoder.h"
#include "fusefs/measured_backend.h"
#include "fusefs/metrics.h"
#include "fusefs/ops.h"
#include "fusefs/ops_change.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

constexpr uint32_t kMaxRequestBytes = 1u << 20;  // READ, and what READDIR may ask
constexpr uint32_t kMaxBackground = 64;          // READs of readahead under way
constexpr uint32_t kIdleThreads = 10;            // workers kept when there is nothing to do
constexpr std::chrono::milliseconds kWatchPeriod(100);

std::chrono::nanoseconds choose_timeout(const Options& options, const Backend& backend) {
  const uint64_t suggested = backend.suggested_timeout_ms();
  // What the user asked for goes before what the back end thinks.
  if (suggested == 0 || options.timeout != Options{}.timeout) return options.timeout;
  return std::chrono::milliseconds(suggested);
}

cache::PageCacheOptions cache_options(const Options& options) {
  cache::PageCacheOptions result;
  result.limit_bytes = options.cache_size;
  result.min_bytes = std::min(options.cache_min, options.cache_size);
  return result;
}

void log_libfuse(enum fuse_log_level level, const char* format, va_list arguments) {
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string_view line(text.data());
  while (line.ends_with('\n')) line.remove_suffix(1);
  if (level <= FUSE_LOG_ERR) {
    spdlog::error("libfuse: {}", line);
  } else if (level <= FUSE_LOG_NOTICE) {
    spdlog::warn("libfuse: {}", line);
  } else {
    spdlog::debug("libfuse: {}", line);
  }
}

void write_event(EventLog::Level level, const std::string& line) {
  spdlog::log(level == EventLog::Level::kWarning ? spdlog::level::warn : spdlog::level::info, line);
}

// Commas and backslashes separate and escape options.
std::string escaped(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

bool has_option(const std::vector<std::string>& arguments, std::string_view name) {
  return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
    return argument.starts_with("-o" + std::string(name));
  });
}

std::vector<std::string> libfuse_arguments(const Options& options, const std::string& source) {
  std::vector<std::string> arguments = {"cookiefs"};
  arguments.insert(arguments.end(), options.fuse_args.begin(), options.fuse_args.end());
  if (!has_option(options.fuse_args, "fsname=")) {
    arguments.push_back("-ofsname=" + escaped(source));
  }
  if (!has_option(options.fuse_args, "subtype=")) arguments.emplace_back("-osubtype=cookiefs");
  if (options.debug) arguments.emplace_back("-odebug");
  return arguments;
}

// Linux 6.9 to 6.12 keep a listing that an opendir tells them to drop.
bool kernel_forgets_listings() {
  utsname system{};
  unsigned major = 0;
  unsigned minor = 0;
  const bool known =
      uname(&system) == 0 && std::sscanf(system.release, "%u.%u", &major, &minor) == 2;
  const bool right = known && (major != 6 || minor < 9 || minor > 12);
  if (!right) {
    spdlog::warn(
        "kernel_listings=yes has no effect: Linux {} does not forget listings when told to",
        system.release);
  }
  return right;
}

void operation_init(void* userdata, fuse_conn_info* connection) {
  static_cast<SessionImpl*>(userdata)->negotiate(connection);
}

ssize_t read_device(int fd, void* buffer, size_t size, void* session) {
  return static_cast<SessionImpl*>(session)->device().read(fd, buffer, size);
}

ssize_t write_device(int fd, iovec* parts, int count, void* session) {
  return static_cast<SessionImpl*>(session)->device().write(fd, parts, count);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops all{};
  all.init = operation_init;
  add_meta_operations(&all);
  add_control_operations(&all);
  add_dir_operations(&all);
  add_file_operations(&all);
  add_change_operations(&all);
  add_lock_operations(&all);
  return all;
}

}  // namespace

Waiting::Waiting(SessionImpl& session, FuseRequest& request)
    : req_(request.raw()), member_(session.calls()) {
  patience_ = {.deadline = session.deadline(request), .interrupt = &member_.interrupt()};
  fuse_req_interrupt_func(
      req_,
      [](fuse_req_t, void* interrupt) { static_cast<cache::Interrupt*>(interrupt)->trigger(); },
      &member_.interrupt());
}

// Waits for an interrupt that is being delivered, so that none comes after this.
Waiting::~Waiting() { fuse_req_interrupt_func(req_, nullptr, nullptr); }

SessionImpl::SessionImpl(const Options& options, std::unique_ptr<Backend> backend,
                         const LookupAnswer& root)
    : options_(options),
      backend_(std::make_unique<MeasuredBackend>(std::move(backend), latencies_)),
      timeout_(choose_timeout(options, *backend_)),
      source_(backend_->description()),
      cache_(std::make_unique<cache::PageCache>(cache_options(options))),
      write_back_(std::make_unique<cache::WriteBack>(*cache_, cache::WriteBackOptions())),
      events_(std::make_unique<EventLog>(cache_->limit_bytes(), write_event)),
      inodes_(std::make_unique<InodeTable>(root)),
      made_ahead_(std::make_shared<MadeAhead>(
          [this](const MadeAhead::File& file, const MadeAhead::Answer& answer) {
            settle_made_ahead(*this, file, answer);
          })),
      misses_(options.ttl),
      remote_locks_(backend_->has_locks() && options.remote_locks != RemoteLocks::kNever),
      locks_(*backend_),
      ids_are_names_(backend_->child_id(root.id, "name", 1) ==
                     backend_->child_id(root.id, "name", 2)),
      ids_hold_names_(backend_->child_id(root.id, "name", 1) !=
                      backend_->child_id(root.id, "other", 1)) {
  inodes_->set_attr(*inodes_->find(kRootNodeId), {root.attr, started_});
  tree_ahead_ = std::make_unique<TreeAhead>(*this, options_.walk_ahead);
}

SessionImpl::~SessionImpl() {
  notifier_.stop();
  if (fuse_ != nullptr) {
    fuse_session_unmount(fuse_);
    fuse_session_destroy(fuse_);
  }
  tear_down();
}

double SessionImpl::ttl_seconds() const {
  return std::chrono::duration<double>(options_.ttl).count();
}

double SessionImpl::seconds_left(cache::TimePoint asked) const {
  const std::chrono::duration<double> age = now() - asked;
  return std::max(0.0, ttl_seconds() - age.count());
}

bool SessionImpl::mount(std::string* error) {
  CACHE_CHECK(fuse_ == nullptr);
  if (options_.metrics) {
    metrics_ = MetricsServer::listen(*options_.metrics, error);
    if (!metrics_) return false;
  }
  return mount_fuse(error);
}

bool SessionImpl::mount_fuse(std::string* error) {
  fuse_set_log_func(log_libfuse);
  std::vector<std::string> words = libfuse_arguments(options_, source_);
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(words.size()), pointers.data());
  const fuse_lowlevel_ops all = operations();
  fuse_ = fuse_session_new(&arguments, &all, sizeof all, this);
  fuse_opt_free_args(&arguments);
  if (fuse_ == nullptr) {
    *error = "libfuse refused the mount options; `cookiefs -h` lists those that work";
    return false;
  }
  if (fuse_session_mount(fuse_, options_.mountpoint.c_str()) != 0) {
    *error = "can't mount on " + options_.mountpoint +
             ": see the line above; /dev/fuse and fusermount3 must be usable by this user";
    fuse_session_destroy(std::exchange(fuse_, nullptr));
    return false;
  }
  const fuse_custom_io device = {.writev = write_device,
                                 .read = read_device,
                                 .splice_receive = nullptr,
                                 .splice_send = nullptr};
  if (fuse_session_custom_io(fuse_, &device, fuse_session_fd(fuse_)) != 0) {
    *error = "libfuse refused the functions that read and write its device";
    return false;
  }
  return true;
}

void SessionImpl::negotiate(fuse_conn_info* connection) {
  const auto want = [&](unsigned capability, bool wanted) {
    connection->want &= ~capability;
    if (wanted) connection->want |= connection->capable & capability;
  };
  want(FUSE_CAP_PARALLEL_DIROPS, true);
  want(FUSE_CAP_ASYNC_READ, true);
  want(FUSE_CAP_IOCTL_DIR, true);
  // The kernel forgets data when it is told to, not whenever a time has changed: our own writes
  // change times, too. It is told by notifications, and at each open.
  want(FUSE_CAP_EXPLICIT_INVAL_DATA, true);
  want(FUSE_CAP_AUTO_INVAL_DATA, (connection->want & FUSE_CAP_EXPLICIT_INVAL_DATA) == 0);
  want(FUSE_CAP_ATOMIC_O_TRUNC, true);
  want(FUSE_CAP_WRITEBACK_CACHE, options_.writeback_cache);
  want(FUSE_CAP_READDIRPLUS, options_.readdirplus != ReaddirPlus::kNever);
  want(FUSE_CAP_READDIRPLUS_AUTO, options_.readdirplus == ReaddirPlus::kAuto);
  want(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS, remote_locks_);
  // Nothing is spliced: replies are encoded into memory, and what is written is copied into pages.
  want(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE, false);
  // Re-export by NFS would need '..' of forgotten inodes, which no back end can tell.
  want(FUSE_CAP_EXPORT_SUPPORT, false);
  connection->max_write = kMaxRequestBytes;  // sets the pages a request may have, READDIR's too
  // libfuse refuses INIT when the mount option and this differ.
  if (options_.max_read != 0) connection->max_read = options_.max_read;
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kMaxBackground * 3 / 4;
  connection->time_gran = 1;
  kernel_listings_ = options_.kernel_listings && kernel_forgets_listings();
  if (ready_) std::exchange(ready_, nullptr)();
}

int SessionImpl::run(const std::function<void()>& ready) {
  CACHE_CHECK(fuse_ != nullptr);
  ready_ = ready;
  served_ = true;
  if (fuse_set_signal_handlers(fuse_) != 0) {
    spdlog::error("can't install signal handlers");
    return 1;
  }
#ifdef PR_SET_IO_FLUSHER
  // The kernel may wait for this daemon to free memory: it must not wait for the kernel in turn.
  // Needs CAP_SYS_RESOURCE; threads started from here on inherit it.
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) spdlog::debug("no PR_SET_IO_FLUSHER");
#endif
  main_thread_ = pthread_self();
  // New threads leave signals to this one, the only one whose wait they end.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  notifier_.start(fuse_);
  {
    cache::MutexLock lock(watch_mutex_);
    watching_ = true;
  }
  watcher_ = std::thread([this] { watch(); });
  watch_pressure();
  if (metrics_) metrics_->start([this] { return metrics_text(figures(), cache_->stats()); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  const int result = loop();
  calls_.stop();
  serve_until_idle();
  stop_watching();
  write_everything();
  log_totals();
  notifier_.stop();
  fuse_remove_signal_handlers(fuse_);
  fuse_session_unmount(fuse_);
  fuse_session_destroy(std::exchange(fuse_, nullptr));
  tear_down();
  return result < 0 ? 1 : 0;  // positive: ended by that signal
}

int SessionImpl::loop() {
  if (options_.single_thread) return fuse_session_loop(fuse_);
  fuse_loop_config* const config = fuse_loop_cfg_create();
  // One reader lists a quarter slower with a descriptor for each worker; for 2 to 64 readers it
  // makes no difference (two processors, warm listings, the two ways in turn).
  fuse_loop_cfg_set_clone_fd(config, 0);
  fuse_loop_cfg_set_max_threads(config, options_.max_threads);
  fuse_loop_cfg_set_idle_threads(config, std::min(kIdleThreads, options_.max_threads));
  const int result = fuse_session_loop_mt(fuse_, config);
  fuse_loop_cfg_destroy(config);
  return result;
}

// The workers are gone, but the kernel may be at work on a notification, and want something written
// for that: until it is done neither its thread nor those that wait for it can end, and whoever
// kills the daemon waits, too.
void SessionImpl::serve_until_idle() {
  std::atomic<bool> ended{false};
  std::thread ending([&] {
    lock_threads_.stop();
    ended.store(true);
  });
  fuse_buf buffer{};
  while (!ended.load() || !notifier_.idle()) {
    pollfd device = {.fd = fuse_session_fd(fuse_), .events = POLLIN, .revents = 0};
    if (poll(&device, 1, 2) <= 0 || (device.revents & POLLIN) == 0) {
      if ((device.revents & (POLLERR | POLLNVAL)) != 0) break;  // unmounted: nothing is wanted
      continue;
    }
    if (fuse_session_receive_buf(fuse_, &buffer) > 0) fuse_session_process_buf(fuse_, &buffer);
  }
  std::free(buffer.mem);  // NOLINT: libfuse's
  ending.join();
  DeviceIo::note_served();  // this thread's, which outlives the device
}

// Workers that wait for a dead remote would hold up the end of the loop, which joins them; nobody
// tells them of it, and when all wait nobody even reads that the mount is gone. So this looks. (A
// poll() that sleeps on the fuse device would be woken by every request.)
void SessionImpl::watch() {
  cache::MutexLock lock(watch_mutex_);
  while (watching_) {
    watch_changed_.wait_until(watch_mutex_, std::chrono::steady_clock::now() + kWatchPeriod);
    if (!watching_) return;
    lock.unlock();
    tree_ahead_->drop_old();
    drop_lingering();
    events_->look(now(), cache_->stats(), backend_->counters());
    pollfd device = {.fd = fuse_session_fd(fuse_), .events = 0, .revents = 0};
    const bool unmounted = poll(&device, 1, 0) == 1 && (device.revents & (POLLERR | POLLNVAL)) != 0;
    if (unmounted) fuse_session_exit(fuse_);
    if (fuse_session_exited(fuse_) != 0) {
      calls_.stop();
      // A signal that came just before the main thread's wait did not end that wait: once more.
      pthread_kill(main_thread_, SIGTERM);  // NOLINT: libfuse handles it
    }
    lock.lock();
  }
}

void SessionImpl::watch_pressure() {
  cache::PressureOptions pressure;
  pressure.limit_bytes = cache_->limit_bytes();
  pressure.min_bytes = std::min(options_.cache_min, options_.cache_size);
  pressure_ = std::make_unique<cache::PressureWatcher>(
      pressure, std::make_unique<cache::SystemPressureSampler>(clock_), clock_,
      [this](uint64_t bound) {
        spdlog::debug("memory pressure: the cache may hold {} MiB", bound >> 20);
        events_->bound_changed(bound);
        cache_->set_pressure_bound(bound);
      });
}

void SessionImpl::stop_watching() {
  pressure_.reset();
  if (metrics_) metrics_->stop();
  {
    cache::MutexLock lock(watch_mutex_);
    watching_ = false;
    watch_changed_.notify_all();
  }
  if (watcher_.joinable()) watcher_.join();
  events_->finish(cache_->stats(), backend_->counters());
}

void SessionImpl::log_totals() {
  const DaemonFigures total = figures();
  const cache::Stats& stats = cache_->stats();
  uint64_t requests = 0;
  for (const HistogramSnapshot& kind : total.latency.requests) requests += kind.count();
  spdlog::info(
      "{} unmounted from {} after {:.0f} s: {} requests of the kernel, {} to the remote ({} "
      "failed); {} arrays listed from the cache, {} fetched; at most {} MiB held",
      source_, options_.mountpoint, total.uptime_seconds, requests, total.remote.requests,
      total.remote.errors, stats.readdir_hits.get(), stats.readdir_misses.get(),
      (total.peak_bytes + (1 << 20) - 1) >> 20);
}

// After the last request: handles, inodes with their listings, back end; then nothing is left in
// the cache but its tables.
void SessionImpl::tear_down() {
  if (!backend_) return;
  made_ahead_->close();
  tree_ahead_.reset();
  {
    std::vector<Lingering> left;  // outlives the lock
    cache::MutexLock lock(lingering_mutex_);
    left.swap(lingering_);
  }
  handles_.clear();
  locks_.clear();
  inodes_->clear();
  inodes_.reset();
  write_back_.reset();
  backend_.reset();
  const cache::Stats& stats = cache_->stats();
  const uint64_t pinned = cache_->pinned_pages();
  const auto level = served_ ? spdlog::level::info : spdlog::level::debug;
  spdlog::log(level,
              "cookiefs: unmounted: pages={} names={} attrs={} pinned={} anchors={} free_page={}",
              stats.pages_resident.get() + stats.pages_private.get(), stats.names_bytes.get(),
              stats.attrs_bytes.get(), pinned, stats.anchors.get(), stats.free_page_calls.get());
  CACHE_CHECK(stats.pages_resident.get() == 0 && stats.pages_private.get() == 0);
  CACHE_CHECK(stats.names_bytes.get() == 0 && stats.attrs_bytes.get() == 0);
  CACHE_CHECK(pinned == 0 && stats.anchors.get() == 0);
  cache_.reset();
}

CallerPtr SessionImpl::find_caller(const FuseRequest& request) {
  const fuse_ctx* const context = fuse_req_ctx(request.raw());
  const CallerCache::Process process = {
      .pid = context->pid, .uid = context->uid, .gid = context->gid};
  return callers_.find(process, now(), [&] { return groups_of(process.pid); });
}

CallerPtr SessionImpl::changer(const FuseRequest& request) {
  if (CallerPtr known = caller(request)) return known;
  const fuse_ctx* const context = fuse_req_ctx(request.raw());
  return std::make_shared<const Caller>(
      Caller{.uid = context->uid, .gid = context->gid, .groups = {}});
}

// By its id; by an open handle where no id leads to it any more.
Result<Attr> SessionImpl::ask_attr(FuseRequest& request, const Inode& inode) {
  if (!inodes_->detached(inode)) {
    auto by_id = ask<Attr>(request, [&](Backend::Done<Attr> done) {
      return backend_->getattr(caller(request), inodes_->object(inode), std::move(done));
    });
    if (by_id.error_number() != ESTALE && by_id.error_number() != ENOENT) return by_id;
  }
  const auto file = inodes_->file(inode);
  const BackendFileSourcePtr source = file ? file->any_source() : nullptr;
  if (!source) return Status::error(ESTALE);
  auto attr = ask<Attr>(request, [&](Backend::Done<Attr> done) {
    return backend_->getattr_open(source->opener(), source->file(), std::move(done));
  });
  if (attr.error_number() == ENOSYS) return Status::error(ESTALE);
  return attr;
}

Result<Attr> SessionImpl::fetch_attr(FuseRequest& request, const Inode& inode) {
  const auto file = inodes_->file(inode);
  // The remote does not have it all yet.
  if (file && file->has_untold()) return file->shown();
  // Removed through this mount: only those who have it open see it, and no remote could say more.
  // (Files are open at the remote, too. Of a FIFO that is open the daemon does not hear.)
  if (inode.type() != S_IFREG && inodes_->detached(inode)) {
    if (const auto last = inodes_->attr(inode)) return last->attr;
  }
  Result<Attr> attr = fetch_remote_attr(request, inode);
  if (attr.ok() && file && file->has_untold()) return file->shown();  // written meanwhile
  return attr;
}

Result<Attr> SessionImpl::fetch_remote_attr(FuseRequest& request, const Inode& inode) {
  const cache::TimePoint asked = now();
  Result<Attr> attr = ask_attr(request, inode);
  if (!attr.ok()) return attr;
  // The kernel would give up an inode, even the root, that changes its type.
  if ((attr.value().mode & S_IFMT) != inode.type()) return Status::error(ESTALE);
  if (!presentable(attr.value())) return Status::error(EIO);
  keep_attr(inode, attr.value(), asked, Told::kCertain);
  return attr;
}

void SessionImpl::look_once_more(const CallerPtr& caller, const Inode& inode,
                                 const std::shared_ptr<FileState>& file,
                                 const BackendFileSourcePtr& through, const Attr& looked) {
  // The answer keeps nothing alive.
  const auto answered = [looked, weak = std::weak_ptr(file)](const Result<Attr>& now) {
    if (const auto state = weak.lock()) state->check_unchanged(looked, now);
  };
  if (through) {
    backend_->getattr_open(through->opener(), through->file(), answered);
  } else {
    backend_->getattr(caller, inodes_->object(inode), answered);
  }
}

void SessionImpl::begin_writing(FuseRequest& request, const FileHandle& handle) {
  using Before = Backend::BeforeWrite;
  FileState& file = *handle.state;
  const auto looked = file.note_own_write();
  if (!looked) return;
  const Before how = backend_->before_write();
  if (how == Before::kTold) return file.expect_before(*looked);
  if (how == Before::kWait) {
    return file.check_unchanged(*looked, ask_attr(request, *handle.inode));
  }
  look_once_more(handle.source->opener(), *handle.inode, handle.state, handle.source, *looked);
}

Result<TimedAttr> SessionImpl::fresh_attr(FuseRequest& request, const Inode& inode) {
  const cache::TimePoint asked = now();
  const auto file = inodes_->file(inode);
  // The kernel is to ask again: it is the remote's clock that counts in the end.
  if (file && file->has_untold()) {
    return TimedAttr{file->shown(), asked - options_.ttl};
  }
  const auto known = inodes_->attr(inode);
  // An open file may have lost a name since.
  const bool sure =
      known &&
      (!file || known->asked > lost_name_at_.load(std::memory_order_relaxed) || !file->is_open());
  if (sure && asked - known->asked < options_.ttl) return *known;
  Result<Attr> attr = fetch_attr(request, inode);
  if (!attr.ok()) return attr.status();
  return TimedAttr{attr.value(), asked};
}

Result<TimedAttr> SessionImpl::settle_attr(FuseRequest& request, const Inode& inode,
                                           const TimedAttr& told) {
  const auto file = inodes_->file(inode);
  const bool ours = file && (file->owns_changes() || file->has_untold());
  if (ours || inodes_->outdated(inode, told.asked)) return fresh_attr(request, inode);
  keep_attr(inode, told.attr, told.asked);
  return told;
}

Status SessionImpl::confirm_token(FuseRequest& request, const Inode& inode, DirState& dir) {
  const auto known = inodes_->attr(inode);
  if (known && known->attr.change != 0 && now() - known->asked < options_.ttl) {
    dir.revalidate(known->attr.change, known->asked);
    return {};
  }
  const cache::TimePoint asked = now();
  const Result<Attr> attr = fetch_attr(request, inode);
  // Without a token nobody can tell that the listing is still right.
  if (attr.ok() && attr.value().change == 0) dir.revalidate(0, asked);
  return attr.status();
}

void SessionImpl::keep_attr(const Inode& inode, const Attr& attr, cache::TimePoint asked,
                            Told told) {
  const auto file = inodes_->file(inode);
  if (file && file->has_untold()) return;
  if (file && told != Told::kCertain && file->owns_changes()) return;
  if (const auto known = inodes_->attr(inode); known && known->asked > asked) return;
  if (!inodes_->set_attr(inode, {attr, asked})) return;
  // Where nobody has it open the next open tells the kernel: a notification may overtake the answer
  // that brings the new size, which the kernel then does not believe.
  if (file && file->note_attr(attr) && file->is_open()) notifier_.inval_inode(inode.nodeid());
  if (!inode.is_directory() || attr.change == 0) return;  // 0: says nothing
  const std::shared_ptr<DirState> dir = inodes_->dir(inode);
  if (dir && dir->revalidate(attr.change, asked)) notifier_.inval_inode(inode.nodeid());
}

void SessionImpl::keep_own(const Inode& inode, const Attr& attr) {
  // What was asked for while the change was under way may have been answered before it.
  const cache::TimePoint when = now();
  inodes_->note_changed(inode, when);
  inodes_->set_attr(inode, {attr, when});
  if (const auto file = inodes_->file(inode)) file->adopt(attr);
}

uint32_t SessionImpl::block_size(const Inode& inode, const Attr& attr) {
  constexpr uint32_t kUsual = 4096;
  if (!inode.is_directory()) return kUsual;
  // Not listed yet: at twenty bytes or more an entry on most remotes this is long as well.
  if (attr.size >= ReplyBuffers::kMaxBytes) return ReplyBuffers::kMaxBytes;
  const auto dir = inodes_->dir(inode);
  return dir && dir->is_long() ? ReplyBuffers::kMaxBytes : kUsual;
}

struct stat SessionImpl::to_stat(const Inode& inode, const Attr& attr) {
  struct stat out {};
  out.st_ino = attr.ino != 0 ? attr.ino : inode.nodeid();
  out.st_mode = attr.mode;
  // The kernel takes one off for each name that goes, and gives no further name to what has none.
  const bool counted = inode.is_directory() || backend_->counts_links();
  out.st_nlink = counted ? attr.nlink : inodes_->id_count(inode);
  out.st_uid = attr.uid;
  out.st_gid = attr.gid;
  out.st_rdev = attr.rdev;
  out.st_size = static_cast<off_t>(attr.size);
  out.st_blksize = block_size(inode, attr);
  out.st_blocks = static_cast<blkcnt_t>(attr.blocks);
  out.st_atim = {.tv_sec = attr.atime.seconds, .tv_nsec = attr.atime.nanoseconds};
  out.st_mtim = {.tv_sec = attr.mtime.seconds, .tv_nsec = attr.mtime.nanoseconds};
  out.st_ctim = {.tv_sec = attr.ctime.seconds, .tv_nsec = attr.ctime.nanoseconds};
  return out;
}

std::shared_ptr<DirState> SessionImpl::obtain_dir(const Inode& inode) {
  if (auto dir = inodes_->dir(inode)) return dir;
  return inodes_->install_dir(
      inode,
      std::make_shared<DirState>(*cache_, *backend_, inodes_->object(inode), options_.ttl, walk_));
}

std::shared_ptr<FileState> SessionImpl::obtain_file(const Inode& inode, const Attr& attr) {
  if (auto file = inodes_->file(inode)) return file;
  return inodes_->install_file(inode, std::make_shared<FileState>(*cache_, *write_back_, attr));
}

DaemonFigures SessionImpl::figures() {
  DaemonFigures figures;
  figures.source = source_;
  figures.mountpoint = options_.mountpoint;
  figures.uptime_seconds = std::chrono::duration<double>(now() - started_).count();
  figures.limit_bytes = cache_->limit_bytes();
  figures.bytes = cache_->bytes();
  figures.peak_bytes = cache_->peak_bytes();
  figures.pressure_bound_bytes = cache_->bound_bytes();
  figures.pages_pinned = cache_->pinned_pages();
  figures.inodes = inodes_->size();
  figures.linked = inodes_->linked();
  figures.requests_active = calls_.count();
  figures.notifications = notifier_.sent();
  figures.notifications_dropped = notifier_.dropped();
  figures.remote = backend_->counters();
  figures.walk = tree_ahead_->figures();
  figures.metrics_port = metrics_ ? metrics_->port() : uint16_t{0};
  figures.latency = latencies_.figures();
  return figures;
}

std::string SessionImpl::stats_text() {
  return stats_json(figures(), cache_->stats(), kControlTextBytes - 1);
}

std::vector<std::string> SessionImpl::metrics() {
  return metrics_blocks(figures(), cache_->stats());
}

Histogram& latency_of(SessionImpl& session, RequestKind kind) {
  return session.latencies().of(kind);
}

// ---- Session ------------------------------------------------------------------------------------

Session::Session(const Options& options, std::unique_ptr<Backend> backend, const LookupAnswer& root)
    : impl_(std::make_unique<SessionImpl>(options, std::move(backend), root)) {}

Session::~Session() = default;

std::string Session::metrics_url() const { return impl_->metrics_url(); }

bool Session::mount(std::string* error) { return impl_->mount(error); }

int Session::run(const std::function<void()>& ready) { return impl_->run(ready); }

}  // namespace fusefs
