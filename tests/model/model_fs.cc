// SPDX-License-Identifier: Apache-2.0
#include "tests/model/model_fs.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace layerfs {
namespace {

Error error(int code) { return {code, "model"}; }

Status new_name(std::string_view name) {
  if (name.size() > 255) return error(ENAMETOOLONG);
  if (name.empty()) return error(ENOENT);
  if (name == "." || name == "..") return error(EEXIST);
  return {};
}

}  // namespace

ModelFs::ModelFs(Lower& lower, std::function<Timestamp()> clock) : clock_(std::move(clock)) {
  std::map<Ino, Ino> copied{{kRootIno, next_ino_}};
  Node& root = nodes_[next_ino_++];
  root.parent = kRootIno;
  root.stat.ino = kRootIno;
  copy(lower, kRootIno, root, copied);
}

void ModelFs::copy(Lower& lower, Ino from, Node& to, std::map<Ino, Ino>& copied) {
  Attributes& attributes = to.stat.attributes;
  attributes = lower.get(from).value().attributes;
  to.stat.atime = to.stat.ctime = to.stat.btime = attributes.mtime;
  Xattrs xattrs = lower.xattrs(from).value();
  for (auto& [name, value] : xattrs) to.xattrs[name] = value;
  if (attributes.type == FileType::symlink) to.target = lower.readlink(from).value();
  if (attributes.type == FileType::regular) {
    to.content.resize(attributes.size_bytes);
    (void)lower.open(from).value()->read(0, to.content).value();
  }
  if (attributes.type != FileType::directory) return;
  (void)lower.list(from, "", [&](std::string_view name, const LowerNode& node) {
    auto [known, fresh] = copied.try_emplace(node.ino, next_ino_);
    to.children[std::string(name)] = known->second;
    if (fresh) {
      Node& added = nodes_[next_ino_];
      added.stat.ino = next_ino_++;
      added.parent = to.stat.ino;
      copy(lower, node.ino, added, copied);
    }
    return true;
  });
}

void ModelFs::forget_all() {
  std::vector<Ino> inos;
  for (auto& [ino, node] : nodes_) {
    node.references = 0;
    inos.push_back(ino);
  }
  for (Ino ino : inos) drop_if_unused(ino);
}

Result<ModelFs::Node*> ModelFs::node(Ino ino) {
  auto it = nodes_.find(ino);
  if (it == nodes_.end()) return error(ENOENT);
  return &it->second;
}

Result<ModelFs::Node*> ModelFs::directory(Ino ino) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.nlink == 0) return error(ENOENT);
  if (found->stat.attributes.type != FileType::directory) return error(ENOTDIR);
  return found;
}

ModelFs::Node* ModelFs::child(Node& directory, std::string_view name) {
  auto it = directory.children.find(name);
  return it == directory.children.end() ? nullptr : &nodes_.at(it->second);
}

void ModelFs::changed(Node& node) { node.stat.attributes.mtime = node.stat.ctime = clock_(); }

Result<Stat> ModelFs::lookup(Ino ino, std::string_view name) {
  if (name.size() > 255) return error(ENAMETOOLONG);
  Node* found = child(*TRY(node(ino)), name);
  if (found == nullptr) return error(ENOENT);
  ++found->references;
  return found->stat;
}

void ModelFs::forget(Ino ino, uint64_t count) {
  auto it = nodes_.find(ino);
  if (it == nodes_.end()) return;
  it->second.references -= std::min(count, it->second.references);
  drop_if_unused(ino);
}

void ModelFs::drop_if_unused(Ino ino) {
  auto it = nodes_.find(ino);
  if (it->second.references == 0 && it->second.stat.attributes.nlink == 0) nodes_.erase(it);
}

void ModelFs::drop(Node& node) {
  Attributes& attributes = node.stat.attributes;
  attributes.nlink = attributes.type == FileType::directory ? 0 : attributes.nlink - 1;
  node.stat.ctime = clock_();
  drop_if_unused(node.stat.ino);
}

