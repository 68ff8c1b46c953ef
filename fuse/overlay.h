// SPDX-License-Identifier: Apache-2.0
//
// The filesystem itself: one container's root, lower + upper, without libfuse types, so that tests
// and fuzzers drive it in-process. fuse/ops_*.cc decode messages, call this and reply.
//
// Semantics are Linux's (what ext4 does), except that permission checks are the kernel's
// (default_permissions) where mount options say so. Every mutation is one upper transaction: when a
// call returned, it survives kill -9; when it failed, nothing changed.
//
// Inode lifetime: numbers are the kernel's node ids. In memory there is only a count of kernel
// references per inode the kernel knows: an inode whose last name went while the kernel references
// it is an orphan in the upper, and goes at the last forget, or at the next open of the upper.
//
// Copy-up is by inode: metadata changes write an InodeRecord; content changes write only the ranges
// touched (upper.h, bodies).
//
// Directory order and cookies. A directory lists the names of its lower part first, bytewise; a
// name's cookie is its rank there plus 1, also when an upper file replaced it. Then come the other
// names by name_position (upper.h), which with bit 62 set is the cookie. So a cookie depends on the
// name alone: it stays valid when that name goes, needs no state per open directory (OPENDIR is not
// sent), and a file replaced by rename keeps its place, which ends loops that rewrite what they
// list.
//
// Lock order: freeze gate -> namespace lock (shared: lookup, list; exclusive: anything that changes
// names) -> inode locks (sharded; several at a time by ascending shard) -> upper. read and write
// take only the inode lock. freeze() waits for running mutations and holds new ones back.
// Thread-safety: every method from any thread. Errors carry Linux's errno.
#pragma once

#include <sys/statvfs.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/lower.h"

namespace layerfs {

struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t umask = 0;
};

struct Stat {
  Ino ino = 0;
  Attributes attributes;
  Timestamp atime;
  Timestamp ctime;
  Timestamp btime;
  uint64_t blocks = 0;  // 512 byte units
};

// Whoever changes a file's content or owner, for the set-id bits that Linux takes then: one with
// CAP_FSETID leaves them with content as they are; one in the file's group takes setuid, and setgid
// from files that the group may execute; anybody else takes setgid from all.
enum class Writer { privileged, member, stranger };
// Which one it is for a file with these attributes. Asked only about files that have such a bit,
// since the answer may cost a look at the process; none given: privileged.
using WriterOf = std::function<Writer(const Attributes& file)>;
inline Writer ask(const WriterOf& writer_of, const Attributes& file) {
  return writer_of ? writer_of(file) : Writer::privileged;
}

struct SetAttributes {
  std::optional<uint32_t> mode;  // 07777
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<uint64_t> size_bytes;
  std::optional<Timestamp> atime;
  std::optional<Timestamp> mtime;
  std::optional<Timestamp> ctime;  // the kernel sends it with writeback caching
  WriterOf writer_of;
};

struct NewNode {
  FileType type = FileType::regular;
  uint32_t mode = 0;  // 07777, before umask / default ACL
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  std::string symlink_target;
};

struct DirectoryEntry {
  std::string_view name;
  Ino ino;
  FileType type;
  uint64_t cookie;  // pass to list() to go on after this entry; stable while others change names
};

class Overlay {
 public:
  struct Options {
    bool read_only = false;  // EROFS for every mutation; `upper` may be null
    bool kill_priv = true;   // clear suid/sgid/capability on write, truncate, chown
    // Whose filesystem statfs() describes, unless there is a size limit.
    std::string host_directory;
    std::function<Timestamp()> clock;  // default: CLOCK_REALTIME_COARSE
  };
  // Both must outlive the overlay.
  static Result<std::unique_ptr<Overlay>> create(Lower& lower, Upper* upper, Options options);
  virtual ~Overlay() = default;

