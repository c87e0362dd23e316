#include "fusefs/backends/sim/sim_backend.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "cache/base/check.h"
#include "fusefs/backends/sim/sim_call.h"

namespace fusefs {

using cache::DirAnswer;
using cache::DirRequest;
using cache::MutexLock;
using sim::id_from;
using sim::kAttrBytes;
using sim::kEntryBytes;
using sim::kHeaderBytes;

namespace {

std::string in_small_letters(std::string name) {
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return name;
}

}  // namespace

class SimBackend::DirCall final : public SimExchange {
 public:
  DirCall(SimBackend* backend, ObjectId directory, DirRequest request,
          cache::DirSource::Completion done)
      : backend_(backend),
        directory_(std::move(directory)),
        request_(std::move(request)),
        done_(std::move(done)) {}

  uint64_t serve(const SimDraw& draw) override {
    answer_ = backend_->list(directory_, request_, draw);
    return kHeaderBytes + answer_.entries.size() * kEntryBytes + answer_.names.size() +
           answer_.tokens.size() + answer_.attrs.size() * kAttrBytes;
  }
  void deliver(int error) override {
    if (error != 0) {
      answer_ = DirAnswer();
      answer_.error = error;
    }
    done_(std::move(answer_));
  }

 private:
  SimBackend* const backend_;
  const ObjectId directory_;
  const DirRequest request_;
  const cache::DirSource::Completion done_;
  DirAnswer answer_;
};

SimBackend::SimBackend(const SimConfig& config, SimScheduler::Mode mode, std::string description)
    : config_(config),
      description_(std::move(description)),
      tree_(config),
      files_(tree_),
      changes_(tree_, files_),
      scheduler_(mode),
      link_(config, scheduler_) {}

SimBackend::~SimBackend() {
  scheduler_.stop();
  link_.close();
}

Result<LookupAnswer> SimBackend::connect(std::string* error_text) {
  struct Reply {
    cache::Mutex mutex{cache::LockRank::kLeaf};
    cache::CondVar changed;
    std::optional<Result<Attr>> attr GUARDED_BY(mutex);
  };
  const auto reply = std::make_shared<Reply>();
  const RequestId id = call<Attr>(
      SimRequestKind::kConnect, [this] { return present_attr(id_from(kSimRootIno)); },
      [reply](const Result<Attr>& attr) {
        MutexLock lock(reply->mutex);
        reply->attr.emplace(attr);
        reply->changed.notify_all();
      });
  const auto wait = 2 * (config_.rtt + config_.jitter) + std::chrono::seconds(30);
  const auto deadline = std::chrono::steady_clock::now() + wait;
  MutexLock lock(reply->mutex);
  while (!reply->attr) {
    if (reply->changed.wait_until(reply->mutex, deadline) || reply->attr) continue;
    lock.unlock();
    link_.cancel(id);
    *error_text = "sim: the simulated remote does not answer; is it cut off or held?";
    return Status::error(ETIMEDOUT);
  }
  if (!reply->attr->ok()) {
    *error_text = "sim: the simulated remote broke the connection; try again";
    return reply->attr->status();
  }
  return LookupAnswer{.id = id_from(kSimRootIno), .attr = reply->attr->value()};
}

Result<SimNode> SimBackend::find(const ObjectId& id) {
  tree_.advance(scheduler_.elapsed());
  const std::optional<uint64_t> ino = sim::ino_of(id);
  const std::optional<SimNode> node = ino ? tree_.node(*ino) : std::nullopt;
  if (!node) return Status::error(ESTALE);
  return *node;
}

Result<LookupAnswer> SimBackend::look_up(const ObjectId& parent, const std::string& name) {
  MutexLock lock(mutex_);
  const Result<SimNode> directory = find(parent);
  if (!directory.ok()) return directory.status();
  if (name.size() > kSimMaxName) return Status::error(ENAMETOOLONG);
  Result<SimNode> child = tree_.lookup(directory.value(), name);
  if (child.error_number() == ENOENT && config_.fold) {
    child = tree_.lookup(directory.value(), in_small_letters(name));
  }
  if (!child.ok()) return child.status();
  return LookupAnswer{.id = id_from(child.value().ino), .attr = tree_.attr(child.value())};
}

SimBackend::RequestId SimBackend::lookup(const CallerPtr& /*caller*/, const ObjectId& parent,
                                         const std::string& name, Done<LookupAnswer> done) {
  return call<LookupAnswer>(
      SimRequestKind::kLookup, [this, parent, name] { return look_up(parent, name); },
      std::move(done));
}

Result<Attr> SimBackend::present_attr(const ObjectId& id) {
  MutexLock lock(mutex_);
  const Result<SimNode> node = find(id);
  if (!node.ok()) return node.status();
  return tree_.attr(node.value());
}

SimBackend::RequestId SimBackend::getattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                          Done<Attr> done) {
  return call<Attr>(
      SimRequestKind::kGetattr, [this, id] { return present_attr(id); }, std::move(done));
}

