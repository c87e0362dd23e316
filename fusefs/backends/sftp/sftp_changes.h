// SftpChanges: names that are made and removed.
//
// Purpose:        sends each change together with a look at the directory before and after it, and
//                 at the object: one round trip, since the server works requests off in order.
//                 What the looks tell makes the answer: the object's attributes, what became of the
//                 directory's token (dir_tokens.h), and the errno that SFTP has no word for.
// Lost connections: a change is not sent again blindly. Where its answer was lost, the next
//                 connection is asked whether it has happened: a name that was to go is gone; what
//                 was to be made is there, is what was asked for, and was not there before (where
//                 that was told) or is as young as our asking. Only else it is sent again.
// Permissions:    of what is made are those that were asked for, less what the server's own umask
//                 and default ACLs take away.
// Ownership:      refers to the parts that it is made of, which the back end owns.
// Thread-safety:  the client's loop only. Completions run on it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>

#include "fusefs/backends/sftp/dir_tokens.h"
#include "fusefs/backends/sftp/sftp_files.h"
#include "fusefs/backends/sftp/sftp_listing.h"

namespace fusefs::sftp {

// The parts of the back end that a change of names concerns.
struct TreeParts {
  SftpClient& client;
  const ServerRoot& root;
  SftpFiles& files;
  SftpListing& listing;
  DirTokens& tokens;
};

class SftpChanges {
 public:
  template <typename T>
  using Done = std::function<void(Result<T>)>;

  explicit SftpChanges(const TreeParts& parts) : parts_(parts) {}

  // `flags`: those of codec.h's open_request().
  void create(const ObjectId& parent, const std::string& name, uint32_t mode, uint32_t flags,
              Done<CreatedAnswer> done);
  // See Backend::create_ahead(). All other changes wait until what was made ahead has been made
  // (the back end sees to it, see after_ahead(); create() does itself): were the connection lost
  // between the two, nobody could tell what had happened. It is tried for as long as the server is
  // away, as its data is.
  void create_ahead(const ObjectId& parent, const std::string& name, uint32_t mode, uint32_t flags,
                    Done<CreatedAnswer> done, Done<CreatedAnswer> late);
  // It was told to be there, and the server has not said so yet.
  [[nodiscard]] bool is_made_ahead(const ObjectId& id) const { return ahead_.contains(id); }
  // Runs `change` when nothing is being made ahead.
  void after_ahead(std::function<void()> change);
  // Between these two nothing is made ahead below that name: it may be another by then.
  void begin_move(const ObjectId& from) { moving_.insert(from); }
  void end_move(const ObjectId& from) { moving_.erase(moving_.find(from)); }
  void mkdir(const ObjectId& parent, const std::string& name, uint32_t mode, Done<MadeAnswer> done);
  void symlink(const ObjectId& parent, const std::string& name, const std::string& target,
               Done<MadeAnswer> done);
  void link(const ObjectId& source, const ObjectId& parent, const std::string& name,
            Done<MadeAnswer> done);
  void unlink(const ObjectId& parent, const std::string& name, Done<DirChange> done);
  void rmdir(const ObjectId& parent, const std::string& name, Done<DirChange> done);

 private:
  enum class Kind : uint8_t { kCreate, kMkdir, kSymlink, kLink, kUnlink, kRmdir };
  // What came of one.
  struct Outcome {
    FileAttrs attrs;  // of what was made
    std::string handle;
    DirChange parent;
    bool promise_kept = false;
  };
  struct Change {
    Kind kind = Kind::kCreate;
    ObjectId parent, id;
    uint32_t mode = 0, flags = 0;
    std::string target;   // of a symbolic link
    ObjectId source;      // of a hard link
    int64_t begun = 0;    // seconds since 1970
    bool absent = false;  // it is known that the name was not there before
    uint32_t attempts = 0;
    std::optional<DirTokens::Promise> promise;  // made ahead
    std::function<void(int error, const Outcome&)> done;
    [[nodiscard]] bool is_removal() const { return kind == Kind::kUnlink || kind == Kind::kRmdir; }
  };
  using ChangePtr = std::shared_ptr<Change>;

  [[nodiscard]] static ChangePtr change(Kind kind, const ObjectId& parent, const std::string& name);
  void make(const ChangePtr& making, Done<MadeAnswer> done);
  void remove(const ChangePtr& removal, Done<DirChange> done);
  void start(const ChangePtr& change);
  [[nodiscard]] Request request_of(const Change& change) const;
  void on_answer(const ChangePtr& change, const GroupAnswer& answer);
  void on_removed(const ChangePtr& removal, const GroupAnswer& answer);
  void succeed(const ChangePtr& change, const GroupAnswer& answer);
  void finish(const ChangePtr& change, const Outcome& outcome);
  void fail(const ChangePtr& change, int error);
  void close_handle(const GroupAnswer& answer);

  void explain(const ChangePtr& change, const GroupAnswer& answer);
  void explain_removal(const ChangePtr& removal, const Result<FileAttrs>& parent,
                       const SftpClient::Answer& itself);
  void explain_failure(const ChangePtr& change);

  void look(const ChangePtr& change);
  void on_look(const ChangePtr& change, const GroupAnswer& answer);
  static bool happened(const Change& change, const GroupAnswer& answer);

  [[nodiscard]] bool is_moving(const ObjectId& directory) const;
  void end_ahead(const ObjectId& id);

  static constexpr size_t kMostAhead = 64;

  const TreeParts parts_;
  std::unordered_multiset<ObjectId> ahead_;  // files that are being made
  std::deque<std::function<void()>> after_ahead_;
  std::multiset<ObjectId> moving_;
};

}  // namespace fusefs::sftp
