// SPDX-License-Identifier: Apache-2.0
//
// Writes a stored tree from a sorted preorder stream, page by page, with memory for the open
// directories' current pages only.
//   enter(name…) … add(entry)… add_subtree(entry with a TreeRef that exists already) … leave()
// Names inside one directory must come in strictly ascending bytewise order (EINVAL otherwise: the
// caller's bug).
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
  // Takes over a finished child page of another directory unchanged (merging huge directories).
  Status add_page(const IndexChild& child, uint32_t subdirectories, uint64_t whiteouts);
  Result<TreeRef> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Stores the root page (catalog.h): one entry named "root".
Result<ObjectId> put_root_page(ObjectStore& objects, Entry root);
Result<Entry> read_root_page(ObjectStore& objects, ObjectId root);

}  // namespace layerfs
