// SPDX-License-Identifier: Apache-2.0
#include "tests/model/model_fs.h"

#include <linux/fs.h>

#include <algorithm>

namespace layerfs {
namespace {

Status new_name(std::string_view name) {
  if (name.size() > 255) return model_error(ENAMETOOLONG);
  if (name.empty()) return model_error(ENOENT);
  if (name == "." || name == "..") return model_error(EEXIST);
  return {};
}

}  // namespace

ModelFs::ModelFs(Rules rules, std::function<Timestamp()> clock)
    : rules_(rules), clock_(std::move(clock)) {
  Node& root = nodes_[next_ino_];
  root.parent = root.stat.ino = next_ino_++;
  root.stat.attributes.type = FileType::directory;
  root.stat.attributes.mode = 0755;
  root.stat.attributes.nlink = 2;
  root.stat.attributes.size_bytes = 4096;
}

void ModelFs::forget_all() {
  std::vector<Ino> inos;
  for (auto& [ino, node] : nodes_) {
    node.references = 0;
    inos.push_back(ino);
  }
  for (Ino ino : inos) drop_if_unused(ino);
}

// An image has no sockets and one time of each inode.
void ModelFs::commit() {
  forget_all();
  for (auto& [ino, node] : nodes_) {
    std::erase_if(node.children, [&](const auto& child) {
      return nodes_.at(child.second.ino).stat.attributes.type == FileType::socket;
    });
    node.stat.atime = node.stat.ctime = node.stat.btime = node.stat.attributes.mtime;
  }
  std::erase_if(nodes_, [](const auto& node) {
    return node.second.stat.attributes.type == FileType::socket;
  });
}

Result<ModelFs::Node*> ModelFs::node(Ino ino) {
  auto it = nodes_.find(ino);
  if (it == nodes_.end()) return model_error(ENOENT);
  return &it->second;
}

Result<ModelFs::Node*> ModelFs::directory(Ino ino) {
  Node* found = TRY(node(ino));
  bool is_directory = found->stat.attributes.type == FileType::directory;
  if (rules_ == Rules::kernel && !is_directory) return model_error(ENOTDIR);
  if (found->stat.attributes.nlink == 0) return model_error(ENOENT);
  if (!is_directory) return model_error(ENOTDIR);
  return found;
}

ModelFs::Node* ModelFs::child(Node& directory, std::string_view name) {
  auto it = directory.children.find(name);
  return it == directory.children.end() ? nullptr : &nodes_.at(it->second.ino);
}

void ModelFs::put_child(Node& directory, std::string_view name, Ino ino) {
  directory.children[std::string(name)] = {ino, next_serial_++};
}

void ModelFs::changed(Node& node) { node.stat.attributes.mtime = node.stat.ctime = clock_(); }

Result<Stat> ModelFs::lookup(Ino ino, std::string_view name) {
  if (name.size() > 255) return model_error(ENAMETOOLONG);
  Node* found = child(*TRY(node(ino)), name);
  if (found == nullptr) return model_error(ENOENT);
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
  attributes.mode = wanted.mode & 07777;
  bool directory_by_kernel = wanted.type == FileType::directory && rules_ == Rules::kernel;
  if (directory_by_kernel) attributes.mode &= 01777;
  inherit(directory, made, caller.umask);
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
  if (child(*parent, name) != nullptr) return model_error(EEXIST);
  Ino made = 0;
  Stat out = TRY(add(*parent, wanted, caller, made));
  put_child(*parent, name, made);
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
  if (child(*parent, name) != nullptr) return model_error(EEXIST);
  Node* found = TRY(node(ino));
  if (found->stat.attributes.type == FileType::directory) return model_error(EPERM);
  if (found->stat.attributes.nlink == 0 && !found->linkable) return model_error(ENOENT);
  found->linkable = false;
  ++found->stat.attributes.nlink;
  ++found->references;
  found->stat.ctime = clock_();
  put_child(*parent, name, ino);
  changed(*parent);
  return found->stat;
}

Status ModelFs::remove(Ino ino, std::string_view name, bool directory_wanted) {
  TRY(new_name(name));
  Node* parent = TRY(node(ino));
  Node* found = child(*parent, name);
  if (found == nullptr) return model_error(ENOENT);
  bool is_directory = found->stat.attributes.type == FileType::directory;
  if (is_directory && !directory_wanted) return model_error(EISDIR);
  if (!is_directory && directory_wanted) return model_error(ENOTDIR);
  if (!found->children.empty()) return model_error(ENOTEMPTY);
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
  if (exchange && flags != RENAME_EXCHANGE) return model_error(EINVAL);
  TRY(new_name(from_name));
  if (rules_ == Rules::kernel && child(*TRY(node(from_directory)), from_name) == nullptr) {
    return model_error(ENOENT);  // it looks the target up afterwards
  }
  TRY(new_name(to_name));
  Node* from_parent = TRY(node(from_directory));
  Node* to_parent = TRY(node(to_directory));
  Node* from = child(*from_parent, from_name);
  if (from == nullptr) return model_error(ENOENT);
  Node* to = child(*to_parent, to_name);
  if (exchange && to == nullptr) return model_error(ENOENT);
  if ((flags & RENAME_NOREPLACE) && to != nullptr) return model_error(EEXIST);
  bool from_is_directory = from->stat.attributes.type == FileType::directory;
  bool to_is_directory = to != nullptr && to->stat.attributes.type == FileType::directory;
  if (from_is_directory && is_below(to_directory, from->stat.ino)) return model_error(EINVAL);
  if (to_is_directory && is_below(from_directory, to->stat.ino)) {
    return model_error(exchange ? EINVAL : ENOTEMPTY);
  }
  if (from == to) return {};
  if (to != nullptr && !exchange) {
    if (from_is_directory && !to_is_directory) return model_error(ENOTDIR);
    if (!from_is_directory && to_is_directory) return model_error(EISDIR);
    if (!to->children.empty()) return model_error(ENOTEMPTY);
  }
  if (to_parent->stat.attributes.nlink == 0) return model_error(ENOENT);

  from_parent->children.erase(std::string(from_name));
  put_child(*to_parent, to_name, from->stat.ino);
  from->stat.ctime = clock_();
  if (from_is_directory) {
    from->parent = to_directory;
    --from_parent->stat.attributes.nlink;
    ++to_parent->stat.attributes.nlink;
  }
  if (to_is_directory) --to_parent->stat.attributes.nlink;
  if (exchange) {
    put_child(*from_parent, from_name, to->stat.ino);
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
    put_child(*from_parent, from_name, made);
  }
  changed(*from_parent);
  changed(*to_parent);
  return {};
}

Result<Ino> ModelFs::parent(Ino ino) { return TRY(node(ino))->parent; }
Result<Stat> ModelFs::stat(Ino ino) { return TRY(node(ino))->stat; }

Status ModelFs::list(Ino ino, uint64_t cookie, const DirectoryVisitor& visit) {
  Node* found = TRY(node(ino));
  if (rules_ == Rules::kernel && found->stat.attributes.nlink == 0) return model_error(ENOENT);
  std::map<uint64_t, std::pair<std::string, Ino>> in_order;
  for (const auto& [name, child] : found->children) in_order[child.serial] = {name, child.ino};
  for (auto it = in_order.upper_bound(cookie); it != in_order.end(); ++it) {
    const auto& [name, target] = it->second;
    if (!visit({name, target, nodes_.at(target).stat.attributes.type, it->first})) break;
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

Result<struct statvfs> ModelFs::statfs() { return model_error(ENOSYS); }

}  // namespace layerfs
