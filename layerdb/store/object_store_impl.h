// SPDX-License-Identifier: Apache-2.0
//
// The object store over the database's families objects and object_index. Private to layerdb/store
// and its tests.
#pragma once

#include <atomic>
#include <memory>

#include "layerdb/base/hash.h"
#include "layerdb/store/database.h"
#include "layerdb/store/lru_cache.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

using FingerprintFunction = Fingerprint (*)(std::string_view);

class StoredObjects : public ObjectStore {
 public:
  // `hash` is another function only in tests of collisions.
  StoredObjects(Database& database, size_t cache_bytes, FingerprintFunction hash = &fingerprint);

  Result<ObjectId> put(std::string_view bytes) override;
  Result<std::string> get(ObjectId id) override;
  Result<std::shared_ptr<const TreePage>> tree_page(ObjectId id) override;
  Result<std::shared_ptr<const MapPage>> map_page(ObjectId id) override;
  Result<uint64_t> new_link_id() override;

  // The next numbers to give; publish() stores them, opening and discard() set them.
  void set_next(uint64_t object, uint64_t link);
  uint64_t next_object() const { return next_object_; }
  uint64_t next_link() const { return next_link_; }
  void clear_caches();

 private:
  Result<ObjectId> find(std::string_view ids, std::string_view bytes);

  Database& database_;
  FingerprintFunction hash_;
  LruCache<TreePage> tree_pages_;
  LruCache<MapPage> map_pages_;
  uint64_t next_object_ = 1;
  std::atomic<uint64_t> next_link_{1};
};

}  // namespace layerfs
