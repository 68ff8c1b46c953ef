// SPDX-License-Identifier: Apache-2.0
//
// The union rule, once: a merged tree and a layer's diff on top of it make a new merged tree.
// Subtrees that the layer does not mention are taken over by reference; the cost is the size of
// the changed directories, not of the image. Rules (OCI image-spec layer.md, overlayfs):
//   whiteout           the lower name is gone; does not show; hides nothing of its own layer
//   opaque directory   nothing of the lower directory shows
//   directory on directory   merge entries; the layer's metadata and xattrs, unless `implicit`
//   anything else      replaces the lower name, subtree and all
//   hard links         the link table keeps each inode with the number of its names that are left;
//                      one with a single name left stays in the table (its number must not depend
//                      on its siblings); none left: dropped
#pragma once

#include <optional>

#include "layerdb/base/result.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/object_store.h"
#include "layerdb/store/store.h"

namespace layerfs {

// Fills everything of the chain record. No parent: the diff alone, without its whiteouts. An inode
// of the merged link table takes its metadata and content from the layer's table, or else from the
// parent's. Errors: EINVAL directories nested too deep, EUCLEAN damage or an inode in no table.
Result<ChainRecord> merge_layer(ObjectStore& objects, const std::optional<ChainRecord>& parent,
                                const LayerRecord& layer);
inline Result<ChainRecord> merge_layer(Store& store, const std::optional<ChainRecord>& parent,
                                       const LayerRecord& layer) {
  return merge_layer(store.objects(), parent, layer);
}

}  // namespace layerfs
