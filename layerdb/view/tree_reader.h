// SPDX-License-Identifier: Apache-2.0
//
// Walks stored trees page by page, so that callers never see paging: search by name, by number,
// by rank, and ordered iteration from any name. ObjectId::none is the empty tree. Memory: a few
// pages, whatever the tree's size. EUCLEAN when a page is damaged or names one that was not written
// before it (objects are written children first, so cycles are impossible otherwise).
// Thread-safety: TreeReader is stateless (all state is in the object store's cache); a
// TreeIterator belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/tree.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

// A position in a leaf page; keeps the page alive.
struct TreePosition {
  std::shared_ptr<const TreePage> page;
  size_t index = 0;
  uint64_t delta = 0;  // the entry's number relative to the directory
};

// ENOENT when `dir` has no such name.
Result<TreePosition> find_name(ObjectStore& objects, ObjectId dir, std::string_view name);
// The entry of `dir` whose own number or subtree holds `delta` (1-based); ENOENT out of range.
Result<TreePosition> find_delta(ObjectStore& objects, ObjectId dir, uint64_t delta);
// The k-th entry (0-based) of a tree, and a name's position among its entries (link tables).
Result<TreePosition> find_rank(ObjectStore& objects, ObjectId tree, uint64_t rank);
Result<uint64_t> rank_of(ObjectStore& objects, ObjectId tree, std::string_view name);

// The leaf pages of a directory, in order, each with its first name.
Result<std::vector<IndexChild>> leaf_pages(ObjectStore& objects, const TreeRef& dir);

// for (auto it = TRY(TreeIterator::after(...)); it.valid(); TRY(it.next())) …
class TreeIterator {
 public:
  // The first entry whose name is > `after` (or the first of all when `after` is empty).
  static Result<TreeIterator> after(ObjectStore& objects, ObjectId dir,
                                    std::string_view after = {});
  // From the first entry on; EUCLEAN unless the tree has the counts that `dir` gives it, so that a
  // walk that recurses with this ends even on a damaged store.
  static Result<TreeIterator> all(ObjectStore& objects, const TreeRef& dir);
  // The k-th entry (0-based); not valid past the last.
  static Result<TreeIterator> from_rank(ObjectStore& objects, ObjectId dir, uint64_t rank);
  // The first entry whose name is >= `name`.
  static Result<TreeIterator> from(ObjectStore& objects, ObjectId dir, std::string_view name);
  bool valid() const;
  Status next();
  const TreePage& page() const;  // the leaf page and position of the current entry
  size_t index() const;
  uint64_t delta() const;  // relative to the directory
  std::string_view name() const { return page().name(index()); }
  Result<Entry> entry() const { return page().entry(index()); }

 private:
  struct Level {
    std::shared_ptr<const TreePage> page;
    ObjectId id = ObjectId::none;
    size_t index = 0;
    uint64_t base = 0;  // numbers before this page
  };
  explicit TreeIterator(ObjectStore& objects) : objects_(&objects) {}
  // Adds levels down to a leaf; choose(page) gives the position on each.
  template <typename Choose>
  Status descend(ObjectId page, uint64_t base, Choose choose);
  ObjectStore* objects_;
  std::vector<Level> levels_;
};

}  // namespace layerfs
