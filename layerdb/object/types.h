// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of the stored filesystem: what a tree entry says about one name.
// Plain values, no I/O.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace layerfs {

// Number of an immutable object (tree page, file map page) in the store. 0 is "none". Numbers are
// given in the order objects are written and never reused while anything can still name them.
enum class ObjectId : uint64_t { none = 0 };
inline uint64_t raw(ObjectId id) { return static_cast<uint64_t>(id); }

// Number of a group (a compressed run of chunks), consecutive in import order, from 1.
using GroupId = uint64_t;

// Inode number inside one mount; also the FUSE node id. The root is 1.
using Ino = uint64_t;
inline constexpr Ino kRootIno = 1;

enum class FileType : uint8_t {
  none = 0,
  regular = 1,
  directory = 2,
  symlink = 3,
  char_device = 4,
  block_device = 5,
  fifo = 6,
  socket = 7,
  whiteout = 8,  // only in layer trees (diffs): the lower name is deleted
};

struct Timestamp {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
  auto operator<=>(const Timestamp&) const = default;
};

// File metadata as images keep it. `mode` holds the permission bits only (07777).
struct Attributes {
  FileType type = FileType::none;
  uint16_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 1;          // directories: 2 + number of subdirectories
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  uint64_t size_bytes = 0;     // symlink: length of the target; directory: 4096
  Timestamp mtime;
  bool operator==(const Attributes&) const = default;
};

// (name, value), sorted by name, names unique and with their namespace ("user.x").
using Xattrs = std::vector<std::pair<std::string, std::string>>;

// `length` bytes of a file, starting at `file_offset`, lie in the decoded group `group` from
// `group_offset` on. Extents of a file are sorted and do not overlap; a gap is a hole.
struct Extent {
  uint64_t file_offset = 0;
  GroupId group = 0;
  uint32_t group_offset = 0;
  uint32_t length = 0;
  bool operator==(const Extent&) const = default;
};

// Where a regular file's bytes are: up to kMaxInlineExtents extents in the entry itself, more in a
// file map object (object/file_map.h). Empty and wholly sparse files have neither.
inline constexpr size_t kMaxInlineExtents = 4;
struct Content {
  std::vector<Extent> extents;
  ObjectId map = ObjectId::none;
  bool operator==(const Content&) const = default;
};

// A directory's tree object and what the parent must know of it.
// `inode_count` is the number of inode numbers the subtree below it uses, the directory itself not
// counted (object/tree.h, numbering).
struct TreeRef {
  ObjectId page = ObjectId::none;  // root page; none: an empty directory
  uint64_t inode_count = 0;
  uint32_t entry_count = 0;
  uint32_t subdirectory_count = 0;
  // Of the whole subtree, so that merging need not walk what cannot concern it:
  uint64_t whiteout_count = 0;     // whiteouts, opaque and implicit directories: only diffs have them
  uint64_t linked_count = 0;       // entries with a link_id
  uint64_t content_bytes = 0;      // regular file sizes (modulo 2^64), entries with a link_id excepted
  bool operator==(const TreeRef&) const = default;
};

// One name of a directory.
struct Entry {
  std::string name;
  Attributes attributes;
  std::string symlink_target;
  Xattrs xattrs;
  Content content;        // regular files
  TreeRef tree;           // directories
  uint64_t link_id = 0;   // not 0: one of several names of an inode, see tree.h, hard links
  bool opaque = false;    // layer trees: a directory that hides the lower one's entries
  bool implicit = false;  // layer trees: a parent directory that the layer did not describe; over
                          // a lower directory, that one's metadata stays
  bool operator==(const Entry&) const = default;
};

}  // namespace layerfs