Result<Stat> ModelFs::add(Node& directory, const NewNode& wanted, const Caller& caller, Ino& ino) {
  ino = next_ino_++;
  Node& made = nodes_[ino];
  Attributes& attributes = made.stat.attributes;
  made.stat.ino = ino;
  made.references = 1;
  made.parent = directory.stat.ino;
  made.target = wanted.symlink_target;
  attributes.type = wanted.type;
  attributes.uid = caller.uid;
  attributes.gid = caller.gid;
  attributes.mode = wanted.mode & 07777 & ~caller.umask;
  if (wanted.type == FileType::directory) {
    attributes.nlink = 2;
    attributes.size_bytes = 4096;
  } else if (wanted.type == FileType::symlink) {
    attributes.mode = 0777;
    attributes.size_bytes = wanted.symlink_target.size();
  } else if (wanted.type == FileType::char_device || wanted.type == FileType::block_device) {
    attributes.rdev_major = wanted.rdev_major;
    attributes.rdev_minor = wanted.rdev_minor;
  }
  if (directory.stat.attributes.mode & 02000) {
    attributes.gid = directory.stat.attributes.gid;
    if (wanted.type == FileType::directory) attributes.mode |= 02000;
  }
  changed(made);
  made.stat.atime = made.stat.btime = made.stat.ctime;
  return made.stat;
}

Result<Stat> ModelFs::make(Ino ino, std::string_view name, const NewNode& wanted,
                           const Caller& caller) {
  TRY(new_name(name));
  Node* parent = TRY(directory(ino));
  if (child(*parent, name) != nullptr) return error(EEXIST);
  Ino made = 0;
  Stat out = TRY(add(*parent, wanted, caller, made));
  parent->children[std::string(name)] = made;
  if (wanted.type == FileType::directory) ++parent->stat.attributes.nlink;
  changed(*parent);
  return out;
}

Result<Stat> ModelFs::make_unnamed(Ino ino, uint32_t mode, bool linkable, const Caller& caller) {
  NewNode wanted;
  wanted.mode = mode;
  Ino made = 0;
  TRY(add(*TRY(directory(ino)), wanted, caller, made));
  Node& file = nodes_.at(made);
  file.stat.attributes.nlink = 0;
  file.linkable = linkable;
  return file.stat;
}

Result<Stat> ModelFs::link(Ino ino, Ino to, std::string_view name) {
  TRY(new_name(name));
  Node* parent = TRY(directory(to));
  if (child(*parent, name) != nullptr) return error(EEXIST);
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type == FileType::directory) return error(EPERM);
  if (found->stat.attributes.nlink == 0 && !found->linkable) return error(ENOENT);
  found->linkable = false;
  ++found->stat.attributes.nlink;
  ++found->references;
  found->stat.ctime = clock_();
  parent->children[std::string(name)] = ino;
  changed(*parent);
  return found->stat;
}

Status ModelFs::remove(Ino ino, std::string_view name, bool directory_wanted) {
  TRY(new_name(name));
  Node* parent = TRY(node(ino));
  Node* found = child(*parent, name);
  if (found == nullptr) return error(ENOENT);
  bool is_directory = found->stat.attributes.type == FileType::directory;
  if (is_directory && !directory_wanted) return error(EISDIR);
  if (!is_directory && directory_wanted) return error(ENOTDIR);
  if (!found->children.empty()) return error(ENOTEMPTY);
  if (is_directory) --parent->stat.attributes.nlink;
  parent->children.erase(std::string(name));
  changed(*parent);
  drop(*found);
  return {};
}

Status ModelFs::unlink(Ino ino, std::string_view name) { return remove(ino, name, false); }
Status ModelFs::rmdir(Ino ino, std::string_view name) { return remove(ino, name, true); }

bool ModelFs::is_below(Ino ino, Ino ancestor) {
  while (ino != ancestor && nodes_.count(ino) != 0 && ino != kRootIno) ino = nodes_.at(ino).parent;
  return ino == ancestor;
}

