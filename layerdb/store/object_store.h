// SPDX-License-Identifier: Apache-2.0
//
// Immutable objects (tree pages, file map pages) by number. put() of bytes that are already stored
// yields the old number: found by fingerprint, believed only after comparing bytes. Objects are
// numbered in the order they are written, so a tree built bottom-up is read back sequentially.
//
// Parsed tree pages and file maps are cached (LRU by bytes). Thread-safety: reads from any thread,
// put() from one. Errors: EUCLEAN when an object is missing or does not parse.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"
#include "layerdb/object/file_map.h"
#include "layerdb/object/tree.h"
#include "layerdb/object/types.h"

namespace layerfs {

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  virtual Result<ObjectId> put(std::string_view bytes) = 0;
  virtual Result<std::string> get(ObjectId id) = 0;  // uncached

  virtual Result<std::shared_ptr<const TreePage>> tree_page(ObjectId id) = 0;
  virtual Result<std::shared_ptr<const MapPage>> map_page(ObjectId id) = 0;

  // A number that no hard-link group of this store has had (object/tree.h).
  virtual Result<uint64_t> new_link_id() = 0;
};

}  // namespace layerfs
