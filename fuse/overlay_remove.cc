// SPDX-License-Identifier: Apache-2.0
//
// Names that go: unlink, rmdir.
#include "fuse/overlay_impl.h"

namespace layerfs {

void OverlayImpl::clear_name(Transaction& tx, Ino directory, std::string_view name,
                             bool over_lower) {
  if (over_lower) {
    tx.put_name(directory, name, {0, FileType::whiteout, true});
  } else {
    tx.delete_name(directory, name);
  }
}

bool OverlayImpl::drop_name(Transaction& tx, Ino ino, InodeRecord& record, Timestamp when) {
  Attributes& attributes = record.attributes;
  bool is_directory = attributes.type == FileType::directory;
  attributes.nlink = is_directory || attributes.nlink == 0 ? 0 : attributes.nlink - 1;
  record.ctime = when;
  tx.put_inode(ino, record);
  if (attributes.nlink != 0) return false;
  if (is_directory) tx.delete_names(ino);  // whiteouts
  tx.put_orphan(ino);
  return true;
}

void OverlayImpl::orphaned(Ino ino) {
  if (!nodes_.mark_orphan(ino, false)) queue_reap(ino);
}

Status OverlayImpl::remove(Ino directory, std::string_view name, bool directory_wanted) {
  Mutation mutation = TRY(begin_mutation());
  std::unique_lock names(namespace_);
  Found found = TRY(find(directory, name));
  if (found.ino == 0) return Error{ENOENT, "no such name"};
  bool is_directory = found.type == FileType::directory;
  if (is_directory && !directory_wanted) return Error{EISDIR, "a directory"};
  if (!is_directory && directory_wanted) return Error{ENOTDIR, "not a directory"};
  if (is_directory && !TRY(is_empty(found.ino))) return Error{ENOTEMPTY, "not empty"};

  auto lock = locks_.exclusive({directory, found.ino});
  Timestamp when = now();
  InodeRecord parent = TRY(load_directory(directory, when));
  InodeRecord record = TRY(load(found.ino));
  auto tx = upper_->begin();
  if (is_directory) --parent.attributes.nlink;
  bool last = drop_name(*tx, found.ino, record, when);
  clear_name(*tx, directory, name, found.over_lower);
  tx->put_inode(directory, parent);
  TRY(apply(std::move(tx)));
  if (last) orphaned(found.ino);
  return {};
}

Status OverlayImpl::unlink(Ino directory, std::string_view name) {
  if (auto status = check_name(name); !status.ok()) {
    if (status.error().code == EEXIST) return Error{EISDIR, "a directory"};
    return status;
  }
  return remove(directory, name, false);
}

Status OverlayImpl::rmdir(Ino directory, std::string_view name) {
  if (name == ".") return Error{EINVAL, "the directory itself"};
  if (name == "..") return Error{ENOTEMPTY, "not empty"};
  TRY(check_name(name));
  return remove(directory, name, true);
}

}  // namespace layerfs
