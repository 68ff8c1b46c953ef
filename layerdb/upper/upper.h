// SPDX-License-Identifier: Apache-2.0
//
// The upper: one container's changes, keyed by inode number, in a small RocksDB database
// (`upper/`), plus one plain file per large body (`data/`). Every change of the filesystem is one
// Transaction, applied atomically: after kill -9 all of it is there or none.
//
// What it holds (keys: format.md):
//   inode     I/<ino>           -> InodeRecord. For a lower inode: it overrides the lower's metadata.
//   name      D/<dir>/<position><name> -> the ino it names and its type, or a whiteout: the lower's
//                                name is gone. position = name_position(name): the order of readdir.
//   xattr     X/<ino>/<name>    -> value. A lower inode whose record has own_xattrs ignores the lower's.
//   range     E/<ino>/<end>     -> start: [start, end), below lower_size_bytes, is in the body, not in
//                                the lower. Ranges are disjoint and not adjacent.
//   small     B/<ino>           -> the whole body of a small file that has no lower.
//   orphan    O/<ino>           -> open but without a name; open() reaps them: records and body.
//   stale     R/<ino>           -> data/<ino> goes at the next open, unless the record has a body.
//   meta      M/next_ino        -> numbers are handed out once, never reused.
// Directories need no opaque mark: the lower part of a directory is the lower directory with the
// same number, so a renamed lower directory keeps it and a new directory has none.
//
// Bodies. Where a regular file's bytes are: Body::lower (all from the lower inode of that number),
// Body::small (in the record B; zeros beyond its end), Body::file: below lower_size_bytes a range's
// bytes are in data/<ino> and all others come from the lower; at and above lower_size_bytes
// everything is in data/<ino>, its holes are holes and there are no ranges. A shrunk file lowers
// lower_size_bytes for good. Bytes of data/<ino> beyond size_bytes are meaningless.
//
// Durability: apply() survives kill -9 of the process as soon as it returns; power loss only once
// sync() returned. Body bytes are written before the transaction that makes them visible.
// Thread-safety: every method from any thread; callers serialise conflicting changes of one inode
// or directory (fuse/overlay.h, lock order), from begin() to the end of apply(). Visitors may call
// the upper. Errors: ENOSPC, EIO, EUCLEAN; a failed apply() changed nothing and later ones may
// succeed. open(): EPROTO for an upper of a newer version, EBUSY when another process has it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace rocksdb {
class Env;
}

namespace layerfs {

// data: as fdatasync(2). Changes of nothing but times may then still be lost.
enum class Sync { all, data };

enum class Body : uint8_t { none = 0, lower = 1, small = 2, file = 3 };

struct InodeRecord {
  Attributes attributes;             // nlink as shown to users
  Timestamp atime;
  Timestamp ctime;
  Timestamp btime;
  Ino parent = 0;                    // directories: where it is now
  std::string symlink_target;
  Body body = Body::none;
  uint8_t small_holes = 0;           // of a small body: bit i, its i-th 4 KiB take no space
  uint64_t lower_size_bytes = 0;     // how much of the lower inode's content still shows
  bool own_xattrs = false;           // X/ is the whole truth; else the lower's xattrs show
  bool operator==(const InodeRecord&) const = default;
};

struct UpperName {
  Ino ino = 0;                       // 0: whiteout
  FileType type = FileType::whiteout;
  bool over_lower = false;           // the lower directory of the same number has this name, too
                                     // (always so for a whiteout)
  bool whiteout() const { return ino == 0; }
};

// Where a name stands in its directory (62 bits, never 0): stable, whatever comes and goes around
// it. Two names of one directory share a position once in 2^62 pairs.
inline uint64_t name_position(std::string_view name) {
  uint64_t position = checksum64(name) >> 2;
  return position == 0 ? 1 : position;
}

struct Range {
  uint64_t offset = 0;
  uint64_t length = 0;
};

// Bodies of up to this size that have no lower are kept in the database.
inline constexpr uint64_t kSmallBodyBytes = 16 * 1024;

class Upper {
 public:
  struct Options {
    bool read_only = false;          // diff, commit: a second process beside a frozen daemon, too
    bool despite_damage = false;     // read_only: show what is before a damaged place of the log
    uint64_t size_limit_bytes = 0;   // 0: none. ENOSPC past it
    rocksdb::Env* env = nullptr;
  };
  // `directory` is the container's; `first_ino` (the lower's inode_limit) counts only at creation.
  static Result<std::unique_ptr<Upper>> open(const std::string& directory, Ino first_ino,
                                             Options options);
  virtual ~Upper() = default;

