// SPDX-License-Identifier: Apache-2.0
//
// Collects one layer's entries in any order and builds its diff tree and link table: the part that
// importing a tar and importing a directory share (commit knows its order and builds directly).
// Entries are spilled, sorted by path, to a temporary database under <root>/tmp, so memory does not
// grow with the number of entries.
//
// Tar semantics: a later entry for a path replaces an earlier one (a directory over a directory
// keeps the children; anything else over a directory drops them); a hard link names an earlier
// entry of the same layer, or else a path of the parent chain (looked up in `parent`); missing
// parents become implicit directories. Paths are already normalised by normalise_path.
// Errors (the input's fault, EINVAL): a hard link to nothing or to a directory, an entry below a
// name that is not a directory in the same layer, too long names, xattrs over the limits.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/store.h"

namespace layerfs {

// "./a//b/" -> "a/b"; "" is the root. A leading "/" is dropped as tar does. EINVAL: "..", NUL,
// a component over kMaxNameBytes.
Result<std::string> normalise_path(std::string_view path);

class LayerWriter {
 public:
  static Result<std::unique_ptr<LayerWriter>> create(Store& store,
                                                     std::optional<ChainRecord> parent);
  ~LayerWriter();

  Status add(std::string_view path, Entry entry);  // entry.name is ignored
  Status add_hard_link(std::string_view path, std::string_view target);
  Status add_whiteout(std::string_view path);  // the name that is deleted
  Status add_opaque(std::string_view directory);

  // Writes tree and link table: fills root, links, entry_count, content_bytes and links_below.
  Result<LayerRecord> finish();

 private:
  LayerWriter();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs
