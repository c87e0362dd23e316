// SftpSetattr: changes of attributes.
//
// Purpose:        sends what setattr() is to change, owners before permissions (a change of owner
//                 takes set-user-id away) and times last (all others move them), together with the
//                 question what it has become: one round trip. SFTP sets owner and group only
//                 together, and so the two times: where one is wanted, the other is looked up
//                 before, which is a second one.
// Links:          a link's own owner and times by lsetstat@openssh.com, which is used for whatever
//                 is not open, so that what was a file and is a link by now leads nowhere. A server
//                 without it is asked first what the object is.
// Times:          whole seconds from 1970 to 2106, others are clamped. SFTP has no 'now': this
//                 machine's clock.
// Lost connections: all of this can be sent again.
// Thread-safety:  the client's loop only. Completions run on it.
// Errors:         as the server says; EPERM for what is refused (EACCES where a writer would be
//                 allowed to); EOPNOTSUPP: a link, and the server has no such thing; EINVAL: a size
//                 by a handle that may not write.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "fusefs/backends/sftp/sftp_files.h"

namespace fusefs::sftp {

class SftpSetattr {
 public:
  using FileHandle = Backend::FileHandle;
  using Done = std::function<void(Result<Attr>)>;

  SftpSetattr(SftpClient& client, const ServerRoot& root, SftpFiles& files)
      : client_(client), root_(root), files_(files) {}

  void setattr(const ObjectId& id, FileHandle file, const SetAttr& set, Done done);

 private:
  struct Setting {
    ObjectId id;
    SftpFiles::FilePtr file;      // by its handle; null: by its path
    SftpFiles::ObjectPtr object;  // whose size or time changes, where it is open
    SetAttr set;
    std::optional<FileAttrs> before;
    bool no_lsetstat = false;  // the server's does not do permissions
    uint32_t attempts = 0;
    Done done;
  };
  using SettingPtr = std::shared_ptr<Setting>;

  void begin(const SettingPtr& setting);
  void look(const SettingPtr& setting);
  void apply(const SettingPtr& setting);
  void on_applied(const SettingPtr& setting, const std::vector<FileAttrs>& steps,
                  const GroupAnswer& answer);
  void explain(const SettingPtr& setting, const FileAttrs& step, const Result<FileAttrs>& after,
               const SftpClient::Answer& failed);
  static void fail(const SettingPtr& setting, int error);

  [[nodiscard]] bool must_look(const Setting& setting) const;
  [[nodiscard]] bool by_lsetstat(const Setting& setting, const FileAttrs& step) const;
  [[nodiscard]] uint64_t connection_of(const Setting& setting) const;
  [[nodiscard]] Request look_request(const Setting& setting) const;
  [[nodiscard]] Request step_request(const Setting& setting, const FileAttrs& step) const;

  SftpClient& client_;
  const ServerRoot& root_;
  SftpFiles& files_;
};

// What is to be sent for `set`, in this order. `before` has what is not to be changed, but must be
// told with what is.
std::vector<FileAttrs> setattr_steps(const SetAttr& set, const FileAttrs& before,
                                     int64_t wall_seconds);

}  // namespace fusefs::sftp
