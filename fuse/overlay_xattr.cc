// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes and what depends on them: ACLs and file capabilities. The first change of a
// lower inode's attributes copies them all to the upper.
#include <sys/xattr.h>

#include <algorithm>

#include "fuse/overlay_acl.h"
#include "fuse/overlay_impl.h"

namespace layerfs {
namespace {

constexpr const char* kCapability = "security.capability";
constexpr size_t kMaxXattrNameBytes = 255;
constexpr size_t kMaxXattrValueBytes = 65536;

std::optional<NodeFact> fact_of(const std::string& name) {
  if (name == kCapability) return kNoCapability;
  if (name == kAclAccess) return kNoAccessAcl;
  if (name == kAclDefault) return kNoDefaultAcl;
  return std::nullopt;
}

void take_set_ids(Attributes& file, Writer writer) {
  if (writer == Writer::privileged) return;
  uint32_t mode = file.mode & ~04000u;
  // Without group execute it once was a locking mark, which the group may keep.
  if ((mode & 010) != 0 || writer == Writer::stranger) mode &= ~02000u;
  file.mode = static_cast<uint16_t>(mode);
}

}  // namespace

Result<Xattrs> OverlayImpl::all_xattrs(Ino ino, const std::optional<InodeRecord>& record) {
  if (record && record->own_xattrs) return upper_->xattrs(ino);
  if (!in_lower(ino)) return Error{ENOENT, "no such inode"};
  return lower_.xattrs(ino);
}

Result<std::optional<std::string>> OverlayImpl::find_xattr(Ino ino,
                                                           const std::optional<InodeRecord>& record,
                                                           const std::string& name) {
  if (record && record->own_xattrs) return upper_->xattr(ino, name);
  auto xattrs = TRY(all_xattrs(ino, record));
  for (auto& [key, value] : xattrs) {
    if (key == name) return std::optional(std::move(value));
  }
  return std::optional<std::string>{};
}

Result<std::string> OverlayImpl::get_xattr(Ino ino, const std::string& name) {
  auto fact = fact_of(name);
  if (fact && nodes_.has(ino, *fact)) return Error{ENODATA, "no such xattr"};
  auto lock = locks_.shared(ino);
  auto value = TRY(find_xattr(ino, TRY(find_record(ino)), name));
  if (value) return std::move(*value);
  if (fact) nodes_.set(ino, *fact);
  return Error{ENODATA, "no such xattr"};
}

Result<std::vector<std::string>> OverlayImpl::list_xattrs(Ino ino) {
  auto lock = locks_.shared(ino);
  std::vector<std::string> names;
  auto xattrs = TRY(all_xattrs(ino, TRY(find_record(ino))));
  for (auto& [name, value] : xattrs) {
    names.push_back(std::move(name));
  }
  return names;
}

Status OverlayImpl::own_xattrs(Transaction& tx, Ino ino, InodeRecord& record) {
  if (record.own_xattrs) return {};
  auto xattrs = TRY(all_xattrs(ino, record));
  for (const auto& [name, value] : xattrs) tx.put_xattr(ino, name, value);
  record.own_xattrs = true;
  return {};
}

// nullopt removes. The fact is forgotten before anyone can see the change, and a failed change
// forgets it needlessly, which only costs.
Status OverlayImpl::put_xattr(Transaction& tx, Ino ino, InodeRecord& record,
                              const std::string& name, std::optional<std::string_view> value) {
  TRY(own_xattrs(tx, ino, record));
  if (auto fact = fact_of(name)) nodes_.clear(ino, *fact);
  if (value) {
    tx.put_xattr(ino, name, *value);
  } else {
    tx.delete_xattr(ino, name);
  }
  return {};
}

Status OverlayImpl::put_access_acl(Transaction& tx, Ino ino, InodeRecord& record,
                                   std::string_view value) {
  Acl acl = TRY(parse_acl(value));
  bool says_more = false;
  uint32_t mode = acl_mode(acl, says_more);
  record.attributes.mode = static_cast<uint16_t>((record.attributes.mode & ~0777u) | mode);
  std::string bytes = encode_acl(acl);
  return put_xattr(tx, ino, record, kAclAccess,
                   says_more ? std::optional<std::string_view>(bytes) : std::nullopt);
}

Status OverlayImpl::set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                              bool clear_sgid) {
  if (name.empty() || name.size() > kMaxXattrNameBytes) return Error{ERANGE, "xattr name"};
  if (value.size() > kMaxXattrValueBytes) return Error{E2BIG, "xattr too large"};
  Mutation mutation = TRY(begin_mutation());
  auto lock = locks_.exclusive({ino});
  InodeRecord record = TRY(load(ino));
  if (flags & (XATTR_CREATE | XATTR_REPLACE)) {
    bool exists = TRY(find_xattr(ino, record, name)).has_value();
    if ((flags & XATTR_CREATE) && exists) return Error{EEXIST, "xattr exists"};
    if ((flags & XATTR_REPLACE) && !exists) return Error{ENODATA, "no such xattr"};
  }
  auto tx = upper_->begin();
  if (name == kAclAccess || name == kAclDefault) {
    FileType type = record.attributes.type;
    if (type == FileType::symlink) return Error{EOPNOTSUPP, "a symlink"};
    if (name == kAclDefault && type != FileType::directory) return Error{EACCES, "no directory"};
    TRY(parse_acl(value));
  }
  if (name == kAclAccess) {
    TRY(put_access_acl(*tx, ino, record, value));
    if (clear_sgid) record.attributes.mode &= static_cast<uint16_t>(~02000u);
  } else {
    TRY(put_xattr(*tx, ino, record, name, value));
  }
  record.ctime = now();
  tx->put_inode(ino, record);
  return apply(std::move(tx));
}

Status OverlayImpl::remove_xattr(Ino ino, const std::string& name) {
  Mutation mutation = TRY(begin_mutation());
  auto lock = locks_.exclusive({ino});
  InodeRecord record = TRY(load(ino));
  if (!TRY(find_xattr(ino, record, name))) {
    if (name == kAclAccess || name == kAclDefault) return {};  // as other filesystems have it
    return Error{ENODATA, "no such xattr"};
  }
  auto tx = upper_->begin();
  TRY(put_xattr(*tx, ino, record, name, std::nullopt));
  record.ctime = now();
  tx->put_inode(ino, record);
  return apply(std::move(tx));
}

Status OverlayImpl::kill_privileges(Transaction& tx, Ino ino, InodeRecord& record,
                                    const WriterOf& writer_of) {
  if (!options_.kill_priv || record.attributes.type == FileType::directory) return {};
  if ((record.attributes.mode & 06000) != 0) {
    take_set_ids(record.attributes, ask(writer_of, record.attributes));
  }
  if (nodes_.has(ino, kNoCapability)) return {};
  if (!TRY(find_xattr(ino, record, kCapability))) {
    nodes_.set(ino, kNoCapability);
    return {};
  }
  return put_xattr(tx, ino, record, kCapability, std::nullopt);
}

}  // namespace layerfs
