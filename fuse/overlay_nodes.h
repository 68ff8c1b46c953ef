// SPDX-License-Identifier: Apache-2.0
//
// What Overlay keeps in memory for each inode the kernel references: the number of references,
// whether its last name is gone (orphan), and facts that are costly to find out again. Facts are
// hints: an inode without an entry simply has none.
// Thread-safe; takes no other lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "layerdb/object/types.h"

namespace layerfs {

// Set: known to be so. Cleared: unknown.
enum NodeFact : uint8_t {
  kTailClean = 1,     // the body file holds nothing beyond the file's size
  kNoCapability = 2,  // has no security.capability
  kNoAccessAcl = 4,
  kNoDefaultAcl = 8,
};

class NodeTable {
 public:
  // `facts` (NodeFact, or-ed): what is known of an inode just made.
  void remember(Ino ino, uint64_t count = 1, uint8_t facts = 0);
  // Whether these were the last references; of an orphan: the caller reaps it.
  enum class Forgotten { no, yes, orphan };
  Forgotten forget(Ino ino, uint64_t count);

  // False when the kernel has no reference: the caller reaps it now.
  bool mark_orphan(Ino ino, bool linkable);
  void clear_orphan(Ino ino);  // it got a name again (O_TMPFILE, link)
  bool orphan(Ino ino) const;
  bool linkable(Ino ino) const;
  std::vector<Ino> orphans() const;
  bool any_orphan() const { return orphan_count_ != 0; }

  bool has(Ino ino, NodeFact fact) const;
  void set(Ino ino, NodeFact fact);
  void clear(Ino ino, NodeFact fact);

 private:
  struct Node {
    uint64_t references = 0;
    bool orphan = false;
    bool linkable = false;
    uint8_t facts = 0;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Ino, Node> nodes;
  };
  static constexpr size_t kShards = 64;
  Shard& shard(Ino ino) { return shards_[ino % kShards]; }
  const Shard& shard(Ino ino) const { return shards_[ino % kShards]; }

  std::array<Shard, kShards> shards_;
  std::atomic<uint64_t> orphan_count_{0};  // so that orphan() is free when there is none
};

}  // namespace layerfs
