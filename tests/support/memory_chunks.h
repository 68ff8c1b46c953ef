// SPDX-License-Identifier: Apache-2.0
//
// A ChunkStore in memory: every put() is a group of its own, nothing is shared. Thread-safety:
// none.
#pragma once

#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>

#include "layerdb/store/chunk_store.h"

namespace layerfs {

class MemoryChunks : public ChunkStore {
 public:
  Result<ChunkAddress> put(std::string_view chunk) override {
    GroupId group = groups_.size() + 1;
    groups_[group] = std::make_shared<const std::string>(chunk);
    return ChunkAddress{group, 0};
  }
  Status flush() override { return {}; }
  Result<std::shared_ptr<const std::string>> read_group(GroupId group) override {
    auto it = groups_.find(group);
    if (it == groups_.end()) return Error{EUCLEAN, fmt::format("group {} is missing", group)};
    return it->second;
  }
  ChunkStoreCounters counters() const override { return {}; }

 private:
  std::map<GroupId, std::shared_ptr<const std::string>> groups_;
};

}  // namespace layerfs
