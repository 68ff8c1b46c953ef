// SPDX-License-Identifier: Apache-2.0
//
// Writes one directory's tree pages from its entries in strictly ascending bytewise order (EINVAL
// otherwise, or for an invalid name: the caller's bug), with memory for one leaf page and the list
// of finished pages. Subdirectories are built first: their entries carry a finished TreeRef. All
// counts in a TreeRef are computed here.
#pragma once

#include <memory>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/tree.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

// One directory's entries (or a link table's): collects them into leaf pages and index pages above.
class DirectoryBuilder {
 public:
  explicit DirectoryBuilder(ObjectStore& objects);
  ~DirectoryBuilder();
  DirectoryBuilder(DirectoryBuilder&&) noexcept;
  DirectoryBuilder& operator=(DirectoryBuilder&&) noexcept;
  // A subdirectory's entry carries its finished TreeRef.
  Status add(const Entry& entry);
  // Takes over a finished leaf page of another directory unchanged (merging huge directories).
  // Only between pages: at_page_start().
  Status add_page(const IndexChild& child);
  bool at_page_start() const;
  Result<TreeRef> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Stores the root page (catalog.h): one entry named "root".
Result<ObjectId> put_root_page(ObjectStore& objects, Entry root);
Result<Entry> read_root_page(ObjectStore& objects, ObjectId root);

}  // namespace layerfs
