// SPDX-License-Identifier: Apache-2.0
//
// A layer's (or chain's) whole tree as a map from path to entry; link table entries are looked up.
#pragma once

#include <map>
#include <string>

#include "layerdb/object/tree.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/content.h"
#include "layerdb/store/store.h"
#include "layerdb/view/tree_reader.h"
#include "tests/support/result_matchers.h"

namespace layerfs::test_support {

using Listing = std::map<std::string, Entry>;

inline void list_tree(Store& store, ObjectId links, const Entry& directory, const std::string& path,
                      Listing& out) {
  if (directory.tree.page == ObjectId::none) return;
  auto it = value_of(TreeIterator::after(store.objects(), directory.tree.page), "iterate");
  while (it.valid()) {
    Entry entry = value_of(it.entry(), "entry");
    std::string below = path.empty() ? entry.name : path + "/" + entry.name;
    if (entry.link_id != 0) {
      uint64_t id = entry.link_id;
      TreePosition inode = value_of(find_name(store.objects(), links, link_name(id)), "link");
      entry = value_of(inode.page->entry(inode.index), "inode");
      entry.link_id = id;
    }
    out[below] = entry;
    if (entry.attributes.type == FileType::directory) list_tree(store, links, entry, below, out);
    if (Status s = it.next(); !s.ok()) throw std::runtime_error(s.error().message);
  }
}

inline Listing list_tree(Store& store, ObjectId root, ObjectId links) {
  Listing out;
  out[""] = value_of(read_root_page(store.objects(), root), "root");
  list_tree(store, links, out[""], "", out);
  return out;
}

inline std::string read_content(Store& store, const Content& content, uint64_t size_bytes) {
  std::string out(size_bytes, '?');
  ContentReader reader(store.chunks(), store.objects(), content, size_bytes);
  EXPECT_EQ(value_of(reader.read(0, out), "read"), size_bytes);
  return out;
}

}  // namespace layerfs::test_support
