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
#include "layerdb/store/store.h"

namespace layerfs {

// Fills everything of the chain record. No parent: the diff alone, without its whiteouts.
Result<ChainRecord> merge_layer(Store& store, const std::optional<ChainRecord>& parent,
                                const LayerRecord& layer);

}  // namespace layerfs
