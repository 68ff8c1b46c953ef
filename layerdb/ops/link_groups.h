// SPDX-License-Identifier: Apache-2.0
//
// Which records of a layer are names of one inode. An inode is known by the sequence number of the
// entry that brought it, or by its link id when it is the parent chain's. Memory: some 100 bytes a
// hard link. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "layerdb/object/types.h"

namespace layerfs {

class LinkGroups {
 public:
  struct Group {
    uint64_t link_id = 0;
    FileType type = FileType::none;
  };

  // `link` names what record `source` (an entry or a link, earlier than `link`) names.
  void join(uint64_t link, uint64_t source) { inodes_[link] = source; }
  void join_lower(uint64_t link, uint64_t link_id) { inodes_[link] = kLower | link_id; }
  void add_lower(uint64_t link_id, FileType type) { groups_[kLower | link_id] = {link_id, type}; }

  // Follows links to links; call once after the last join.
  void resolve() {
    std::vector<uint64_t> links;
    links.reserve(inodes_.size());
    for (const auto& [link, source] : inodes_) links.push_back(link);
    std::sort(links.begin(), links.end());  // a source comes before its link
    for (uint64_t link : links) {
      uint64_t& inode = inodes_[link];
      if (auto source = inodes_.find(inode); source != inodes_.end()) inode = source->second;
      groups_.try_emplace(inode);
    }
  }

  bool has_links(uint64_t entry) const { return groups_.contains(entry); }
  void set_link_id(uint64_t entry, uint64_t link_id, FileType type) {
    groups_[entry] = {link_id, type};
  }
  // The group of an entry or link; null for an entry without links.
  const Group* find(uint64_t sequence) const {
    auto inode = inodes_.find(sequence);
    auto group = groups_.find(inode == inodes_.end() ? sequence : inode->second);
    return group == groups_.end() ? nullptr : &group->second;
  }

 private:
  static constexpr uint64_t kLower = uint64_t{1} << 63;
  std::unordered_map<uint64_t, uint64_t> inodes_;  // link -> source, then inode
  std::unordered_map<uint64_t, Group> groups_;     // inode -> group
};

}  // namespace layerfs
