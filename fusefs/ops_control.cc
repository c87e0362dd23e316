#include "fusefs/ops_control.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/control.h"
#include "fusefs/dir_json.h"
#include "fusefs/log.h"
#include "fusefs/metrics.h"
#include "fusefs/ops.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

constexpr size_t kTopDirectories = 64;
constexpr uint32_t kMapCells = 8192;
constexpr size_t kMostPathBytes = 512;
constexpr int kMostDepth = 64;  // of a path that is told by its names

template <typename Answer>
void reply_answer(FuseRequest& request, const Answer& answer) {
  request.reply(fuse_reply_ioctl, 0, &answer, sizeof answer);
}

void reply_text(FuseRequest& request, const std::string& text) {
  const auto answer = std::make_unique<ControlText>();
  std::memset(answer->text, 0, sizeof answer->text);
  std::memcpy(answer->text, text.data(), std::min(text.size(), sizeof answer->text - 1));
  reply_answer(request, *answer);
}

std::string directory_text(SessionImpl& session, const Inode& inode) {
  DirectoryFigures figures = {.ino = inode.ino(),
                              .now = session.now(),
                              .ttl = session.options().ttl,
                              .token_asked = {},
                              .info = {},
                              .content = {}};
  if (const auto dir = session.inodes().dir(inode)) {
    figures.token_asked = dir->token_asked();
    figures.info = dir->directory().info();
    figures.content = dir->directory().content();
  }
  return directory_json(figures);
}

// ---- The directories that hold or took most -----------------------------------------------------

std::string name_of(SessionImpl& session, uint64_t nodeid, uint64_t ino) {
  const InodeRef inode = session.inodes().find(nodeid);
  const std::string name = inode ? session.inodes().name(*inode) : std::string();
  return name.empty() ? "<inode " + std::to_string(ino) + ">" : name;
}

// As the kernel was told of each.
std::string path_of(SessionImpl& session, uint64_t nodeid, uint64_t ino, uint64_t parent) {
  std::string path;
  for (int depth = 0; nodeid != kRootNodeId && depth < kMostDepth; ++depth) {
    const InodeRef above = session.inodes().find(parent);
    std::string longer = "/" + name_of(session, nodeid, ino) + path;
    if (longer.size() > kMostPathBytes) return "..." + path;
    path.swap(longer);
    if (!above) return "..." + path;
    nodeid = above->nodeid();
    ino = above->ino();
    parent = above->parent();
  }
  return path.empty() ? "/" : path;
}

uint64_t weight(const cache::DirectoryInfo& info, char order) {
  switch (order) {
    case kTopByHits:
      return info.hits;
    case kTopByRequests:
      return info.requests;
    case kTopByWait:
      return static_cast<uint64_t>(info.waited.count());
    default:
      return info.arrays;
  }
}

std::string top_text(SessionImpl& session, char order) {
  const auto all = session.inodes().opened_directories();
  struct Ranked {
    uint64_t weight;
    size_t index;
    cache::DirectoryInfo info;
  };
  std::vector<Ranked> ranked;
  ranked.reserve(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const cache::DirectoryInfo info = all[i].dir->directory().info();
    ranked.push_back({.weight = weight(info, order), .index = i, .info = info});
  }
  const auto heavier = [](const Ranked& a, const Ranked& b) { return a.weight > b.weight; };
  const size_t most = std::min(ranked.size(), kTopDirectories);
  const auto end = ranked.begin() + static_cast<std::ptrdiff_t>(most);
  std::partial_sort(ranked.begin(), end, ranked.end(), heavier);
  std::vector<TopDirectory> top;
  for (auto at = ranked.begin(); at != end; ++at) {
    const auto& directory = all[at->index];
    top.push_back({.path = path_of(session, directory.nodeid, directory.ino, directory.parent),
                   .info = at->info,
                   .content = directory.dir->directory().content()});
  }
  if (order == kTopByMemory) {
    std::stable_sort(top.begin(), top.end(), [](const TopDirectory& a, const TopDirectory& b) {
      return a.content.bytes > b.content.bytes;
    });
  }
  return top_json(top, all.size(), kControlTextBytes - 1);
}

