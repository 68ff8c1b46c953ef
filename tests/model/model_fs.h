// SPDX-License-Identifier: Apache-2.0
//
// The filesystem as it should be, simple enough to be right by looking at it: every inode in a map,
// every file a string, no layers, nothing saved. Not thread-safe. Numbers are its own. Copies are
// independent.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "fuse/overlay.h"

namespace layerfs {

inline Error model_error(int code) { return {code, "model"}; }

class ModelFs final : public Overlay {
 public:
  // Whose rules hold: those of the filesystem alone, or also what the kernel decides above it.
  enum class Rules { filesystem, kernel };
  // An empty root directory.
  ModelFs(Rules rules, std::function<Timestamp()> clock);
  void forget_all();  // as a remount does
  void commit();      // what is in no image goes
  void replace_content(Ino ino, const std::string& bytes) { nodes_.at(ino).content = bytes; }

  Result<Stat> lookup(Ino directory, std::string_view name) override;
  void forget(Ino ino, uint64_t count) override;
  void refer(Ino ino) override { ++nodes_.at(ino).references; }
  bool awaits_forgets() const override { return false; }
  void free_removed() override {}
  Result<Stat> make(Ino directory, std::string_view name, const NewNode& node,
                    const Caller& caller) override;
  Result<Stat> make_unnamed(Ino directory, uint32_t mode, bool linkable,
                            const Caller& caller) override;
  Result<Stat> link(Ino ino, Ino directory, std::string_view name) override;
  Status unlink(Ino directory, std::string_view name) override;
  Status rmdir(Ino directory, std::string_view name) override;
  Status rename(Ino from_directory, std::string_view from_name, Ino to_directory,
                std::string_view to_name, uint32_t flags) override;
  Result<Ino> parent(Ino directory) override;
  Result<Stat> stat(Ino ino) override;
  Result<Stat> set_attributes(Ino ino, const SetAttributes& changes, const Caller& caller) override;
  Result<std::string> readlink(Ino ino) override;
  Result<std::string> get_xattr(Ino ino, const std::string& name) override;
  Result<std::vector<std::string>> list_xattrs(Ino ino) override;
  Status set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                   bool clear_sgid) override;
  Status remove_xattr(Ino ino, const std::string& name) override;
  Result<size_t> read(Ino ino, uint64_t offset, std::span<char> out) override;
  Result<size_t> write(Ino ino, uint64_t offset, std::string_view bytes, const WriterOf& writer_of,
                       Times times) override;
  Status allocate(Ino ino, int mode, uint64_t offset, uint64_t length,
                  const WriterOf& writer_of) override;
  Result<uint64_t> seek(Ino ino, uint64_t offset, int whence) override;
  Result<size_t> copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                            uint64_t length, const WriterOf& writer_of) override;
  Status sync(Ino, Sync) override { return {}; }
  Status list(Ino directory, uint64_t cookie, const DirectoryVisitor& visit) override;
  Status list_plus(Ino directory, uint64_t cookie, const DirectoryVisitorPlus& visit) override;
  void note_access(Ino) override {}
  Result<struct statvfs> statfs() override;
  void freeze() override {}
  void thaw() override {}

 private:
  struct Child {
    Ino ino = 0;
    uint64_t serial = 0;  // when the name came: the order of listing, and the cookie
  };
  struct Node {
    Stat stat;
    std::map<std::string, Child, std::less<>> children;
    Ino parent = 0;
    std::string content;
    std::string target;
    std::map<std::string, std::string> xattrs;
    uint64_t references = 0;
    bool linkable = false;
  };
  Result<Node*> node(Ino ino);
  Result<Node*> directory(Ino ino);
  Node* child(Node& directory, std::string_view name);  // null: none
  void put_child(Node& directory, std::string_view name, Ino ino);
  Result<Stat> add(Node& directory, const NewNode& node, const Caller& caller, Ino& ino);
  void changed(Node& directory);
  void drop(Node& node);
  void drop_if_unused(Ino ino);
  Status remove(Ino directory, std::string_view name, bool directory_wanted);
  bool is_below(Ino ino, Ino ancestor);
  void kill_privileges(Node& node, Writer writer);
  void resized(Node& node);
  void inherit(const Node& directory, Node& made, uint32_t umask);
  Status check_xattr(const Node& node, const std::string& name, int missing) const;
  Status set_acl(Node& node, const std::string& name, std::string_view value);

  Rules rules_;
  std::function<Timestamp()> clock_;
  std::map<Ino, Node> nodes_;
  Ino next_ino_ = kRootIno;
  uint64_t next_serial_ = 1;
};

}  // namespace layerfs
