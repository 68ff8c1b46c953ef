// SPDX-License-Identifier: Apache-2.0
//
// The second half of LayerWriter: turns its sorted records into the layer's diff tree, in one pass
// with memory for the open directories only. Applies tar's rule that the last entry of a path wins,
// and what that means for the children of a replaced directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/ops/link_groups.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

class LayerTreeWriter {
 public:
  LayerTreeWriter(ObjectStore& objects, const LinkGroups& groups);
  ~LayerTreeWriter();

  // Records in key order (layer_records.h). EINVAL: an entry below what is no directory.
  Status add(std::string_view key, std::string_view value);
  // The root's entry with its finished tree. The writer is spent afterwards.
  Result<Entry> finish();

 private:
  // A path whose subtree is being written.
  struct Frame {
    std::string path;
    Entry entry;
    std::optional<DirectoryBuilder> children;
    // Records below that are older than this belonged to something since replaced …
    uint64_t replaced_at = 0;
    // … and those between that and this came while the path was not a directory.
    uint64_t directory_since = 0;
  };
  // The records of one path, as far as they came.
  struct Pending {
    std::string key;  // of the first record; empty: none
    std::string path;
    uint64_t other_sequence = 0;      // the last entry that is no directory
    std::string other;                // its record
    uint64_t directory_sequence = 0;  // the first directory after that one
    std::string directory;            // the last directory's record
    bool opaque = false;
    bool whiteout = false;
    uint64_t link_sequence = 0;  // of a lower_name
  };

  Status accept(std::string_view key, std::string_view value);
  Status flush_pending();
  Result<Entry> final_entry() const;
  Status open_parents(const std::string& path);
  Status close_until(const std::string& path);
  Status close_top();
  void push(std::string path, Entry entry);

  ObjectStore& objects_;
  const LinkGroups& groups_;
  std::vector<Frame> frames_;
  Pending pending_;
};

}  // namespace layerfs