Status ModelFs::rename(Ino from_directory, std::string_view from_name, Ino to_directory,
                       std::string_view to_name, uint32_t flags) {
  bool exchange = flags & RENAME_EXCHANGE;
  if (exchange && flags != RENAME_EXCHANGE) return error(EINVAL);
  TRY(new_name(from_name));
  TRY(new_name(to_name));
  Node* from_parent = TRY(node(from_directory));
  Node* to_parent = TRY(node(to_directory));
  Node* from = child(*from_parent, from_name);
  if (from == nullptr) return error(ENOENT);
  Node* to = child(*to_parent, to_name);
  if (exchange && to == nullptr) return error(ENOENT);
  if ((flags & RENAME_NOREPLACE) && to != nullptr) return error(EEXIST);
  bool from_is_directory = from->stat.attributes.type == FileType::directory;
  bool to_is_directory = to != nullptr && to->stat.attributes.type == FileType::directory;
  if (from_is_directory && is_below(to_directory, from->stat.ino)) return error(EINVAL);
  if (to_is_directory && is_below(from_directory, to->stat.ino)) {
    return error(exchange ? EINVAL : ENOTEMPTY);
  }
  if (from == to) return {};
  if (to != nullptr && !exchange) {
    if (from_is_directory && !to_is_directory) return error(ENOTDIR);
    if (!from_is_directory && to_is_directory) return error(EISDIR);
    if (!to->children.empty()) return error(ENOTEMPTY);
  }
  if (to_parent->stat.attributes.nlink == 0) return error(ENOENT);

  from_parent->children.erase(std::string(from_name));
  to_parent->children[std::string(to_name)] = from->stat.ino;
  from->stat.ctime = clock_();
  if (from_is_directory) {
    from->parent = to_directory;
    --from_parent->stat.attributes.nlink;
    ++to_parent->stat.attributes.nlink;
  }
  if (to_is_directory) --to_parent->stat.attributes.nlink;
  if (exchange) {
    from_parent->children[std::string(from_name)] = to->stat.ino;
    to->stat.ctime = clock_();
    if (to_is_directory) {
      to->parent = from_directory;
      ++from_parent->stat.attributes.nlink;
    }
  } else if (to != nullptr) {
    drop(*to);
  }
  if (flags & RENAME_WHITEOUT) {
    NewNode device;
    device.type = FileType::char_device;
    Ino made = 0;
    TRY(add(*from_parent, device, {}, made));
    nodes_.at(made).references = 0;
    from_parent->children[std::string(from_name)] = made;
  }
  changed(*from_parent);
  changed(*to_parent);
  return {};
}

Result<Ino> ModelFs::parent(Ino ino) { return TRY(node(ino))->parent; }
Result<Stat> ModelFs::stat(Ino ino) { return TRY(node(ino))->stat; }

Result<std::string> ModelFs::readlink(Ino ino) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type != FileType::symlink) return error(EINVAL);
  return found->target;
}

void ModelFs::kill_privileges(Node& node, bool suid_sgid) {
  if (node.stat.attributes.type == FileType::directory) return;
  uint16_t& mode = node.stat.attributes.mode;
  if (suid_sgid) mode &= mode & 010 ? ~06000 : ~04000;
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
    if (attributes.type == FileType::directory) return error(EISDIR);
    if (attributes.type != FileType::regular) return error(EINVAL);
    found->content.resize(*changes.size_bytes);
    resized(*found);
    kill_privileges(*found, changes.clear_suid_sgid);
  }
  if (changes.uid) attributes.uid = *changes.uid;
  if (changes.gid) attributes.gid = *changes.gid;
  if (changes.uid || changes.gid) kill_privileges(*found, true);
  if (changes.mode) attributes.mode = *changes.mode;
  if (changes.atime) found->stat.atime = *changes.atime;
  if (changes.mtime) attributes.mtime = *changes.mtime;
  found->stat.ctime = clock_();
  return found->stat;
}

Result<std::string> ModelFs::get_xattr(Ino ino, const std::string& name) {
  Node* found = TRY(node(ino));
  auto it = found->xattrs.find(name);
  if (it == found->xattrs.end()) return error(ENODATA);
  return it->second;
}

Result<std::vector<std::string>> ModelFs::list_xattrs(Ino ino) {
  std::vector<std::string> names;
  for (auto& [name, value] : TRY(node(ino))->xattrs) names.push_back(name);
  return names;
}