SimBackend::RequestId SimBackend::readlink(const CallerPtr& /*caller*/, const ObjectId& id,
                                           Done<std::string> done) {
  const auto serve = [this, id]() -> Result<std::string> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(id);
    if (!node.ok()) return node.status();
    return tree_.readlink(node.value());
  };
  return call<std::string>(SimRequestKind::kReadlink, serve, std::move(done));
}

StatfsAnswer SimBackend::file_system() const {
  MutexLock lock(mutex_);
  StatfsAnswer answer;
  answer.files = tree_.object_count();
  constexpr uint64_t kUsual = uint64_t{1} << 40;  // shown where there is no limit
  const uint64_t space = config_.space != 0 ? config_.space : kUsual;
  const uint64_t stored = std::min(tree_.stored_bytes(), space);
  answer.blocks_free = (space - stored) / answer.block_size;
  answer.blocks_available = answer.blocks_free;
  // What is computed takes 32 KiB a file on average.
  answer.blocks = answer.files * 8 + 1024 + space / answer.block_size;
  answer.files_free = answer.blocks_free;
  return answer;
}

SimBackend::RequestId SimBackend::statfs(const CallerPtr& /*caller*/, const ObjectId&,
                                         Done<StatfsAnswer> done) {
  return call<StatfsAnswer>(
      SimRequestKind::kStatfs, [this]() -> Result<StatfsAnswer> { return file_system(); },
      std::move(done));
}

Result<SimBackend::FileHandle> SimBackend::open_file(const ObjectId& id, int flags) {
  MutexLock lock(mutex_);
  const Result<SimNode> node = find(id);
  if (!node.ok()) return node.status();
  return files_.open(node.value(), flags);
}

SimBackend::RequestId SimBackend::open(const CallerPtr& /*caller*/, const ObjectId& id, int flags,
                                       Done<FileHandle> done) {
  return call<FileHandle>(
      SimRequestKind::kOpen, [this, id, flags] { return open_file(id, flags); }, std::move(done), 0,
      [this](const FileHandle& file) { release(file); });
}

SimBackend::RequestId SimBackend::read(const CallerPtr& /*caller*/, FileHandle file,
                                       uint64_t offset, uint32_t size, Done<std::string> done) {
  const auto serve = [this, file, offset, size]() -> Result<std::string> {
    MutexLock lock(mutex_);
    return files_.read(file, offset, size);
  };
  return call<std::string>(SimRequestKind::kRead, serve, std::move(done));
}

void SimBackend::release(FileHandle file) {
  MutexLock lock(mutex_);
  files_.close(file);
}

SimBackend::RequestId SimBackend::read_dir(const CallerPtr& /*caller*/, const ObjectId& directory,
                                           DirRequest request, cache::DirSource::Completion done) {
  return link_.submit(
      SimRequestKind::kReadDir,
      std::make_unique<DirCall>(this, directory, std::move(request), std::move(done)));
}

void SimBackend::run_hook(SimHooks::ReadDirHook SimHooks::*hook, const ObjectId& directory,
                          const DirRequest& request) {
  std::shared_ptr<const SimHooks> hooks;
  {
    MutexLock lock(mutex_);
    hooks = hooks_;
  }
  if (hooks && (*hooks).*hook) ((*hooks).*hook)(directory, request);
}

