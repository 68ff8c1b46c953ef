// SPDX-License-Identifier: Apache-2.0
//
// Metadata: stat, chmod, chown, utimes, truncate, readlink.
#include <algorithm>

#include "fuse/overlay_acl.h"
#include "fuse/overlay_impl.h"

namespace layerfs {

Result<Stat> OverlayImpl::stat(Ino ino) { return stat_found(ino, nullptr); }

Result<std::string> OverlayImpl::readlink(Ino ino) {
  auto record = TRY(find_record(ino));
  if (!record) {
    if (!in_lower(ino)) return Error{ENOENT, "no such inode"};
    return lower_.readlink(ino);
  }
  if (record->attributes.type != FileType::symlink) return Error{EINVAL, "not a symlink"};
  return std::move(record->symlink_target);
}

Status OverlayImpl::change_mode(Transaction& tx, Ino ino, InodeRecord& record, uint32_t mode) {
  record.attributes.mode = static_cast<uint16_t>(mode & 07777);
  if (nodes_.has(ino, kNoAccessAcl)) return {};
  auto value = TRY(find_xattr(ino, record, kAclAccess));
  if (!value) {
    nodes_.set(ino, kNoAccessAcl);
    return {};
  }
  Acl acl = TRY(parse_acl(*value));
  apply_mode(acl, mode);
  return put_xattr(tx, ino, record, kAclAccess, encode_acl(acl));
}

Result<Stat> OverlayImpl::set_attributes(Ino ino, const SetAttributes& changes,
                                         const Caller& /*caller*/) {
  Mutation mutation = TRY(begin_mutation());
  auto lock = locks_.exclusive({ino});
  InodeRecord record = TRY(load(ino));
  Attributes& attributes = record.attributes;
  Timestamp when = now();
  auto tx = upper_->begin();
  After after = After::nothing;
  if (changes.size_bytes) {
    TRY(check_file(attributes.type));
    after = TRY(resize(*tx, ino, record, *changes.size_bytes));
    TRY(kill_privileges(*tx, ino, record, changes.writer_of));
    attributes.mtime = when;
  }
  if (changes.uid || changes.gid) {
    WriterOf at_least_member = [&](const Attributes& file) {
      // Root's chown takes them, too, but not as a stranger's.
      return std::max(ask(changes.writer_of, file), Writer::member);
    };
    TRY(kill_privileges(*tx, ino, record, at_least_member));
    attributes.uid = changes.uid.value_or(attributes.uid);
    attributes.gid = changes.gid.value_or(attributes.gid);
  }
  if (changes.mode) TRY(change_mode(*tx, ino, record, *changes.mode));
  if (!changes.size_bytes && (!in_lower(ino) || TRY(find_record(ino)))) tx->replaces();
  if (changes.atime) record.atime = *changes.atime;
  if (changes.mtime) attributes.mtime = *changes.mtime;
  record.ctime = changes.ctime.value_or(when);
  tx->put_inode(ino, record);
  TRY(apply_content(std::move(tx), ino, record, after));
  if (changes.atime) access_times_.erase(ino);
  return stat_record(ino, record);
}

}  // namespace layerfs
