// SPDX-License-Identifier: Apache-2.0
//
// An ObjectStore in memory. Counts what is put and read, so that tests can assert I/O; objects can
// be damaged. Thread-safety: none.
#pragma once

#include <map>
#include <string>
#include <unordered_map>

#include "layerdb/store/object_store.h"

namespace layerfs {

class MemoryObjects : public ObjectStore {
 public:
  Result<ObjectId> put(std::string_view bytes) override;
  Result<std::string> get(ObjectId id) override;
  Result<std::shared_ptr<const TreePage>> tree_page(ObjectId id) override;
  Result<std::shared_ptr<const MapPage>> map_page(ObjectId id) override;
  Result<uint64_t> new_link_id() override { return ++last_link_id_; }

  size_t size() const { return objects_.size(); }
  size_t pages_read() const { return pages_read_; }
  std::map<ObjectId, std::string>& contents() { return objects_; }  // to damage them

 private:
  std::map<ObjectId, std::string> objects_;
  std::unordered_map<std::string, ObjectId> ids_;
  uint64_t last_link_id_ = 0;
  size_t pages_read_ = 0;
};

}  // namespace layerfs