DirAnswer SimBackend::list(const ObjectId& directory, const DirRequest& request,
                           const SimDraw& draw) {
  run_hook(&SimHooks::before_content, directory, request);
  DirAnswer answer;
  {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(directory);
    if (!node.ok()) {
      answer.error = node.error_number();
      return answer;
    }
    answer = make_sim_listing(tree_, node.value(), request, draw);
  }
  run_hook(&SimHooks::after_content, directory, request);
  MutexLock lock(mutex_);
  const Result<SimNode> node = find(directory);
  if (node.ok() && tree_.is_directory(node.value())) {
    answer.change = tree_.change_token(node.value());
  }
  return answer;
}

cache::CookieKind SimBackend::cookie_kind() const {
  const bool opaque = config_.cookies == SimCookies::kIndex || config_.cookies == SimCookies::kName;
  return opaque ? cache::CookieKind::kOpaque : cache::CookieKind::kNative;
}

ObjectId SimBackend::child_id(const ObjectId&, std::string_view, uint64_t ino) const {
  return id_from(ino);
}

void SimBackend::cancel(RequestId id) { link_.cancel(id); }

cache::Status SimBackend::add_entry(std::string_view name) {
  MutexLock lock(mutex_);
  return tree_.add(name);
}

cache::Status SimBackend::add_entry_near(std::string_view name, std::string_view neighbour,
                                         SimSide side) {
  MutexLock lock(mutex_);
  return tree_.add_near(name, neighbour, side);
}

cache::Status SimBackend::remove_entry(std::string_view name) {
  MutexLock lock(mutex_);
  return tree_.remove(name);
}

// By name, what follows a name directly is that name with a low byte behind it; what precedes it
// is its predecessor with a high byte behind.
Result<std::string> SimBackend::insert_beside(std::string_view neighbour, SimSide side) {
  MutexLock lock(mutex_);
  const Result<SimNode> big = tree_.lookup(SimNode{}, "big");
  if (!big.ok()) return big.status();
  tree_.advance(scheduler_.elapsed());
  std::string before;
  for (const SimListed& listed : sim_contents(tree_, big.value())) {
    if (listed.name == neighbour) break;
    before = listed.name;
  }
  char number[24];
  std::snprintf(number, sizeof number, "%08llu", static_cast<unsigned long long>(next_inserted_++));
  const std::string name = side == SimSide::kAfter ? std::string(neighbour) + "!" + number
                                                   : before + (before.empty() ? "!" : "~") + number;
  const cache::Status status = tree_.add_near(name, neighbour, side);
  if (!status.ok()) return status;
  return name;
}

void SimBackend::set_hooks(SimHooks hooks) {
  auto shared = std::make_shared<const SimHooks>(std::move(hooks));
  MutexLock lock(mutex_);
  hooks_.swap(shared);
}

Result<SimNode> SimBackend::resolve(std::string_view path) const {
  SimNode node;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (name.empty()) continue;
    const Result<SimNode> child = tree_.lookup(node, name);
    if (!child.ok()) return child.status();
    node = child.value();
  }
  return node;
}

ObjectId SimBackend::id_of(std::string_view path) const {
  MutexLock lock(mutex_);
  const Result<SimNode> node = resolve(path);
  return node.ok() ? id_from(node.value().ino) : ObjectId();
}

std::vector<SimListed> SimBackend::contents(const ObjectId& directory) {
  MutexLock lock(mutex_);
  const Result<SimNode> node = find(directory);
  if (!node.ok()) return {};
  return sim_contents(tree_, node.value());
}

std::unique_ptr<Backend> make_sim_backend(std::string_view url_rest, std::string* error_text) {
  const std::optional<SimConfig> config = parse_sim_url(url_rest, error_text);
  if (!config) return nullptr;
  return std::make_unique<SimBackend>(*config, SimScheduler::Mode::kReal,
                                      "sim:" + std::string(url_rest));
}

}  // namespace fusefs
