// A server that lies about changes: whatever it answers, the call ends, and what makes no sense is
// an error.

#include <cerrno>
#include <functional>

#include "tests/nfs/lying_server.h"
#include "tests/nfs/nfs_change_rig.h"

using test::Lie;
using test::ListQuestion;
using test::LyingServer;
using test::NfsRig;
using test::XdrWriter;

namespace {

constexpr uint32_t kSetattr = 2, kWrite = 7, kCreate = 8, kRemove = 12, kRmdir = 13, kRename = 14,
                   kLink = 15, kCommit = 21;

// What an honest server says.
std::string honest(uint32_t procedure) {
  constexpr uint32_t kFile = 1;
  XdrWriter out;
  out.u32(0);
  const std::string attributes = LyingServer::attributes(kFile, 5);
  switch (procedure) {
    case kWrite:
      return out.raw(LyingServer::dir_wcc()).u32(7).u32(0).u64(77).bytes();
    case kCommit:
      return out.raw(LyingServer::dir_wcc()).u64(77).bytes();
    case kRename:
      return out.raw(LyingServer::dir_wcc()).raw(LyingServer::dir_wcc()).bytes();
    case kLink:
      return out.u32(1).raw(attributes).raw(LyingServer::dir_wcc()).bytes();
    case kSetattr:
    case kRemove:
    case kRmdir:
      return out.raw(LyingServer::dir_wcc()).bytes();
    default:
      out.u32(1).opaque("a handle").u32(1).raw(attributes);
      return out.raw(LyingServer::dir_wcc()).bytes();
  }
}

// Makes one change after another, of which one procedure's answers are `lie`.
class Liar {
 public:
  Liar()
      : server_([](const ListQuestion&) { return Lie{.kind = Lie::Kind::kHangUp, .bytes = {}}; },
                [this](uint32_t procedure) {
                  return lying_ && procedure == procedure_ ? lie_ : honest(procedure);
                }),
        rig_(server_.url() + "&soft&timeo=50&retrans=0"),
        file_(create().value().file) {}

  int ask(uint32_t procedure, const std::string& lie) {
    procedure_ = procedure;
    lie_ = lie;
    lying_ = true;
    const int error = question(procedure);
    lying_ = false;
    return error;
  }

 private:
  fusefs::Result<test::CreatedAnswer> create() {
    return rig_.wait<test::CreatedAnswer>([&](auto done) {
      rig_.backend().create(nullptr, rig_.root().id, "file", 0644, O_RDWR | O_EXCL, done);
    });
  }

  int question(uint32_t procedure) {
    auto& backend = rig_.backend();
    const auto& root = rig_.root().id;
    test::SetAttr set;
    set.valid = test::SetAttr::kMode;
    switch (procedure) {
      case kSetattr:
        return rig_
            .wait<test::Attr>([&](auto done) { backend.setattr(nullptr, root, 0, set, done); })
            .error_number();
      case kWrite:
        return rig_
            .wait<test::WriteAnswer>([&](auto done) {
              backend.write(nullptr, file_, 0, "content", cache::StableHow::kUnstable, done);
            })
            .error_number();
      case kCommit:
        return rig_.wait<uint64_t>([&](auto done) { backend.fsync(nullptr, file_, done); })
            .error_number();
      case kRemove:
        return rig_
            .wait<test::DirChange>([&](auto done) { backend.unlink(nullptr, root, "x", done); })
            .error_number();
      case kRmdir:
        return rig_
            .wait<test::DirChange>([&](auto done) { backend.rmdir(nullptr, root, "x", done); })
            .error_number();
      case kRename:
        return rig_
            .wait<test::RenamedAnswer>(
                [&](auto done) { backend.rename(nullptr, root, "file", root, "file", 0, done); })
            .error_number();
      case kLink:
        return rig_
            .wait<test::MadeAnswer>(
                [&](auto done) { backend.link(nullptr, root, root, "x", done); })
            .error_number();
      default:
        return create().error_number();
    }
  }

  bool lying_ = false;  // these three change while no question is under way
  uint32_t procedure_ = 0;
  std::string lie_;
  LyingServer server_;
  NfsRig rig_;
  const test::Backend::FileHandle file_;
};

constexpr auto kAll = {kSetattr, kWrite, kCreate, kRemove, kRmdir, kRename, kLink, kCommit};

}  // namespace

TEST_CASE("lies about changes: the honest answers, so that the others mean something") {
  Liar liar;
  for (const uint32_t procedure : kAll) {
    INFO(procedure);
    CHECK(liar.ask(procedure, honest(procedure)) == 0);
  }
}

TEST_CASE("lies about changes: answers that are cut are errors") {
  Liar liar;
  for (const uint32_t procedure : kAll) {
    const std::string whole = honest(procedure);
    for (size_t length = 0; length < whole.size(); length += 4) {
      INFO(procedure << ", " << length << " bytes");
      CHECK(liar.ask(procedure, whole.substr(0, length)) == EIO);
    }
  }
}

TEST_CASE("lies about changes: any word may be any number") {
  Liar liar;
  for (const uint32_t procedure : kAll) {
    const std::string whole = honest(procedure);
    for (size_t at = 0; at < whole.size(); at += 4) {
      for (const char fill : {'\0', '\1', '\x7f', '\xff'}) {
        std::string lie = whole;
        lie.replace(at, 4, std::string(4, fill));
        liar.ask(procedure, lie);  // it ends
      }
    }
    CHECK(liar.ask(procedure, whole) == 0);
  }
}

TEST_CASE("lies about changes: more written than was sent, and nothing") {
  Liar liar;
  for (const uint32_t count : {0u, 8u, UINT32_MAX}) {
    const std::string lie =
        XdrWriter().u32(0).raw(LyingServer::dir_wcc()).u32(count).u32(0).u64(77).bytes();
    CHECK(liar.ask(kWrite, lie) == EIO);
  }
}
