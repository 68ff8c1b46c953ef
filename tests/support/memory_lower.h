// SPDX-License-Identifier: Apache-2.0
//
// A Lower in memory, for tests: fill it with add() calls (parents first), then seal() numbers the
// inodes by preorder as a merged tree does, hard-linked inodes last. Immutable afterwards, hence
// thread-safe.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/view/lower.h"

namespace layerfs {

class MemoryLower final : public Lower {
 public:
  struct Node {
    Attributes attributes;
    std::string content;  // regular files
    std::string symlink_target;
    Xattrs xattrs;
  };

  MemoryLower();
  // Paths are "a/b"; "" is the root, which exists and may be replaced. nlink and size are set here.
  void add(const std::string& path, Node node);
  void add_directory(const std::string& path, uint16_t mode = 0755);
  void add_file(const std::string& path, std::string content, uint16_t mode = 0644);
  void add_symlink(const std::string& path, const std::string& target);
  void add_link(const std::string& path, const std::string& existing);  // a hard link
  void seal();
  uint64_t seeks() const { return seeks_; }  // seek_data and seek_hole so far, of all files

  Ino inode_limit() const override { return inodes_.size(); }
  uint64_t content_bytes() const override { return content_bytes_; }
  Result<LowerNode> lookup(Ino directory, std::string_view name) override;
  Result<LowerNode> get(Ino ino) override;
  Result<Location> locate(Ino ino) override;
  Result<std::vector<Location>> names_of(Ino ino) override;
  Status list(Ino directory, std::string_view after, const Visitor& visit) override;
  Status list_from(Ino directory, uint64_t rank, const Visitor& visit) override;
  Result<std::string> readlink(Ino ino) override;
  Result<Xattrs> xattrs(Ino ino) override;
  Result<std::shared_ptr<const LowerFile>> open(Ino ino) override;
  Result<Content> content(Ino ino) override;
  Result<Entry> entry(Ino ino) override;

 private:
  struct Inode {
    Node node;
    std::map<std::string, std::shared_ptr<Inode>, std::less<>> children;
    std::vector<Location> names;
    Ino ino = 0;
  };
  std::shared_ptr<Inode> find_path(const std::string& path);
  void put(const std::string& path, std::shared_ptr<Inode> inode);
  void number(const std::shared_ptr<Inode>& inode);
  Result<Inode*> inode(Ino ino);
  Result<Inode*> directory(Ino ino);

  std::shared_ptr<Inode> root_;
  std::vector<std::shared_ptr<Inode>> inodes_;  // by number; 0 is empty
  uint64_t content_bytes_ = 0;
  std::atomic<uint64_t> seeks_ = 0;
};

}  // namespace layerfs
