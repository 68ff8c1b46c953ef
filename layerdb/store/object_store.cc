// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/object_store.h"

#include <fmt/format.h>

#include "layerdb/base/coding.h"
#include "layerdb/store/fingerprint_key.h"
#include "layerdb/store/object_store_impl.h"

namespace layerfs {
namespace {

Error in_object(const Error& error, ObjectId id) {
  return error.wrap(fmt::format("object {}", raw(id)));
}

}  // namespace

StoredObjects::StoredObjects(Database& database, size_t cache_bytes, FingerprintFunction hash)
    : database_(database),
      hash_(hash),
      tree_pages_(cache_bytes / 4 * 3),
      map_pages_(cache_bytes / 4) {}

void StoredObjects::set_next(uint64_t object, uint64_t link) {
  next_object_ = object;
  next_link_ = link;
}

void StoredObjects::clear_caches() {
  tree_pages_.clear();
  map_pages_.clear();
}

// The id among `ids` (an index record) whose object has exactly these bytes, or none. An id
// without an object is what a crash left: objects and their index reach the disk apart.
Result<ObjectId> StoredObjects::find(std::string_view ids, std::string_view bytes) {
  Reader in(ids);
  while (in.remaining() > 0) {
    ObjectId id{in.varint()};
    if (in.failed()) return Error{EUCLEAN, "a record of object_index is damaged"};
    rocksdb::PinnableSlice stored;
    bool present = TRY(database_.get(Family::objects, be64(raw(id)), stored));
    if (present && std::string_view(stored.data(), stored.size()) == bytes) return id;
  }
  return ObjectId::none;
}

Result<ObjectId> StoredObjects::put(std::string_view bytes) {
  std::string index_key = fingerprint_key(hash_(bytes));
  std::string ids = TRY(database_.get(Family::object_index, index_key)).value_or("");
  if (ObjectId known = TRY(find(ids, bytes)); known != ObjectId::none) return known;

  put_varint(ids, next_object_);
  std::string key = be64(next_object_);
  rocksdb::WriteBatch batch;
  batch.Put(database_.handle(Family::objects), key, {bytes.data(), bytes.size()});
  batch.Put(database_.handle(Family::object_index), index_key, ids);
  TRY(database_.write(batch));
  return ObjectId{next_object_++};
}

Result<std::string> StoredObjects::get(ObjectId id) {
  std::optional<std::string> bytes = TRY(database_.get(Family::objects, be64(raw(id))));
  if (!bytes) return Error{EUCLEAN, fmt::format("object {} is missing from the store", raw(id))};
  return std::move(*bytes);
}

Result<std::shared_ptr<const TreePage>> StoredObjects::tree_page(ObjectId id) {
  return tree_pages_.get(raw(id), [&]() -> Result<LruCache<TreePage>::Loaded> {
    auto page = TreePage::parse(TRY(get(id)));
    if (!page.ok()) return in_object(page.error(), id);
    return LruCache<TreePage>::Loaded{*page, (*page)->memory_bytes()};
  });
}

Result<std::shared_ptr<const MapPage>> StoredObjects::map_page(ObjectId id) {
  return map_pages_.get(raw(id), [&]() -> Result<LruCache<MapPage>::Loaded> {
    Result<MapPage> page = decode_map_page(TRY(get(id)));
    if (!page.ok()) return in_object(page.error(), id);
    size_t bytes = sizeof(MapPage) + page->extents.capacity() * sizeof(Extent) +
                   page->children.capacity() * sizeof(MapChild);
    return LruCache<MapPage>::Loaded{std::make_shared<const MapPage>(std::move(*page)), bytes};
  });
}

Result<uint64_t> StoredObjects::new_link_id() { return next_link_++; }

}  // namespace layerfs
