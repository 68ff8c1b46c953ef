// SPDX-License-Identifier: Apache-2.0
//
// Lower: the read-only filesystem below a container's upper, addressed by inode number. One lower
// per mount however many layers the image has: merging happened at import. Implementations:
// StoreLower (a merged tree of the store) and, in tests, MemoryLower; host directories come later
// behind the same interface.
//
// Contract: immutable, so every answer may be cached for ever. Numbers are stable across processes
// for the same image, unique, and 1..inode_limit()-1. Hard-linked names yield one number.
// Directories' nlink is 2 + subdirectories. Thread-safe. Errors: ENOENT no such name or number,
// ENOTDIR, EINVAL (readlink of another type), EUCLEAN damage; never an abort.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

struct LowerNode {
  Ino ino = 0;
  Attributes attributes;
};

// The bytes of one regular file. Thread-safe.
class LowerFile {
 public:
  virtual ~LowerFile() = default;
  virtual uint64_t size_bytes() const = 0;
  virtual Result<size_t> read(uint64_t offset, std::span<char> out) const = 0;
  virtual Result<uint64_t> seek_data(uint64_t offset) const = 0;
  virtual Result<uint64_t> seek_hole(uint64_t offset) const = 0;
};

class Lower {
 public:
  virtual ~Lower() = default;

  virtual Ino inode_limit() const = 0;         // the first number this lower does not use
  virtual uint64_t content_bytes() const = 0;  // for statfs
  virtual Result<LowerNode> lookup(Ino directory, std::string_view name) = 0;
  virtual Result<LowerNode> get(Ino ino) = 0;
  // The parent and name through which `ino` is first reached; not for hard-linked inodes (EMLINK:
  // they have several; names_of finds them) nor the root (EINVAL).
  struct Location {
    Ino parent = 0;
    std::string name;
  };
  virtual Result<Location> locate(Ino ino) = 0;
  // All names of an inode. Cost: O(depth) for ordinary ones, a walk of the directories
  // that have hard links below them for hard links.
  virtual Result<std::vector<Location>> names_of(Ino ino) = 0;

  // Calls `visit` for entries with names > `after` in bytewise order until it returns false.
  using Visitor = std::function<bool(std::string_view name, const LowerNode& node)>;
  virtual Status list(Ino directory, std::string_view after, const Visitor& visit) = 0;
  // The same from the rank-th (0-based) name on: ranks never change, so readdir's cookies use them.
  virtual Status list_from(Ino directory, uint64_t rank, const Visitor& visit) = 0;

  virtual Result<std::string> readlink(Ino ino) = 0;
  virtual Result<Xattrs> xattrs(Ino ino) = 0;
  virtual Result<std::shared_ptr<const LowerFile>> open(Ino ino) = 0;
  // For commit: where the bytes are, so that they are shared and not read. ENOTSUP where the
  // lower is not in a store.
  virtual Result<Content> content(Ino ino) = 0;
  // For commit: everything stored of an inode, a directory's tree included; link_id tells a
  // hard-linked one's group. The name is that of locate(), or empty. ENOTSUP as above.
  virtual Result<Entry> entry(Ino ino) = 0;
};

}  // namespace layerfs
