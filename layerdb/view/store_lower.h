// SPDX-License-Identifier: Apache-2.0
//
// A merged tree of the store as a Lower (view/lower.h). Holds no per-inode state: a number is
// resolved by searching down from the root (object/tree.h), through the object store's page cache.
#pragma once

#include <memory>

#include "layerdb/store/catalog.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/object_store.h"
#include "layerdb/store/store.h"
#include "layerdb/view/lower.h"

namespace layerfs {

// The stores must outlive the lower.
Result<std::unique_ptr<Lower>> open_store_lower(ObjectStore& objects, ChunkStore& chunks,
                                                const ChainRecord& chain);
inline Result<std::unique_ptr<Lower>> open_store_lower(Store& store, const ChainRecord& chain) {
  return open_store_lower(store.objects(), store.chunks(), chain);
}

}  // namespace layerfs
