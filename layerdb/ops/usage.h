// SPDX-License-Identifier: Apache-2.0
//
// What images take and share (`layerfs df`), counted exactly: the bytes of the groups that an
// image's layers and trees name, overlaps once. A byte is unique when one image alone names it.
// Compressed bytes are apportioned: a group's record counts for each image by the part of it that
// is named. Cost: a walk of every image's trees; memory: 24 bytes an extent. EUCLEAN on damage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/store.h"

namespace layerfs {

struct ImageUsage {
  Digest id;
  std::vector<std::string> references;  // sorted
  uint64_t logical_bytes = 0;           // what its layers' files add up to
  uint64_t shared_bytes = 0;            // after deduplication, also named by other images
  uint64_t unique_bytes = 0;            // after deduplication, of this image alone
  uint64_t stored_bytes = 0;            // shared and unique, compressed
  uint64_t unique_stored_bytes = 0;     // unique alone, compressed: what removing it can give back
};

struct Usage {
  std::vector<ImageUsage> images;   // newest first
  uint64_t logical_bytes = 0;       // sum over images
  uint64_t data_bytes = 0;          // after deduplication, named by any image
  uint64_t shared_bytes = 0;        // of these, by several
  uint64_t stored_bytes = 0;        // data_bytes compressed
  uint64_t metadata_bytes = 0;      // on disk: trees, indexes, catalog
  uint64_t unreferenced_bytes = 0;  // group records, or parts of them, that no image names
  uint64_t hint_bytes = 0;          // on disk: what mounts keep to read sooner
  uint64_t disk_bytes = 0;          // all table files, and these
};

Result<Usage> measure_usage(Store& store);

}  // namespace layerfs
