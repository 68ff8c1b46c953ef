// SPDX-License-Identifier: Apache-2.0
//
// Access times that the upper does not have yet, as ext4's lazytime keeps them: reading is noted
// here, and written with the next change of the inode, when the kernel forgets it, or at unmount.
// An inode that only the lower has is never written for being read: its access time is lost when
// the kernel forgets it (reading an image must not fill an upper). Thread-safe; takes no other
// lock.
#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "layerdb/object/types.h"

namespace layerfs {

class AccessTimes {
 public:
  std::optional<Timestamp> find(Ino ino) const;
  void set(Ino ino, Timestamp when);
  void erase(Ino ino);
  std::vector<Ino> all() const;

 private:
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Ino, Timestamp> times;
  };
  static constexpr size_t kShards = 16;
  Shard& shard(Ino ino) { return shards_[ino % kShards]; }
  const Shard& shard(Ino ino) const { return shards_[ino % kShards]; }
  std::array<Shard, kShards> shards_;
};

}  // namespace layerfs
