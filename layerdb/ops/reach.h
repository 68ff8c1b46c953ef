// SPDX-License-Identifier: Apache-2.0
//
// What records reach: every object, and every extent of stored bytes, below layers and chains. The
// ground truth of gc (what may go) and df (what is shared). Each object is visited once however
// often it is named. Memory: a bit an object and the pages at hand. Errors: EUCLEAN when anything
// on the way is missing or damaged. One thread.
#pragma once

#include <functional>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

class Reach {
 public:
  using ExtentVisitor = std::function<void(const Extent&)>;
  Reach(ObjectStore& objects, ExtentVisitor visit) : objects_(objects), visit_(std::move(visit)) {}

  Status add_layer(const LayerRecord& layer);  // its diff, link table and tar
  Status add_chain(const ChainRecord& chain);  // its merged tree and link table
  bool has(ObjectId id) const { return raw(id) < seen_.size() && seen_[raw(id)]; }

 private:
  Status add_tree(ObjectId page);
  Status add_content(const Content& content);
  Status add_leaf(const TreePage& page, std::vector<ObjectId>& pending);
  void mark(ObjectId id);

  ObjectStore& objects_;
  ExtentVisitor visit_;
  std::vector<bool> seen_;
};

}  // namespace layerfs
