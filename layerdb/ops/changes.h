// SPDX-License-Identifier: Apache-2.0
//
// What a container changed, found from its upper alone: the cost is the number of changes, of
// directories that hold one, and of what moved with a renamed directory (plus a walk of the lower
// tree per changed inode that has several names there), never the size of the image. Serves
// `layerfs diff` and commit.
//
// Rules. A change is what an image can hold: metadata without atime and ctime, xattrs, content, and
// names. All names of an inode that has several come together: when one of them is a change, its
// other names are visited too, `self_changed` false if nothing but the company is new. A directory
// that only contains changes is visited before them, `self_changed` false. A name that came to be
// over a lower one hides all of it. Below a renamed lower directory everything is `added`.
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
  FileType type = FileType::none;  // of what is there now; deleted: of what was there
  bool self_changed = false;       // not only visited for what it contains or belongs to
  FileType replaced = FileType::none;  // added over a lower name of the same path: its type
  bool lower_tree = false;         // an added directory whose content is all of a lower one's
  bool inside_lower_tree = false;  // comes with the lower_tree above it
};

// Calls `visit` in preorder, names ascending. Stops with visit's error. The upper is quiet and may
// be open read-only.
Status walk_changes(Lower& lower, Upper& upper,
                    const std::function<Status(const Change&)>& visit);

// What an inode of the container is now: everything but name, content and tree.
Result<Entry> current_entry(Lower& lower, Upper& upper, Ino ino);

}  // namespace layerfs
