// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_lower.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace layerfs {
namespace {

class MemoryFile final : public LowerFile {
 public:
  MemoryFile(const std::string& content, std::atomic<uint64_t>& seeks)
      : content_(content), seeks_(seeks) {}
  uint64_t size_bytes() const override { return content_.size(); }
  Result<size_t> read(uint64_t offset, std::span<char> out) const override {
    if (offset >= content_.size()) return size_t{0};
    size_t length = std::min<uint64_t>(out.size(), content_.size() - offset);
    std::memcpy(out.data(), content_.data() + offset, length);
    return length;
  }
  Result<uint64_t> seek_data(uint64_t offset) const override {
    ++seeks_;
    if (offset >= content_.size()) return Error{ENXIO, "past the end"};
    return offset;
  }
  Result<uint64_t> seek_hole(uint64_t offset) const override {
    ++seeks_;
    if (offset >= content_.size()) return Error{ENXIO, "past the end"};
    return content_.size();
  }

 private:
  const std::string& content_;
  std::atomic<uint64_t>& seeks_;
};

}  // namespace

MemoryLower::MemoryLower() : root_(std::make_shared<Inode>()) {
  root_->node.attributes.type = FileType::directory;
  root_->node.attributes.mode = 0755;
  root_->node.attributes.nlink = 2;
  root_->node.attributes.size_bytes = 4096;
}

std::shared_ptr<MemoryLower::Inode> MemoryLower::find_path(const std::string& path) {
  std::shared_ptr<Inode> at = root_;
  for (size_t start = 0; start < path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    at = at->children.at(path.substr(start, end - start));
    start = end + 1;
  }
  return at;
}

void MemoryLower::put(const std::string& path, std::shared_ptr<Inode> inode) {
  size_t slash = path.rfind('/');
  auto parent = find_path(slash == std::string::npos ? "" : path.substr(0, slash));
  if (inode->node.attributes.type == FileType::directory) ++parent->node.attributes.nlink;
  parent->children[slash == std::string::npos ? path : path.substr(slash + 1)] = std::move(inode);
}

void MemoryLower::add(const std::string& path, Node node) {
  Attributes& attributes = node.attributes;
  switch (attributes.type) {
    case FileType::directory:
      attributes.nlink = 2;
      attributes.size_bytes = 4096;
      break;
    case FileType::symlink:
      attributes.size_bytes = node.symlink_target.size();
      break;
    default:
      attributes.size_bytes = node.content.size();
      content_bytes_ += node.content.size();
  }
  std::sort(node.xattrs.begin(), node.xattrs.end());
  if (path.empty()) {
    root_->node = std::move(node);
    return;
  }
  auto inode = std::make_shared<Inode>();
  inode->node = std::move(node);
  put(path, std::move(inode));
}

void MemoryLower::add_directory(const std::string& path, uint16_t mode) {
  Node node;
  node.attributes.type = FileType::directory;
  node.attributes.mode = mode;
  add(path, std::move(node));
}

void MemoryLower::add_file(const std::string& path, std::string content, uint16_t mode) {
  Node node;
  node.attributes.type = FileType::regular;
  node.attributes.mode = mode;
  node.content = std::move(content);
  add(path, std::move(node));
}

void MemoryLower::add_symlink(const std::string& path, const std::string& target) {
  Node node;
  node.attributes.type = FileType::symlink;
  node.attributes.mode = 0777;
  node.symlink_target = target;
  add(path, std::move(node));
}

void MemoryLower::add_link(const std::string& path, const std::string& existing) {
  auto inode = find_path(existing);
  ++inode->node.attributes.nlink;
  put(path, inode);
}

void MemoryLower::number(const std::shared_ptr<Inode>& inode) {
  for (auto& [name, child] : inode->children) {
    bool linked =
        child->node.attributes.type != FileType::directory && child->node.attributes.nlink > 1;
    child->names.push_back({inode->ino, name});
    if (!linked) {
      child->ino = inodes_.size();
      inodes_.push_back(child);
      number(child);
    } else {
      inodes_.emplace_back();  // takes a number that is not used
    }
  }
}

void MemoryLower::seal() {
  inodes_.resize(2);
  root_->ino = kRootIno;
  inodes_[kRootIno] = root_;
  number(root_);
  std::function<void(Inode&)> number_links = [&](Inode& directory) {
    for (auto& [name, child] : directory.children) {
      if (child->ino == 0) {
        child->ino = inodes_.size();
        inodes_.push_back(child);
      }
      number_links(*child);
    }
  };
  number_links(*root_);
}

Result<MemoryLower::Inode*> MemoryLower::inode(Ino ino) {
  if (ino >= inodes_.size() || !inodes_[ino]) return Error{ENOENT, "no such inode"};
  return inodes_[ino].get();
}

Result<MemoryLower::Inode*> MemoryLower::directory(Ino ino) {
  Inode* found = TRY(inode(ino));
  if (found->node.attributes.type != FileType::directory) return Error{ENOTDIR, "not a directory"};
  return found;
}

Result<LowerNode> MemoryLower::lookup(Ino ino, std::string_view name) {
  Inode* found = TRY(directory(ino));
  auto it = found->children.find(name);
  if (it == found->children.end()) return Error{ENOENT, "no such name"};
  return LowerNode{it->second->ino, it->second->node.attributes};
}

Result<LowerNode> MemoryLower::get(Ino ino) {
  return LowerNode{ino, TRY(inode(ino))->node.attributes};
}

Result<Lower::Location> MemoryLower::locate(Ino ino) {
  Inode* found = TRY(inode(ino));
  if (ino == kRootIno) return Error{EINVAL, "the root"};
  if (found->names.size() > 1) return Error{EMLINK, "several names"};
  return found->names.front();
}

Result<std::vector<Lower::Location>> MemoryLower::names_of(Ino ino) {
  return TRY(inode(ino))->names;
}

Status MemoryLower::list(Ino ino, std::string_view after, const Visitor& visit) {
  Inode* found = TRY(directory(ino));
  for (auto it = found->children.upper_bound(after); it != found->children.end(); ++it) {
    if (!visit(it->first, {it->second->ino, it->second->node.attributes})) break;
  }
  return {};
}

Status MemoryLower::list_from(Ino ino, uint64_t rank, const Visitor& visit) {
  Inode* found = TRY(directory(ino));
  uint64_t at = 0;
  for (const auto& [name, child] : found->children) {
    if (at++ < rank) continue;
    if (!visit(name, {child->ino, child->node.attributes})) break;
  }
  return {};
}

Result<std::string> MemoryLower::readlink(Ino ino) {
  Inode* found = TRY(inode(ino));
  if (found->node.attributes.type != FileType::symlink) return Error{EINVAL, "not a symlink"};
  return found->node.symlink_target;
}

Result<Xattrs> MemoryLower::xattrs(Ino ino) { return TRY(inode(ino))->node.xattrs; }

Result<std::shared_ptr<const LowerFile>> MemoryLower::open(Ino ino) {
  Inode* found = TRY(inode(ino));
  if (found->node.attributes.type != FileType::regular) return Error{EINVAL, "not a file"};
  return std::shared_ptr<const LowerFile>(
      std::make_shared<MemoryFile>(found->node.content, seeks_));
}

Result<Content> MemoryLower::content(Ino) { return Error{ENOTSUP, "not in a store"}; }
Result<Entry> MemoryLower::entry(Ino) { return Error{ENOTSUP, "not in a store"}; }

}  // namespace layerfs
