// SPDX-License-Identifier: Apache-2.0
//
// What the parts of fsck share. Private to ops/fsck*.cc.
#pragma once

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "layerdb/ops/fsck.h"
#include "layerdb/store/catalog.h"

namespace layerfs {

class FsckState {
 public:
  explicit FsckState(Store& store) : store(store) {}

  void report(FindingKind kind, const std::string& owner, const std::string& path,
              std::string message);
  // False: the error does not say that something could not be looked at.
  bool leave_unchecked(const std::string& owner, const Error& error);
  // Also remembers which groups and objects are in use.
  void use_group(GroupId group);
  void use_object(ObjectId id);

  struct Group {
    uint32_t raw_bytes = 0;
    uint64_t stored_bytes = 0;
    bool used = false;
    std::string problem;  // empty: it decodes
  };

  Store& store;
  FsckResult result;
  std::unordered_map<GroupId, Group> groups;  // that exist
  std::set<ObjectId> used_objects;
  std::set<ObjectId> clean;  // pages below which everything was found good
};

// Decodes every group and checks the chunk index against them.
Status check_groups(FsckState& state, const FsckProgress& progress);
// Compares copies with their groups. After check_groups().
void check_copies(FsckState& state);

// A tree of one owner: pages, counts, contents, links.
// `links`: the link table; `merged`: no marks of diffs may be left and link counts must agree.
// Returns what the tree's files add up to, for the record that says so.
uint64_t check_tree(FsckState& state, const std::string& owner, ObjectId root, ObjectId links,
                    bool merged);
// Extents and file maps. False: something was reported.
bool check_content(FsckState& state, const std::string& owner, const std::string& path,
                   const Content& content, uint64_t size_bytes);

Status check_containers(FsckState& state, const WhileQuiet& while_quiet);

}  // namespace layerfs
