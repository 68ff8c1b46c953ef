// SPDX-License-Identifier: Apache-2.0
//
// New names: make, O_TMPFILE, link.
#include "fuse/overlay_acl.h"
#include "fuse/overlay_impl.h"

namespace layerfs {

// A name that leads where the lower's own leads needs no record.
Status OverlayImpl::set_name(Transaction& tx, Ino directory, std::string_view name, Ino ino,
                             FileType type, bool over_lower) {
  if (over_lower && in_lower(ino)) {
    LowerNode node = TRY(lower_.lookup(directory, name));
    if (node.ino == ino) {
      tx.delete_name(directory, name);
      return {};
    }
  }
  tx.put_name(directory, name, {ino, type, over_lower});
  return {};
}

Result<InodeRecord> OverlayImpl::new_record(Transaction& tx, Ino ino, Ino directory,
                                            const InodeRecord& parent, const NewNode& node,
                                            const Caller& caller) {
  bool is_directory = node.type == FileType::directory;
  InodeRecord record;
  record.own_xattrs = true;
  record.atime = record.ctime = record.btime = parent.ctime;  // the moment of the change
  Attributes& attributes = record.attributes;
  attributes.type = node.type;
  attributes.uid = caller.uid;
  attributes.gid = caller.gid;
  attributes.nlink = is_directory ? 2 : 1;
  attributes.mtime = parent.ctime;
  uint32_t mode = node.mode & 07777;
  if (parent.attributes.mode & 02000) {
    attributes.gid = parent.attributes.gid;
    if (is_directory) mode |= 02000;
  }
  switch (node.type) {
    case FileType::regular:
      record.body = Body::small;
      break;
    case FileType::directory:
      record.parent = directory;
      attributes.size_bytes = 4096;
      break;
    case FileType::symlink:
      record.symlink_target = node.symlink_target;
      attributes.size_bytes = node.symlink_target.size();
      mode = 0777;
      break;
    case FileType::char_device:
    case FileType::block_device:
      attributes.rdev_major = node.rdev_major;
      attributes.rdev_minor = node.rdev_minor;
      break;
    case FileType::fifo:
    case FileType::socket:
      break;
    default:
      return Error{EINVAL, "cannot make this type"};
  }
  std::optional<std::string> inherited;
  if (node.type != FileType::symlink && !nodes_.has(directory, kNoDefaultAcl)) {
    inherited = TRY(find_xattr(directory, parent, kAclDefault));
    if (!inherited) nodes_.set(directory, kNoDefaultAcl);
  }
  if (inherited) {
    Acl acl = TRY(parse_acl(*inherited));
    if (inherit_acl(acl, mode)) tx.put_xattr(ino, kAclAccess, encode_acl(acl));
    if (is_directory) tx.put_xattr(ino, kAclDefault, *inherited);
  } else if (node.type != FileType::symlink) {
    mode &= ~(caller.umask & 0777);
  }
  attributes.mode = static_cast<uint16_t>(mode);
  return record;
}

// So that neither the kernel's questions about a new inode nor its first write search for them.
uint8_t OverlayImpl::facts_of_new(Ino directory) const {
  bool no_acl = nodes_.has(directory, kNoDefaultAcl);  // nothing was inherited
  return static_cast<uint8_t>(kNoCapability | (no_acl ? kNoAccessAcl | kNoDefaultAcl : 0));
}

Result<Stat> OverlayImpl::make(Ino directory, std::string_view name, const NewNode& node,
                               const Caller& caller) {
  TRY(check_name(name));
  Mutation mutation = TRY(begin_mutation());
  std::unique_lock names(namespace_);
  auto lock = locks_.exclusive({directory});
  InodeRecord parent = TRY(load_directory(directory, now()));
  Found found = TRY(find(directory, name));
  if (found.ino != 0) return Error{EEXIST, "exists"};

  auto tx = upper_->begin();
  Ino ino = upper_->allocate_ino();
  InodeRecord record = TRY(new_record(*tx, ino, directory, parent, node, caller));
  if (node.type == FileType::directory) ++parent.attributes.nlink;
  tx->put_inode(ino, record);
  tx->put_inode(directory, parent);
  TRY(set_name(*tx, directory, name, ino, node.type, found.over_lower));
  TRY(apply(std::move(tx)));
  nodes_.remember(ino, 1, facts_of_new(directory));
  return stat_record(ino, record);
}

Result<Stat> OverlayImpl::make_unnamed(Ino directory, uint32_t mode, bool linkable,
                                       const Caller& caller) {
  Mutation mutation = TRY(begin_mutation());
  std::shared_lock names(namespace_);
  auto lock = locks_.exclusive({directory});
  InodeRecord parent = TRY(load_directory(directory, now()));
  auto tx = upper_->begin();
  Ino ino = upper_->allocate_ino();
  NewNode node;
  node.mode = mode;
  InodeRecord record = TRY(new_record(*tx, ino, directory, parent, node, caller));
  record.attributes.nlink = 0;
  tx->put_inode(ino, record);
  tx->put_orphan(ino);
  TRY(apply(std::move(tx)));
  nodes_.remember(ino, 1, facts_of_new(directory));
  nodes_.mark_orphan(ino, linkable);
  return stat_record(ino, record);
}

Result<Stat> OverlayImpl::link(Ino ino, Ino directory, std::string_view name) {
  TRY(check_name(name));
  Mutation mutation = TRY(begin_mutation());
  std::unique_lock names(namespace_);
  auto lock = locks_.exclusive({ino, directory});
  Timestamp when = now();
  InodeRecord parent = TRY(load_directory(directory, when));
  Found found = TRY(find(directory, name));
  if (found.ino != 0) return Error{EEXIST, "exists"};
  InodeRecord record = TRY(load(ino));
  if (record.attributes.type == FileType::directory) return Error{EPERM, "a directory"};
  bool unnamed = record.attributes.nlink == 0;
  if (unnamed && !nodes_.linkable(ino)) return Error{ENOENT, "deleted file"};
  if (record.attributes.nlink == UINT32_MAX) return Error{EMLINK, "too many links"};

  auto tx = upper_->begin();
  ++record.attributes.nlink;
  record.ctime = when;
  tx->put_inode(ino, record);
  tx->put_inode(directory, parent);
  TRY(set_name(*tx, directory, name, ino, record.attributes.type, found.over_lower));
  if (unnamed) tx->delete_orphan(ino);
  TRY(apply(std::move(tx)));
  if (unnamed) nodes_.clear_orphan(ino);
  nodes_.remember(ino);
  return stat_record(ino, record);
}

}  // namespace layerfs