  class Transaction {
   public:
    virtual ~Transaction() = default;
    virtual void put_inode(Ino ino, const InodeRecord& record) = 0;
    virtual void delete_inode(Ino ino) = 0;  // with its xattrs, ranges and small body
    virtual void put_name(Ino directory, std::string_view name, UpperName target) = 0;
    virtual void delete_name(Ino directory, std::string_view name) = 0;
    virtual void delete_names(Ino directory) = 0;  // all of a removed directory's records
    virtual void put_xattr(Ino ino, std::string_view name, std::string_view value) = 0;
    virtual void delete_xattr(Ino ino, std::string_view name) = 0;
    virtual void put_small_body(Ino ino, std::string_view bytes) = 0;
    virtual void delete_small_body(Ino ino) = 0;  // a body file has its bytes, if it had any
    // Marks [offset, offset+length) as the body's own (merging neighbours), or clears the marks.
    virtual void add_range(Ino ino, Range range) = 0;
    virtual void clear_ranges(Ino ino, uint64_t from_offset) = 0;  // all at or above, clipping one
    // The record no longer says Body::file: data/<ino> goes with this transaction. Call
    // remove_body() once it is applied (delete_inode() implies drop_body()).
    virtual void drop_body(Ino ino) = 0;
    // Something shrinks: to be let past a size limit and into the reserve of a full disk.
    // Deleting implies it.
    virtual void makes_room() = 0;
    // Only replaces records that are there: to be let past a size limit, unless it marks a range.
    virtual void replaces() = 0;
    virtual void put_orphan(Ino ino) = 0;
    virtual void delete_orphan(Ino ino) = 0;
  };
  virtual std::unique_ptr<Transaction> begin() = 0;
  virtual Status apply(std::unique_ptr<Transaction> transaction) = 0;

  virtual Ino allocate_ino() = 0;

  // nullopt: the upper says nothing about it.
  virtual Result<std::optional<InodeRecord>> inode(Ino ino) = 0;
  virtual Result<std::optional<UpperName>> name(Ino directory, std::string_view name) = 0;
  // False only when the directory certainly has no records (cheap; a filter in memory).
  virtual bool may_have_names(Ino directory) = 0;
  using NameVisitor = std::function<bool(std::string_view name, const UpperName&)>;
  // Names > `after`, bytewise ascending (sorts the directory in memory: for commit and diff).
  virtual Status list_names(Ino directory, std::string_view after, const NameVisitor&) = 0;
  // Names whose position is > `after_position`, by position. Streams.
  virtual Status list_by_position(Ino directory, uint64_t after_position, const NameVisitor&) = 0;
  virtual Result<std::optional<std::string>> xattr(Ino ino, std::string_view name) = 0;
  virtual Result<Xattrs> xattrs(Ino ino) = 0;
  virtual Result<std::string> small_body(Ino ino) = 0;
  // Those that overlap [offset, offset + length), clipped to it, in order.
  virtual Result<std::vector<Range>> ranges(Ino ino, uint64_t offset, uint64_t length) = 0;
  // The sum of all its ranges' lengths, without a walk over them.
  virtual Result<uint64_t> range_bytes(Ino ino) = 0;
  // Gives the memory of records back that were read: nobody asks for a while.
  virtual void drop_caches() = 0;

  // Body files, made when first written to; a missing one is empty. read fills holes with zeros and
  // is short only at the body file's end. seek at or past the end: ENXIO. A body may be written
  // before the transaction that makes its record say Body::file: it starts empty, whatever a crash
  // left under its number.
  virtual Result<size_t> read_body(Ino ino, uint64_t offset, std::span<char> out) = 0;
  // What takes no further blocks is let past a size limit.
  virtual Status write_body(Ino ino, uint64_t offset, std::string_view bytes) = 0;
  virtual Status truncate_body(Ino ino, uint64_t size_bytes) = 0;
  virtual Status punch_body(Ino ino, uint64_t offset, uint64_t length) = 0;
  virtual Status allocate_body(Ino ino, uint64_t offset, uint64_t length) = 0;
  virtual Result<uint64_t> seek_body(Ino ino, uint64_t offset, int whence) = 0;
  virtual Status remove_body(Ino ino) = 0;  // nothing there: success
  virtual Result<uint64_t> body_blocks(Ino ino) = 0;  // allocated, in 512 byte units

  // Power-safe from here on: this inode's body (0: all bodies), then the log of transactions.
  virtual Status sync(Ino ino, Sync what = Sync::all) = 0;

  // For commit and diff: every inode record by number, every name record grouped by directory.
  virtual Status for_each_inode(const std::function<bool(Ino, const InodeRecord&)>& visit) = 0;
  virtual Status for_each_name(
      const std::function<bool(Ino directory, std::string_view name, const UpperName&)>&) = 0;
  virtual Result<std::vector<Ino>> orphans() = 0;

  // Removed bodies that are kept until the log is durable go now: it is synced for them.
  virtual Status free_removed() = 0;
  // Bytes on the host: the database and the bodies' allocated blocks.
  virtual Result<uint64_t> stored_bytes() = 0;
  // The same of an upper that is not open here (nothing there: 0).
  static Result<uint64_t> stored_bytes_in(const std::string& directory);
  virtual uint64_t size_limit_bytes() const = 0;
};

}  // namespace layerfs
