// SPDX-License-Identifier: Apache-2.0
#include "fuse/overlay_nodes.h"

namespace layerfs {

void NodeTable::remember(Ino ino, uint64_t count, uint8_t facts) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  Node& node = s.nodes[ino];
  node.references += count;
  node.facts |= facts;
}

NodeTable::Forgotten NodeTable::forget(Ino ino, uint64_t count) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  if (it == s.nodes.end()) return Forgotten::no;
  if (it->second.references > count) {
    it->second.references -= count;
    return Forgotten::no;
  }
  bool orphan = it->second.orphan;
  s.nodes.erase(it);
  if (orphan) --orphan_count_;
  return orphan ? Forgotten::orphan : Forgotten::yes;
}

bool NodeTable::mark_orphan(Ino ino, bool linkable) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  if (it == s.nodes.end()) return false;
  if (!it->second.orphan) ++orphan_count_;
  it->second.orphan = true;
  it->second.linkable = linkable;
  return true;
}

void NodeTable::clear_orphan(Ino ino) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  if (it == s.nodes.end() || !it->second.orphan) return;
  it->second.orphan = false;
  --orphan_count_;
}

bool NodeTable::orphan(Ino ino) const {
  if (orphan_count_.load(std::memory_order_relaxed) == 0) return false;
  const Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  return it != s.nodes.end() && it->second.orphan;
}

bool NodeTable::linkable(Ino ino) const {
  const Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  return it != s.nodes.end() && it->second.linkable;
}

std::vector<Ino> NodeTable::orphans() const {
  std::vector<Ino> out;
  for (const Shard& s : shards_) {
    std::lock_guard lock(s.mutex);
    for (const auto& [ino, node] : s.nodes) {
      if (node.orphan) out.push_back(ino);
    }
  }
  return out;
}

bool NodeTable::has(Ino ino, NodeFact fact) const {
  const Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  return it != s.nodes.end() && (it->second.facts & fact) != 0;
}

void NodeTable::set(Ino ino, NodeFact fact) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  if (it != s.nodes.end()) it->second.facts |= fact;
}

void NodeTable::clear(Ino ino, NodeFact fact) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(ino);
  if (it != s.nodes.end()) it->second.facts &= static_cast<uint8_t>(~fact);
}

}  // namespace layerfs
