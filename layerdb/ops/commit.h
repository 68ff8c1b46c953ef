// SPDX-License-Identifier: Apache-2.0
//
// Commit: a container's changes become a layer and an image on top of the container's own.
// Unchanged ranges of changed files and renamed lower files are shared by address, not read and
// chunked again. They are read for the layer's SHA-256 where they are few (hash_at_once_bytes);
// where not, the layer's diffID is provisional (store/catalog.h): commit costs what changed. The
// layer's tar is the canonical one (ops/canonical_tar.h). The caller has made the upper quiet
// (fuse/control.h).
#pragma once

#include <string>

#include "layerdb/base/result.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/export.h"
#include "layerdb/ops/import.h"
#include "layerdb/store/store.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/lower.h"

namespace layerfs {

// Some 0.2 s of reading.
constexpr uint64_t kHashAtOnceBytes = 64 << 20;

struct CommitOptions {
  std::string message;
  std::string author;
  Progress progress;
  uint64_t hash_at_once_bytes = kHashAtOnceBytes;  // less than all of it: for tests
};

// Builds the new layer, its merged tree and the image config; nothing is visible until `batch` is
// published (commit), or it is exported and discarded (export of a container).
struct CommitResult {
  ImageRecord image;
  ImageSource source;   // ops/export.h
  CatalogBatch batch;   // layer, chain, image (not the reference)
};
Result<CommitResult> build_commit(Store& store, const Container& container, Lower& lower,
                                  Upper& upper, const CommitOptions& options);

}  // namespace layerfs
