// SPDX-License-Identifier: Apache-2.0
//
// A directory of a mounted filesystem, through system calls, with Overlay's interface: so that
// scripts run on it. An inode is an O_PATH descriptor while it is referenced. Needs root, and
// changes the calling thread's file system ids and capabilities while a call runs. Opens nothing
// but regular files and directories. Not thread-safe.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "fuse/overlay.h"
#include "layerdb/base/sys.h"

namespace layerfs {

class RealFs final : public Overlay {
 public:
  explicit RealFs(std::string directory) : path_(std::move(directory)) {}
  Status open();  // after a mount
  void close() { inodes_.clear(); }

  Result<Stat> lookup(Ino directory, std::string_view name) override;
  void forget(Ino ino, uint64_t count) override;
  void refer(Ino ino) override { ++inodes_.at(ino).references; }
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
  Status sync(Ino ino, Sync what) override;
  Status list(Ino directory, uint64_t cookie, const DirectoryVisitor& visit) override;
  Status list_plus(Ino directory, uint64_t cookie, const DirectoryVisitorPlus& visit) override;
  void note_access(Ino) override {}  // the kernel's matter
  Result<struct statvfs> statfs() override;
  void freeze() override {}
  void thaw() override {}

 private:
  struct Inode {
    UniqueFd fd;
    uint64_t references = 0;
  };
  int fd(Ino ino) const;                  // -1: not referenced
  std::string magic_path(Ino ino) const;  // follows to the inode itself
  Result<UniqueFd> open_file(Ino ino, int flags);
  Result<Stat> remember(UniqueFd fd);

  std::string path_;
  std::map<Ino, Inode> inodes_;
};

}  // namespace layerfs
