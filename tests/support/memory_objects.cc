// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_objects.h"

#include <fmt/format.h>

namespace layerfs {

Result<ObjectId> MemoryObjects::put(std::string_view bytes) {
  auto [it, added] = ids_.try_emplace(std::string(bytes), ObjectId{objects_.size() + 1});
  if (added) objects_.emplace(it->second, bytes);
  return it->second;
}

Result<std::string> MemoryObjects::get(ObjectId id) {
  auto it = objects_.find(id);
  if (it == objects_.end()) return Error{EUCLEAN, fmt::format("object {} is missing", raw(id))};
  return it->second;
}

Result<std::shared_ptr<const TreePage>> MemoryObjects::tree_page(ObjectId id) {
  ++pages_read_;
  return TreePage::parse(TRY(get(id)));
}

Result<std::shared_ptr<const MapPage>> MemoryObjects::map_page(ObjectId id) {
  MapPage page = TRY(decode_map_page(TRY(get(id))));
  return std::make_shared<const MapPage>(std::move(page));
}

}  // namespace layerfs
