// SPDX-License-Identifier: Apache-2.0
//
// rename: always one transaction, whatever is moved. A directory of the lower moves by its name and
// its parent number alone, for its contents are keyed by its own number.
#include <linux/fs.h>

#include "fuse/overlay_impl.h"

namespace layerfs {

Status OverlayImpl::check_replace(const Found& from, const Found& to) {
  bool from_directory = from.type == FileType::directory;
  bool to_directory = to.type == FileType::directory;
  if (from_directory && !to_directory) return Error{ENOTDIR, "not a directory"};
  if (!from_directory && to_directory) return Error{EISDIR, "a directory"};
  if (to_directory && !TRY(is_empty(to.ino))) return Error{ENOTEMPTY, "not empty"};
  return {};
}

// `error` when `to_directory` is `moved` or below it.
Status OverlayImpl::check_no_loop(Ino moved, Ino to_directory, int error) {
  for (Ino at = to_directory;; at = TRY(parent_locked(at))) {
    if (at == moved) return Error{error, "into itself"};
    if (at == kRootIno) return {};
  }
}

namespace {

// `.` and `..` cannot be renamed or replaced.
Status check_rename_name(std::string_view name) {
  if (is_dot(name)) return Error{EBUSY, "the directory itself"};
  return check_name(name);
}

Status check_flags(uint32_t flags) {
  constexpr uint32_t kKnown = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
  bool exchange = flags & RENAME_EXCHANGE;
  if ((flags & ~kKnown) || (exchange && flags != RENAME_EXCHANGE)) {
    return Error{EINVAL, "rename flags"};
  }
  return {};
}

}  // namespace

Status OverlayImpl::rename(Ino from_directory, std::string_view from_name, Ino to_directory,
                           std::string_view to_name, uint32_t flags) {
  TRY(check_flags(flags));
  TRY(check_rename_name(from_name));
  TRY(check_rename_name(to_name));
  Mutation mutation = TRY(begin_mutation());
  std::unique_lock names(namespace_);
  Found from = TRY(find(from_directory, from_name));
  if (from.ino == 0) return Error{ENOENT, "no such name"};
  Found to = TRY(find(to_directory, to_name));
  bool exchange = flags & RENAME_EXCHANGE;
  if (exchange && to.ino == 0) return Error{ENOENT, "no such name"};
  if ((flags & RENAME_NOREPLACE) && to.ino != 0) return Error{EEXIST, "exists"};
  if (from.type == FileType::directory) {
    TRY(check_no_loop(from.ino, to_directory, EINVAL));
  }
  if (to.type == FileType::directory) {
    TRY(check_no_loop(to.ino, from_directory, exchange ? EINVAL : ENOTEMPTY));
  }
  if (from.ino == to.ino) return {};  // two names of one inode: POSIX wants nothing to happen
  Move move{from_directory, from_name, from, to_directory, to_name, to};
  if (exchange) return swap_names(move);
  if (to.ino != 0) TRY(check_replace(from, to));
  return move_name(move, flags & RENAME_WHITEOUT);
}

Status OverlayImpl::move_name(const Move& move, bool leave_whiteout) {
  auto lock =
      locks_.exclusive({move.from_directory, move.to_directory, move.from.ino, move.to.ino});
  Timestamp when = now();
  bool across = move.from_directory != move.to_directory;
  InodeRecord from_parent = TRY(load_directory(move.from_directory, when));
  InodeRecord other_parent = TRY(load_directory(move.to_directory, when));
  InodeRecord& to_parent = across ? other_parent : from_parent;
  InodeRecord record = TRY(load(move.from.ino));
  record.ctime = when;
  auto tx = upper_->begin();
  bool last = false;
  if (move.from.type == FileType::directory) {
    record.parent = move.to_directory;
    --from_parent.attributes.nlink;
    ++to_parent.attributes.nlink;
  }
  if (move.to.ino != 0) {
    InodeRecord replaced = TRY(load(move.to.ino));
    if (move.to.type == FileType::directory) --to_parent.attributes.nlink;
    last = drop_name(*tx, move.to.ino, replaced, when);
  }
  if (leave_whiteout) {
    Ino ino = upper_->allocate_ino();
    NewNode device;
    device.type = FileType::char_device;
    InodeRecord whiteout = TRY(new_record(*tx, ino, move.from_directory, from_parent, device, {}));
    tx->put_inode(ino, whiteout);
    tx->put_name(move.from_directory, move.from_name,
                 {ino, FileType::char_device, move.from.over_lower});
  } else {
    clear_name(*tx, move.from_directory, move.from_name, move.from.over_lower);
  }
  TRY(set_name(*tx, move.to_directory, move.to_name, move.from.ino, move.from.type,
               move.to.over_lower));
  tx->put_inode(move.from.ino, record);
  tx->put_inode(move.from_directory, from_parent);
  if (across) tx->put_inode(move.to_directory, to_parent);
  TRY(apply(std::move(tx)));
  if (last) orphaned(move.to.ino);
  return {};
}

Status OverlayImpl::swap_names(const Move& move) {
  auto lock =
      locks_.exclusive({move.from_directory, move.to_directory, move.from.ino, move.to.ino});
  Timestamp when = now();
  bool across = move.from_directory != move.to_directory;
  InodeRecord from_parent = TRY(load_directory(move.from_directory, when));
  InodeRecord other_parent = TRY(load_directory(move.to_directory, when));
  InodeRecord& to_parent = across ? other_parent : from_parent;
  InodeRecord from = TRY(load(move.from.ino));
  InodeRecord to = TRY(load(move.to.ino));
  from.ctime = to.ctime = when;
  if (move.from.type == FileType::directory) {
    from.parent = move.to_directory;
    --from_parent.attributes.nlink;
    ++to_parent.attributes.nlink;
  }
  if (move.to.type == FileType::directory) {
    to.parent = move.from_directory;
    --to_parent.attributes.nlink;
    ++from_parent.attributes.nlink;
  }
  auto tx = upper_->begin();
  TRY(set_name(*tx, move.to_directory, move.to_name, move.from.ino, move.from.type,
               move.to.over_lower));
  TRY(set_name(*tx, move.from_directory, move.from_name, move.to.ino, move.to.type,
               move.from.over_lower));
  tx->put_inode(move.from.ino, from);
  tx->put_inode(move.to.ino, to);
  tx->put_inode(move.from_directory, from_parent);
  if (across) tx->put_inode(move.to_directory, to_parent);
  return apply(std::move(tx));
}

}  // namespace layerfs
