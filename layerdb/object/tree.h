// SPDX-License-Identifier: Apache-2.0
//
// Tree objects: one directory's entries, sorted bytewise by name, immutable, searchable without
// parsing. A small directory is one leaf page; a larger one is a tree of pages: index pages name
// the first entry of each child page. Where a page ends depends on the names (ends_page), so the
// same directory is cut the same way whatever its history, and a change moves only the cuts near
// it.
//
// Numbering. A mounted tree numbers its inodes by preorder: the first entry of a directory with
// inode number d is d+1, the next comes after all of the first one's subtree. A page keeps each
// entry's delta from the page's own base, an index page each child page's delta, so a subtree is
// position-independent and can be shared, an entry's number is known at lookup, and the entry with
// a given number is found by searching down from the root. Whiteouts take a number like others.
//
// Hard links. An entry with link_id != 0 keeps only name, type and link_id (and takes a number as
// any other, which is not used as its inode number); metadata and content are in the image's link
// table, which is a tree object whose entry names are the link ids as 16 hex digits, with nlink
// the number of names in the merged tree. The inode number of link table entry k (0-based) in an
// image whose root page (catalog.h) has inode_count n is n + 1 + k. link ids are unique in the
// store, so tables of different layers never clash.
//
// TreePage is a view: it validates once (every offset inside the page, names sorted and unique,
// names valid, numbers and counts adding up; EUCLEAN otherwise) and then reads in place; only
// extents and xattrs are decoded, and checked, by entry(). Values are immutable: thread-safe. Byte
// layout: layerdb/format.md.
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

inline constexpr size_t kMinPageEntries = 256;
inline constexpr size_t kMaxPageEntries = 1024;
inline constexpr size_t kMaxPageBytes = 256 * 1024;
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxTreeDepth = 2048;  // directories below each other; walks recurse

// 1..kMaxNameBytes bytes, without '/' and NUL, not "." or "..".
bool valid_name(std::string_view name);
// The name of a link table's entry.
std::string link_name(uint64_t link_id);
Result<uint64_t> parse_link_name(std::string_view name);  // EUCLEAN
// Whether a page that now holds `entries` entries in `size_bytes` ends after `last_name`.
bool ends_page(std::string_view last_name, size_t entries, size_t size_bytes);

// Adds what an entry, or a child page, contributes to its directory's counts.
void count_entry(TreeRef& directory, const Entry& entry);
void count_page(TreeRef& directory, const TreeRef& page);

class TreePage {
 public:
  // Takes the object's bytes. EUCLEAN when they are not a valid page.
  static Result<std::shared_ptr<const TreePage>> parse(std::string bytes);

  bool is_index() const { return level() > 0; }
  size_t level() const;          // leaf 0; the children of an index page are one lower
  size_t size() const;           // entries, or children of an index page
  size_t memory_bytes() const;   // for caches
  uint64_t inode_count() const;  // numbers used by everything under this page
  uint64_t entry_count() const;  // entries in all leaf pages under this one

  // The first position whose name is >= `name` (leaf), or the child that may hold it (index).
  size_t lower_bound(std::string_view name) const;
  // The position whose number range holds `delta` (1-based, <= inode_count()).
  size_t find_delta(uint64_t delta) const;

  std::string_view name(size_t i) const;  // index pages: the first name below child i
  uint64_t delta(size_t i) const;         // leaf: the entry's number minus the page's base
                                          // (first is 1); index: numbers before child i
  // Index pages.
  ObjectId child(size_t i) const { return tree(i).page; }
  uint64_t entries_before(size_t i) const;  // entries in children before i (for ranks, cursors)

  TreeRef counts() const;  // of everything under this page; `page` is not filled

  // A directory's tree (leaf) or a child page and its counts (index); zeros for other entries.
  TreeRef tree(size_t i) const;

  // Leaf pages: cheap accessors, and the whole entry. A directory's nlink and size are not stored:
  // they read as 2 + subdirectories and 4096. A linked entry has a type only.
  FileType type(size_t i) const;
  uint64_t link_id(size_t i) const;
  Attributes attributes(size_t i) const;
  std::string_view symlink_target(size_t i) const;
  bool has_xattrs(size_t i) const;
  Result<Entry> entry(size_t i) const;  // everything, decoded

 private:
  explicit TreePage(std::string bytes) : bytes_(std::move(bytes)) {}
  const char* record(size_t i) const;
  std::string_view extra(size_t i) const;  // what follows the name in the heap
  uint8_t flags(size_t i) const;
  Status validate();
  Status validate_leaf_record(size_t i) const;

  std::string bytes_;
};

// Builds one leaf page from sorted entries.
class LeafPageBuilder {
 public:
  void add(const Entry& entry);
  bool empty() const { return counts_.entry_count == 0; }
  bool full() const;                                 // the page ends here (ends_page)
  const TreeRef& counts() const { return counts_; }  // page: none
  const std::string& first_name() const { return first_name_; }
  std::string finish();  // the object's bytes; the builder is empty again

 private:
  std::string records_;
  std::string heap_;
  std::string first_name_;
  std::string last_name_;
  TreeRef counts_;
};

struct IndexChild {
  std::string first_name;
  TreeRef tree;  // the child page, and the counts of everything under it
};
// `level` is one more than the children's (1..255).
std::string encode_index_page(const std::vector<IndexChild>& children, size_t level);

}  // namespace layerfs