// ---- A directory as the remote lists it now -----------------------------------------------------

class NameSink final : public cache::EntrySink {
 public:
  explicit NameSink(ControlNames& out) : out_(out) {}
  uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
    uint32_t taken = 0;
    for (uint32_t i = from; i < to; ++i, ++taken) {
      const std::string_view name = view.name(i);
      if (out_.bytes + name.size() + 1 > sizeof out_.names) break;
      std::memcpy(out_.names + out_.bytes, name.data(), name.size());
      out_.bytes += static_cast<uint32_t>(name.size()) + 1;
      ++out_.count;
      position_ = view.cookie(i);
    }
    return taken;
  }
  [[nodiscard]] uint64_t position() const { return position_; }

 private:
  ControlNames& out_;
  uint64_t position_ = 0;
};

void reply_remote_names(SessionImpl& session, FuseRequest& request, DirHandle& handle) {
  const auto answer = std::make_unique<ControlNames>();
  std::memset(answer.get(), 0, sizeof *answer);
  Status status;
  {
    const Waiting waiting(session, request);
    const ObjectId object = session.inodes().object(*handle.inode);  // its lock comes before
    cache::MutexLock lock(handle.mutex);
    if (!handle.remote) {
      handle.remote = std::make_unique<RemoteListing>(session.cache(), session.backend(), object,
                                                      handle.opener);
    }
    RemoteListing& remote = *handle.remote;
    cache::ReadOptions options;
    options.deadline = waiting.patience().deadline;
    options.interrupt = waiting.patience().interrupt;
    NameSink sink(*answer);
    status = remote.directory.read(remote.cursor, remote.position, options, sink);
    if (answer->count > 0) remote.position = sink.position();
  }
  if (!status.ok() && answer->count == 0) return request.fail(status.error_number());
  reply_answer(request, *answer);
}

void want_attributes(SessionImpl& session, FuseRequest& request, const Inode& inode) {
  session.obtain_dir(inode)->note_wanted();
  request.reply(fuse_reply_ioctl, 0, nullptr, 0);
}

// ---- The mount as a whole -----------------------------------------------------------------------

void reply_count(FuseRequest& request, uint64_t count) {
  reply_answer(request, ControlCount{.count = count});
}

void invalidate(SessionImpl& session, FuseRequest& request, const Inode& inode) {
  session.inodes().drop_attr(inode);
  const auto dir = session.inodes().dir(inode);
  const uint64_t arrays = dir ? dir->invalidate(session.now()) : 0;
  session.notifier().inval_inode(inode.nodeid());
  reply_count(request, arrays);
}

void sync(SessionImpl& session, FuseRequest& request) {
  const Result<uint64_t> lost = session.sync(request);
  if (!lost.ok()) return request.fail(lost.error_number());
  reply_count(request, lost.value());
}

void reply_metrics(SessionImpl& session, FuseRequest& request, const void* in) {
  const auto answer = std::make_unique<ControlPage>();
  std::memcpy(&answer->next, in, sizeof answer->next);
  const MetricsPage page = metrics_page(session.metrics(), answer->next, sizeof answer->text - 1);
  answer->next = page.next;
  std::memset(answer->text, 0, sizeof answer->text);
  std::memcpy(answer->text, page.text.data(), page.text.size());
  reply_answer(request, *answer);
}

void change_log_level(FuseRequest& request, const void* in) {
  ControlLevel answer{};
  std::memcpy(&answer, in, sizeof answer);
  answer.level[sizeof answer.level - 1] = '\0';
  const std::string wanted = answer.level;
  if (!wanted.empty() && !set_log_level(wanted)) return request.fail(EINVAL);
  const std::string level = log_level();
  answer = {};
  level.copy(answer.level, sizeof answer.level - 1);
  reply_answer(request, answer);
}

// ---- Commands -----------------------------------------------------------------------------------

