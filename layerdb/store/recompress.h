// SPDX-License-Identifier: Apache-2.0
//
// Recompresses the groups of a store, slower and smaller than import does: a higher zstd level,
// bases chosen among everything earlier, longer runs of groups that lean on each other (which is
// what larger groups would give), more decoding for one read (kOptimizedLimits). A record that
// would not become smaller stays, byte for byte, unless its bases now build on so much that reading
// it would cost more than that.
//
// A group keeps its number and its decoded bytes, so nothing that names it changes, old and new
// records may stand next to each other, and a store is whole at any moment. Groups are taken in
// order, kBatchBytes at a time; a batch becomes a table file that is ingested over the old records
// (one entry of RocksDB's manifest, so readers see all of it or nothing), then the number it
// reached is recorded, then the old records are compacted away. A kill loses the current batch at
// most; the next run begins where the last one was, and finds only newer groups when that had
// ended. Readers keep the table files that they have open. Damaged groups stay as they are.
//
// Thread-safety: the store's one writing thread. Durable on return. Errors: EROFS, ENOSPC, EIO.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "layerdb/base/result.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/similarity.h"
#include "layerdb/store/store.h"

namespace layerfs {

// Measured: 10 to 12 gain a third of a percent more for up to four times the time.
inline constexpr int kOptimizedLevel = 9;
inline constexpr BaseLimits kOptimizedLimits = {
    .max_bases = 4,
    .max_closure_bytes = kOptimizedClosureBytes - kMaxGroupBytes,  // a group may build on it
    .max_run = 8};

struct RecompressResult {
  uint64_t groups = 0;        // recompressed
  uint64_t bytes_before = 0;  // table files of all groups
  uint64_t bytes_after = 0;
};

struct RecompressOptions {
  std::function<void(uint64_t done, uint64_t total, const std::string& what)> progress;
  const std::atomic<bool>* cancelled = nullptr;  // stops after what is under way; ECANCELED
  uint64_t batch_bytes = 256 << 20;              // decoded; other values are for tests
};

Result<RecompressResult> recompress_groups(Store& store, const RecompressOptions& options);

}  // namespace layerfs