  // Names. lookup and the creating calls count one kernel reference on success (see forget).
  virtual Result<Stat> lookup(Ino directory, std::string_view name) = 0;
  virtual void forget(Ino ino, uint64_t count) = 0;
  // One more reference to an inode that the kernel has, other than by a name.
  virtual void refer(Ino ino) = 0;
  // Removed inodes whose forget() has not come hold space.
  virtual bool awaits_forgets() const = 0;
  // Gives back, now, what removed inodes hold whose forget() has come.
  virtual void free_removed() = 0;
  virtual Result<Stat> make(Ino directory, std::string_view name, const NewNode& node,
                            const Caller& caller) = 0;
  // O_TMPFILE; `linkable` unless O_EXCL.
  virtual Result<Stat> make_unnamed(Ino directory, uint32_t mode, bool linkable,
                                    const Caller& caller) = 0;
  virtual Result<Stat> link(Ino ino, Ino directory, std::string_view name) = 0;
  virtual Status unlink(Ino directory, std::string_view name) = 0;
  virtual Status rmdir(Ino directory, std::string_view name) = 0;
  // flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT of renameat2(2).
  virtual Status rename(Ino from_directory, std::string_view from_name, Ino to_directory,
                        std::string_view to_name, uint32_t flags) = 0;
  virtual Result<Ino> parent(Ino directory) = 0;  // "..": for exporting

  // Attributes.
  virtual Result<Stat> stat(Ino ino) = 0;
  virtual Result<Stat> set_attributes(Ino ino, const SetAttributes& changes,
                                      const Caller& caller) = 0;
  virtual Result<std::string> readlink(Ino ino) = 0;
  virtual Result<std::string> get_xattr(Ino ino, const std::string& name) = 0;  // ENODATA
  virtual Result<std::vector<std::string>> list_xattrs(Ino ino) = 0;
  // `clear_sgid`: a new access ACL also clears the setgid bit (the caller may not give that group).
  virtual Status set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                           bool clear_sgid = false) = 0;
  virtual Status remove_xattr(Ino ino, const std::string& name) = 0;

  // Content.
  virtual Result<size_t> read(Ino ino, uint64_t offset, std::span<char> out) = 0;
  // `times`: whose the file's times are. The kernel's, when its page cache writes back: it took
  // them when the program wrote, and sends them with SETATTR when they changed.
  enum class Times { now, keep };
  virtual Result<size_t> write(Ino ino, uint64_t offset, std::string_view bytes,
                               const WriterOf& writer_of = {}, Times times = Times::now) = 0;
  // fallocate(2).
  virtual Status allocate(Ino ino, int mode, uint64_t offset, uint64_t length,
                          const WriterOf& writer_of = {}) = 0;
  virtual Result<uint64_t> seek(Ino ino, uint64_t offset, int whence) = 0;  // SEEK_DATA, SEEK_HOLE
  virtual Result<size_t> copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                    uint64_t length, const WriterOf& writer_of = {}) = 0;
  virtual Status sync(Ino ino, Sync what = Sync::all) = 0;  // 0: everything

  // Directories: entries in a fixed order, without "." and ".."; start with cookie 0. An entry that
  // exists all the while is seen exactly once, whatever others create, delete or rename. `visit`
  // must not call back; false means the entry was not taken and ends the listing.
  using DirectoryVisitor = std::function<bool(const DirectoryEntry&)>;
  virtual Status list(Ino directory, uint64_t cookie, const DirectoryVisitor& visit) = 0;
  // The same with attributes, each counting one kernel reference when visit returned true.
  using DirectoryVisitorPlus = std::function<bool(const DirectoryEntry&, const Stat&)>;
  virtual Status list_plus(Ino directory, uint64_t cookie, const DirectoryVisitorPlus& visit) = 0;

  // A program reads it (read, readlink, list): by relatime's rule the access time becomes now.
  virtual void note_access(Ino ino) = 0;

  virtual Result<struct statvfs> statfs() = 0;

  // Holds back every mutation until thaw(); returns when none is running (commit).
  virtual void freeze() = 0;
  virtual void thaw() = 0;
};

}  // namespace layerfs
