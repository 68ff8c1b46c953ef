// SPDX-License-Identifier: Apache-2.0
//
// What a container changed, found from its upper alone: the cost is the number of changes (plus a
// walk of the lower tree when a hard-linked lower inode changed), never the size of the image.
// Serves `layerfs diff` and commit.
//
// The walk descends only into directories that hold a change somewhere below. Renamed or hidden
// parts of the lower are resolved here: a lower directory under a new name is one `added` change
// with everything below it (`whole_lower_subtree` when nothing in it changed).
#pragma once

#include <functional>
#include <string>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/lower.h"

namespace layerfs {

enum class ChangeKind : char { added = 'A', changed = 'C', deleted = 'D' };

struct Change {
  ChangeKind kind = ChangeKind::changed;
  std::string path;                // "a/b"; "" is the root
  Ino ino = 0;                     // 0 when deleted
  FileType type = FileType::none;  // of what is there now
  bool replaces_lower = false;     // added over a lower name of the same path: needs no whiteout
                                   // unless the new one is a directory, which must be opaque
  bool self_changed = false;       // its own metadata or content (a C directory may only contain)
};

// Calls `visit` in preorder, names ascending. Stops with visit's error.
Status walk_changes(Lower& lower, Upper& upper,
                    const std::function<Status(const Change&)>& visit);

}  // namespace layerfs
