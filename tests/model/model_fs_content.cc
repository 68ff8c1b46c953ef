// SPDX-License-Identifier: Apache-2.0
//
// ModelFs: attributes, xattrs, ACLs, content.
#include <linux/falloc.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "tests/model/acl_text.h"
#include "tests/model/model_fs.h"

namespace layerfs {

Result<std::string> ModelFs::readlink(Ino ino) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type != FileType::symlink) return model_error(EINVAL);
  return found->target;
}

void ModelFs::kill_privileges(Node& node, Writer writer) {
  if (node.stat.attributes.type == FileType::directory) return;
  uint16_t& mode = node.stat.attributes.mode;
  if (writer == Writer::stranger) mode &= ~06000;
  if (writer == Writer::member) mode &= mode & 010 ? ~06000 : ~04000;
  node.xattrs.erase("security.capability");
}

void ModelFs::resized(Node& node) {
  node.stat.attributes.size_bytes = node.content.size();
  changed(node);
}

Result<Stat> ModelFs::set_attributes(Ino ino, const SetAttributes& changes, const Caller&) {
  Node* found = TRY(node(ino));
  Attributes& attributes = found->stat.attributes;
  if (changes.size_bytes) {
    if (attributes.type == FileType::directory) return model_error(EISDIR);
    if (attributes.type != FileType::regular) return model_error(EINVAL);
    found->content.resize(*changes.size_bytes);
    resized(*found);
    kill_privileges(*found, ask(changes.writer_of, attributes));
  }
  if (changes.uid) attributes.uid = *changes.uid;
  if (changes.gid) attributes.gid = *changes.gid;
  if (changes.uid || changes.gid) {
    kill_privileges(*found, std::max(ask(changes.writer_of, attributes), Writer::member));
  }
  if (changes.mode) {
    if (rules_ == Rules::kernel && attributes.type == FileType::symlink) {
      return model_error(EOPNOTSUPP);
    }
    attributes.mode = *changes.mode;
    if (auto it = found->xattrs.find(kAccessAclName); it != found->xattrs.end()) {
      ModelAcl acl = *acl_from_bytes(it->second);
      acl.set_mode(attributes.mode);
      it->second = acl_bytes(acl);
    }
  }
  if (changes.atime) found->stat.atime = *changes.atime;
  if (changes.mtime) attributes.mtime = *changes.mtime;
  found->stat.ctime = clock_();
  return found->stat;
}

// What a new inode has from its directory's default ACL; without one, the umask counts.
void ModelFs::inherit(const Node& directory, Node& made, uint32_t umask) {
  Attributes& attributes = made.stat.attributes;
  auto inherited = directory.xattrs.find(kDefaultAclName);
  if (inherited == directory.xattrs.end() || attributes.type == FileType::symlink) {
    attributes.mode &= ~umask;
    return;
  }
  ModelAcl acl = *acl_from_bytes(inherited->second);
  attributes.mode &= ~0777 | acl.mode();
  acl.set_mode(attributes.mode);
  if (!acl.minimal()) made.xattrs[kAccessAclName] = acl_bytes(acl);
  if (attributes.type == FileType::directory) made.xattrs[kDefaultAclName] = inherited->second;
}

// The kernel keeps user.* to files and directories, and ACLs off symlinks.
Status ModelFs::check_xattr(const Node& node, const std::string& name, int missing) const {
  if (rules_ != Rules::kernel) return {};
  FileType type = node.stat.attributes.type;
  bool plain = type == FileType::regular || type == FileType::directory;
  if (name.starts_with("user.") && !plain) return model_error(missing);
  if (name.starts_with("system.posix_acl") && type == FileType::symlink) {
    return model_error(EOPNOTSUPP);
  }
  return {};
}

Result<std::string> ModelFs::get_xattr(Ino ino, const std::string& name) {
  Node* found = TRY(node(ino));
  TRY(check_xattr(*found, name, ENODATA));
  auto it = found->xattrs.find(name);
  if (it == found->xattrs.end()) return model_error(ENODATA);
  return it->second;
}

Result<std::vector<std::string>> ModelFs::list_xattrs(Ino ino) {
  std::vector<std::string> names;
  for (auto& [name, value] : TRY(node(ino))->xattrs) names.push_back(name);
  return names;
}