Status ModelFs::set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                          bool /*clear_sgid*/) {
  Node* found = TRY(node(ino));
  bool exists = found->xattrs.count(name) != 0;
  if ((flags & XATTR_CREATE) && exists) return error(EEXIST);
  if ((flags & XATTR_REPLACE) && !exists) return error(ENODATA);
  found->xattrs[name] = value;
  found->stat.ctime = clock_();
  return {};
}

Status ModelFs::remove_xattr(Ino ino, const std::string& name) {
  Node* found = TRY(node(ino));
  if (found->xattrs.erase(name) == 0) return error(ENODATA);
  found->stat.ctime = clock_();
  return {};
}

Result<size_t> ModelFs::read(Ino ino, uint64_t offset, std::span<char> out) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type == FileType::directory) return error(EISDIR);
  if (found->stat.attributes.type != FileType::regular) return error(EINVAL);
  if (offset >= found->content.size()) return size_t{0};
  size_t length = std::min<size_t>(out.size(), found->content.size() - offset);
  std::memcpy(out.data(), found->content.data() + offset, length);
  return length;
}

Result<size_t> ModelFs::write(Ino ino, uint64_t offset, std::string_view bytes, bool kill_priv,
                              Times times) {
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type == FileType::directory) return error(EISDIR);
  if (found->stat.attributes.type != FileType::regular) return error(EINVAL);
  if (bytes.empty()) return size_t{0};
  size_t end = offset + bytes.size();
  if (end > found->content.size()) found->content.resize(end);
  found->content.replace(offset, bytes.size(), bytes);
  found->stat.attributes.size_bytes = found->content.size();
  if (times == Times::now) changed(*found);
  kill_privileges(*found, kill_priv);
  return bytes.size();
}

Status ModelFs::allocate(Ino ino, int mode, uint64_t offset, uint64_t length, bool kill_priv) {
  bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
  int what = mode & ~FALLOC_FL_KEEP_SIZE;
  if (length == 0) return error(EINVAL);
  bool known = what == 0 || what == FALLOC_FL_ZERO_RANGE;
  if (!known && !(what == FALLOC_FL_PUNCH_HOLE && keep_size)) return error(EOPNOTSUPP);
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type != FileType::regular) return error(ENODEV);
  std::string& content = found->content;
  if (what != 0 && offset < content.size()) {
    size_t inside = std::min<size_t>(length, content.size() - offset);
    content.replace(offset, inside, inside, '\0');
  }
  if (!keep_size && offset + length > content.size()) content.resize(offset + length);
  resized(*found);
  kill_privileges(*found, kill_priv);
  return {};
}

Result<uint64_t> ModelFs::seek(Ino ino, uint64_t offset, int whence) {
  Node* found = TRY(node(ino));
  if (offset >= found->content.size()) return error(ENXIO);
  return whence == SEEK_DATA ? offset : found->content.size();
}

Result<size_t> ModelFs::copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                   uint64_t length, bool kill_priv) {
  std::string bytes(length, '\0');
  bytes.resize(TRY(read(from, from_offset, bytes)));
  if (bytes.empty()) return size_t{0};
  return write(to, to_offset, bytes, kill_priv, Times::now);
}

Status ModelFs::list(Ino ino, uint64_t cookie, const DirectoryVisitor& visit) {
  uint64_t rank = 0;
  auto found = TRY(node(ino))->children;
  for (const auto& [name, target] : found) {
    if (rank++ < cookie) continue;
    if (!visit({name, target, nodes_.at(target).stat.attributes.type, rank})) break;
  }
  return {};
}

Status ModelFs::list_plus(Ino ino, uint64_t cookie, const DirectoryVisitorPlus& visit) {
  return list(ino, cookie, [&](const DirectoryEntry& entry) {
    Node& found = nodes_.at(entry.ino);
    bool taken = visit(entry, found.stat);
    if (taken) ++found.references;
    return taken;
  });
}

Result<struct statvfs> ModelFs::statfs() { return error(ENOSYS); }

}  // namespace layerfs
