// SPDX-License-Identifier: Apache-2.0
//
// Tree objects: one directory's entries, sorted bytewise by name, immutable, searchable without
// parsing. A directory of up to kMaxPageEntries entries (and kMaxPageBytes) is one leaf page;
// a larger one is a tree of pages: index pages name the first entry of each child page.
//
// Numbering. A mounted tree numbers its inodes by preorder: the first entry of a directory with
// inode number d is d+1, the next comes after all of the first one's subtree. A page keeps each
// entry's delta from the page's own base, an index page each child page's delta, so a subtree is
// position-independent and can be shared, an entry's number is known at lookup, and the entry with
// a given number is found by searching down from the root. Whiteouts take a number like others.
//
// Hard links. An entry with link_id != 0 keeps only name, type and link_id (and takes a number as
// any other, which is not used as its inode number); metadata and content are in the image's link
// table, which is a tree object whose entry names are the big-endian 8 byte link ids, with nlink
// the number of names in the merged tree. The inode number of link table entry k (0-based) in an
// image whose root page (catalog.h) has inode_count n is n + 1 + k. link ids are unique in the
// store, so tables of different layers never clash.
//
// TreePage is a view: it validates once (every offset inside the page, names sorted and unique,
// names non-empty without '/' and NUL, not "." or "..", deltas increasing; EUCLEAN otherwise) and
// then reads in place. Values are immutable: thread-safe. Byte layout: layerdb/format.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

inline constexpr size_t kMaxPageEntries = 1024;
inline constexpr size_t kMaxPageBytes = 256 * 1024;
inline constexpr size_t kMaxNameBytes = 255;

class TreePage {
 public:
  // Takes the object's bytes. EUCLEAN when they are not a valid page.
  static Result<std::shared_ptr<const TreePage>> parse(std::string bytes);

  bool is_index() const;
  size_t size() const;          // entries, or children of an index page
  size_t memory_bytes() const;  // for caches
  uint64_t inode_count() const; // numbers used by everything under this page
  uint64_t entry_count() const; // entries in all leaf pages under this one

  // The first position whose name is >= `name` (leaf), or the child that may hold it (index).
  size_t lower_bound(std::string_view name) const;
  // The position whose number range holds `delta` (1-based, <= inode_count()).
  size_t find_delta(uint64_t delta) const;

  std::string_view name(size_t i) const;   // index pages: the first name below child i
  uint64_t delta(size_t i) const;          // leaf: the entry's number minus the page's base
                                           // (first is 1); index: numbers before child i
  // Index pages.
  ObjectId child(size_t i) const;
  uint64_t entries_before(size_t i) const; // entries in children before i (for ranks, cursors)

  // Leaf pages: cheap accessors, and the whole entry.
  FileType type(size_t i) const;
  uint64_t link_id(size_t i) const;
  Attributes attributes(size_t i) const;
  TreeRef tree(size_t i) const;            // directories
  std::string_view symlink_target(size_t i) const;
  bool has_xattrs(size_t i) const;
  Result<Entry> entry(size_t i) const;     // everything, decoded

 private:
  explicit TreePage(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string bytes_;
};

// Builds one leaf page from sorted entries.
class LeafPageBuilder {
 public:
  // False when the entry does not fit any more (page full): finish, and start another page.
  bool add(const Entry& entry);
  bool empty() const;
  std::string finish();  // the object's bytes; the builder is empty again
 private:
  std::vector<Entry> entries_;
  size_t bytes_ = 0;
};

struct IndexChild {
  std::string first_name;
  ObjectId page = ObjectId::none;
  uint64_t inode_count = 0;
  uint64_t entry_count = 0;
};
std::string encode_index_page(const std::vector<IndexChild>& children);

}  // namespace layerfs