Status ModelFs::set_acl(Node& node, const std::string& name, std::string_view value) {
  if (node.stat.attributes.type == FileType::symlink) return model_error(EOPNOTSUPP);
  bool is_directory = node.stat.attributes.type == FileType::directory;
  if (name == kDefaultAclName && !is_directory) return model_error(EACCES);
  auto acl = acl_from_bytes(std::string(value));
  if (!acl) return model_error(EINVAL);
  if (name == kDefaultAclName) {
    node.xattrs[name] = acl_bytes(*acl);
    return {};
  }
  uint16_t& mode = node.stat.attributes.mode;
  mode = (mode & ~0777) | acl->mode();
  if (acl->minimal()) {
    node.xattrs.erase(name);
  } else {
    node.xattrs[name] = acl_bytes(*acl);
  }
  return {};
}

Status ModelFs::set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                          bool) {
  Node* found = TRY(node(ino));
  TRY(check_xattr(*found, name, EPERM));
  bool exists = found->xattrs.count(name) != 0;
  if ((flags & XATTR_CREATE) && exists) return model_error(EEXIST);
  if ((flags & XATTR_REPLACE) && !exists) return model_error(ENODATA);
  if (name == kAccessAclName || name == kDefaultAclName) {
    TRY(set_acl(*found, name, value));
  } else {
    found->xattrs[name] = value;
  }
  found->stat.ctime = clock_();
  return {};
}

Status ModelFs::remove_xattr(Ino ino, const std::string& name) {
  Node* found = TRY(node(ino));
  TRY(check_xattr(*found, name, EPERM));
  if (found->xattrs.erase(name) == 0) {
    if (name.starts_with("system.posix_acl")) return {};
    return model_error(ENODATA);
  }
  found->stat.ctime = clock_();
  return {};
}

Result<size_t> ModelFs::read(Ino ino, uint64_t offset, std::span<char> out) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type == FileType::directory) return model_error(EISDIR);
  if (found->stat.attributes.type != FileType::regular) return model_error(EINVAL);
  if (offset >= found->content.size()) return size_t{0};
  return found->content.copy(out.data(), out.size(), offset);
}

Result<size_t> ModelFs::write(Ino ino, uint64_t offset, std::string_view bytes,
                              const WriterOf& writer_of, Times times) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type == FileType::directory) return model_error(EISDIR);
  if (found->stat.attributes.type != FileType::regular) return model_error(EINVAL);
  if (bytes.empty()) return size_t{0};
  size_t end = offset + bytes.size();
  if (end > found->content.size()) found->content.resize(end);
  found->content.replace(offset, bytes.size(), bytes);
  found->stat.attributes.size_bytes = found->content.size();
  if (times == Times::now) changed(*found);
  kill_privileges(*found, ask(writer_of, found->stat.attributes));
  return bytes.size();
}

Status ModelFs::allocate(Ino ino, int mode, uint64_t offset, uint64_t length,
                         const WriterOf& writer_of) {
  bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
  int what = mode & ~FALLOC_FL_KEEP_SIZE;
  if (length == 0) return model_error(EINVAL);
  bool known = what == 0 || what == FALLOC_FL_ZERO_RANGE;
  if (!known && !(what == FALLOC_FL_PUNCH_HOLE && keep_size)) return model_error(EOPNOTSUPP);
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type != FileType::regular) return model_error(ENODEV);
  std::string& content = found->content;
  if (what != 0 && offset < content.size()) {
    size_t inside = std::min<size_t>(length, content.size() - offset);
    content.replace(offset, inside, inside, '\0');
  }
  if (!keep_size && offset + length > content.size()) content.resize(offset + length);
  resized(*found);
  kill_privileges(*found, ask(writer_of, found->stat.attributes));
  return {};
}

Result<uint64_t> ModelFs::seek(Ino ino, uint64_t offset, int whence) {
  Node* found = TRY(node(ino));
  if (offset >= found->content.size()) return model_error(ENXIO);
  return whence == SEEK_DATA ? offset : found->content.size();
}

Result<size_t> ModelFs::copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                   uint64_t length, const WriterOf& writer_of) {
  if (rules_ == Rules::kernel) {  // it looks at both files first
    TRY(read(from, 0, {}));
    TRY(read(to, 0, {}));
  }
  std::string bytes(length, '\0');
  bytes.resize(TRY(read(from, from_offset, bytes)));
  if (bytes.empty()) return size_t{0};
  return write(to, to_offset, bytes, writer_of, Times::now);
}

}  // namespace layerfs
