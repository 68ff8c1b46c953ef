// SPDX-License-Identifier: Apache-2.0
//
// A whole directory tree in memory, and the union rule at its most naive: what stored trees,
// merging and lowers are compared with.
#pragma once

#include <map>
#include <random>
#include <string>

#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

struct ModelNode {
  Entry entry;  // tree: not used
  std::map<std::string, ModelNode> children;
};

// An image: the root, and what each hard link id stands for.
struct ModelTree {
  ModelNode root;
  std::map<uint64_t, Entry> links;
};

ModelTree empty_model();
// Puts `diff` on top of `lower`; nlink and the set of links follow from the result.
ModelTree model_union(const ModelTree& lower, const ModelTree& diff);
uint64_t model_content_bytes(const ModelTree& tree);

// Stores a model as a layer (or, having no marks, as a merged tree): root, links, content_bytes.
LayerRecord store_model(ObjectStore& objects, const ModelTree& tree);

// A random diff to put on top of `lower`, with every kind of entry and mark; new hard links, and
// names for hard-linked inodes of `lower`.
ModelTree random_diff(ObjectStore& objects, const ModelTree& lower, std::mt19937_64& random,
                      size_t max_entries);

}  // namespace layerfs
