// SPDX-License-Identifier: Apache-2.0
//
// The full check of a store: everything that an image or a container needs is there, decodes, adds
// up and is what its digest says. It reads everything: every group is decompressed, every layer's
// tar is hashed, every tree page and record parsed. It writes nothing, takes no lock, and sees the
// store as it was when it was opened.
//
// A finding is damage: something that an image or a container has lost, or a record that is wrong.
// Each names who is affected and, where there is one, the path; damage that several paths or images
// share is reported once for each. What nobody needs (groups and objects of a killed import, index
// entries of deleted groups) is no damage but reclaimable. Uppers of mounted containers are
// changing: they are checked while the caller keeps them still, or skipped. Containers made after
// the store was opened are left out.
//
// Errors: only what keeps the check itself from running (no store, no memory); damage never is.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/ops/container.h"
#include "layerdb/store/store.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/lower.h"

namespace layerfs {

enum class FindingKind {
  bad_record,         // a catalog or index record does not parse
  missing_record,     // something names an image, layer, chain or config that is not there
  wrong_config,       // an image's config does not have the image's digest
  missing_group,      // named by a file or a tar, not there
  damaged_group,      // there, but does not decode
  bad_extent,         // a file's bytes lie outside their group, or outside the file
  missing_object,     // a tree or file map page is not there
  damaged_object,     // it is, but does not parse as what it should be
  wrong_count,        // numbers that do not add up (entries, inodes, links, sizes)
  bad_link,           // a name of a hard link group that no link table has
  bad_index,          // a chunk index entry names other bytes
  wrong_copy,         // a copy of a group (group_copies.h) has other bytes
  wrong_tar,          // a layer's tar does not have its diffID (unless that is provisional)
  damaged_container,  // its description or its upper
};
const char* finding_name(FindingKind kind);  // "missing-group"

struct Finding {
  FindingKind kind;
  std::string owner;    // "image debian:12", "layer 0123456789ab", "container web", "store"
  std::string path;     // "/usr/bin/x"; empty: not about a path
  std::string message;  // a sentence
  std::string to_string() const;
};

struct FsckResult {
  std::vector<Finding> findings;
  uint64_t images = 0;  // checked
  uint64_t layers = 0;
  uint64_t containers = 0;
  uint64_t groups = 0;
  uint64_t decoded_bytes = 0;
  uint64_t reclaimable_groups = 0;
  uint64_t reclaimable_bytes = 0;
  uint64_t reclaimable_objects = 0;
  uint64_t stale_index_entries = 0;
  std::vector<std::string> skipped_containers;  // mounted, and not kept still
  // What could not be looked at, and why: "container web: open '…': Permission denied".
  std::vector<std::string> unchecked;
};

using FsckProgress = std::function<void(uint64_t done, uint64_t total, const std::string& what)>;
// Opens a mounted container's lower and upper while its daemon holds changes back, and runs `check`
// on them. It fails when that could not be done all the while.
using WhileQuiet = std::function<Status(const Container&,
                                        const std::function<Status(Lower&, Upper&)>& check)>;
Result<FsckResult> check_store(Store& store, const FsckProgress& progress = {},
                               const WhileQuiet& while_quiet = {});

}  // namespace layerfs
