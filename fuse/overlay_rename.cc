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

InodeLocks::Guard OverlayImpl::lock_move(const Move& move) {
  return locks_.exclusive({move.from_directory, move.to_directory, move.from.ino, move.to.ino});
}

Result<OverlayImpl::MoveRecords> OverlayImpl::load_move(const Move& move) {
  MoveRecords out;
  out.when = now();
  out.across = move.from_directory != move.to_directory;
  out.from_parent = TRY(load_directory(move.from_directory, out.when));
  out.other_parent = TRY(load_directory(move.to_directory, out.when));
  out.moved = TRY(load(move.from.ino));
  out.moved.ctime = out.when;
  if (move.from.type == FileType::directory) {
    out.moved.parent = move.to_directory;
    --out.from_parent.attributes.nlink;
    ++out.to_parent().attributes.nlink;
  }
  return out;
}

Status OverlayImpl::put_move(Transaction& tx, const Move& move, const MoveRecords& records) {
  TRY(set_name(tx, move.to_directory, move.to_name, move.from.ino, move.from.type,
               move.to.over_lower));
  tx.put_inode(move.from.ino, records.moved);
  tx.put_inode(move.from_directory, records.from_parent);
  if (records.across) tx.put_inode(move.to_directory, records.other_parent);
  return {};
}

Status OverlayImpl::move_name(const Move& move, bool leave_whiteout) {
  auto lock = lock_move(move);
  MoveRecords records = TRY(load_move(move));
  auto tx = upper_->begin();
  bool last = false;
  if (move.to.ino != 0) {
    InodeRecord replaced = TRY(load(move.to.ino));
    if (move.to.type == FileType::directory) --records.to_parent().attributes.nlink;
    last = drop_name(*tx, move.to.ino, replaced, records.when);
  }
  if (leave_whiteout) {
    Ino ino = upper_->allocate_ino();
    NewNode device;
    device.type = FileType::char_device;
    InodeRecord whiteout =
        TRY(new_record(*tx, ino, move.from_directory, records.from_parent, device, {}));
    tx->put_inode(ino, whiteout);
    tx->put_name(move.from_directory, move.from_name,
                 {ino, FileType::char_device, move.from.over_lower});
  } else {
    clear_name(*tx, move.from_directory, move.from_name, move.from.over_lower);
  }
  TRY(put_move(*tx, move, records));
  TRY(apply(std::move(tx)));
  if (last) orphaned(move.to.ino);
  return {};
}

Status OverlayImpl::swap_names(const Move& move) {
  auto lock = lock_move(move);
  MoveRecords records = TRY(load_move(move));
  InodeRecord to = TRY(load(move.to.ino));
  to.ctime = records.when;
  if (move.to.type == FileType::directory) {
    to.parent = move.from_directory;
    --records.to_parent().attributes.nlink;
    ++records.from_parent.attributes.nlink;
  }
  auto tx = upper_->begin();
  TRY(set_name(*tx, move.from_directory, move.from_name, move.to.ino, move.to.type,
               move.from.over_lower));
  tx->put_inode(move.to.ino, to);
  TRY(put_move(*tx, move, records));
  return apply(std::move(tx));
}

}  // namespace layerfs