// What a command carries in and out.
struct Sizes {
  size_t in = 0, out = 0;
};

// Nothing for a command that is not ours.
std::optional<Sizes> sizes_of(unsigned command) {
  switch (command) {
    case kControlStats:
    case kControlDirectory:
    case kControlMap:
      return Sizes{.out = sizeof(ControlText)};
    case kControlTop:
      return Sizes{.in = sizeof(ControlText), .out = sizeof(ControlText)};
    case kControlDrop:
    case kControlInvalidate:
    case kControlSync:
      return Sizes{.out = sizeof(ControlCount)};
    case kControlMetrics:
      return Sizes{.in = sizeof(ControlPage), .out = sizeof(ControlPage)};
    case kControlLogLevel:
      return Sizes{.in = sizeof(ControlLevel), .out = sizeof(ControlLevel)};
    case kControlRemoteNames:
      return Sizes{.out = sizeof(ControlNames)};
    case kControlWantAttributes:
      return Sizes{};
    default:
      return std::nullopt;
  }
}

struct Question {
  unsigned command;
  const Inode& inode;
  uint64_t handle;  // fi->fh
  const void* in;   // as much as sizes_of() says
};

void answer_of_directory(SessionImpl& session, FuseRequest& request, const Question& question) {
  if (!question.inode.is_directory()) return request.fail(ENOTDIR);
  switch (question.command) {
    case kControlDirectory:
      return reply_text(request, directory_text(session, question.inode));
    case kControlMap: {
      const auto dir = session.inodes().dir(question.inode);
      return reply_text(request,
                        map_json(dir ? dir->directory().map(kMapCells) : cache::DirectoryMap{}));
    }
    case kControlRemoteNames:
      return reply_remote_names(session, request, HandleList::get<DirHandle>(question.handle));
    default:
      return want_attributes(session, request, question.inode);
  }
}

void answer(SessionImpl& session, FuseRequest& request, const Question& question) {
  switch (question.command) {
    case kControlStats:
      return reply_text(request, session.stats_text());
    case kControlDrop:
      return reply_count(request, session.cache().drop_clean());
    case kControlInvalidate:
      return invalidate(session, request, question.inode);
    case kControlSync:
      return sync(session, request);
    case kControlMetrics:
      return reply_metrics(session, request, question.in);
    case kControlLogLevel:
      return change_log_level(request, question.in);
    case kControlTop:
      return reply_text(request, top_text(session, *static_cast<const char*>(question.in)));
    default:
      return answer_of_directory(session, request, question);
  }
}

// The mount's owner and root.
bool may_control(const FuseRequest& request) {
  return request.uid() == 0 || request.uid() == geteuid();
}

void operation_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void* /*argument*/,
                     fuse_file_info* fi, unsigned /*flags*/, const void* in, size_t in_bytes,
                     size_t out_bytes) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    const auto sizes = sizes_of(command);
    if (!sizes) return request.fail(ENOTTY);
    if (!may_control(request)) return request.fail(EPERM);
    if (in_bytes < sizes->in || out_bytes < sizes->out) return request.fail(EINVAL);
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    answer(session, request, {.command = command, .inode = *inode, .handle = fi->fh, .in = in});
  });
}

}  // namespace

void add_control_operations(fuse_lowlevel_ops* operations) { operations->ioctl = operation_ioctl; }

void reply_directory_xattr(SessionImpl& session, FuseRequest& request, const Inode& inode,
                           size_t size) {
  if (!inode.is_directory()) return request.fail(ENODATA);
  if (!may_control(request)) return request.fail(EPERM);
  constexpr size_t kGrowth = 64;  // figures may be longer by the time they are fetched
  const std::string text = directory_text(session, inode);
  if (size == 0) {
    request.reply(fuse_reply_xattr, text.size() + kGrowth);
  } else if (text.size() > size) {
    request.fail(ERANGE);
  } else {
    request.reply(fuse_reply_buf, text.data(), text.size());
  }
}

}  // namespace fusefs
