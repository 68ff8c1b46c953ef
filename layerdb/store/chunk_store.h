// SPDX-License-Identifier: Apache-2.0
//
// Chunks and groups. A chunk is the unit of deduplication; a group (chunks in the order they came,
// until they are kGroupFillBytes) is the unit of compression and of reading. A chunk never spans
// groups. put() looks the fingerprint up and compares *bytes* before it shares a chunk: two chunks
// with one fingerprint are stored as two. Groups are compressed (zstd-3) by worker threads, written
// with consecutive numbers to table files of about kTableBytes and ingested; groups not yet
// ingested are readable through this object, so duplicates inside one import are found too.
//
// Everything above this header knows only (group, offset) addresses; that a group may be stored as
// its difference from earlier ones (similarity.h) shows nowhere else.
//
// Thread-safety: read() from any thread; put() and flush() from one writing thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

inline constexpr size_t kMaxGroupBytes = 128 * 1024;  // that a reader must expect
// A writer ends a group that has so much, or when a chunk would bring it above kGroupLimitBytes.
inline constexpr size_t kGroupFillBytes = 48 * 1024;
inline constexpr size_t kGroupLimitBytes = 96 * 1024;
inline constexpr size_t kTableBytes = 64 << 20;
// A table is also finished after so many chunks: until then their fingerprints are in memory, and
// a million tiny files that compress well would not fill one.
inline constexpr size_t kTableChunks = 100'000;

struct ChunkAddress {
  GroupId group = 0;
  uint32_t offset = 0;
};

struct ChunkStoreCounters {
  uint64_t groups_read = 0;  // fetched from RocksDB (cache misses)
  uint64_t compressed_bytes_read = 0;
  uint64_t decoded_bytes = 0;
  uint64_t chunks_put = 0;
  uint64_t chunks_shared = 0;  // found already stored
  uint64_t put_bytes = 0;      // before deduplication
  uint64_t new_bytes = 0;      // after deduplication, before compression
  uint64_t stored_bytes = 0;   // after compression
};

// Whether the rest of a group will be asked for again when its reader has forgotten it.
enum class Reuse { unlikely, likely };
// What a reader knows of what it asks for.
struct ReadHint {
  Reuse reuse = Reuse::unlikely;
  bool goes_on = false;  // with what it has just read: both are one request
};

class ChunkStore {
 public:
  virtual ~ChunkStore() = default;

  // Stores a chunk (1..kMaxChunkBytes bytes) or finds it. Errors: ENOSPC, EIO, EUCLEAN.
  virtual Result<ChunkAddress> put(std::string_view chunk) = 0;
  // All groups so far are ingested and indexed (Store::publish calls it).
  virtual Status flush() = 0;
  // A hint that flush() comes soon and little before it: begins with it.
  virtual Status start_flush() { return {}; }

  // The decoded bytes of a group, through the cache; shared and immutable. EUCLEAN when missing
  // or damaged. Concurrent misses of one group decode it once.
  virtual Result<std::shared_ptr<const std::string>> read_group(GroupId group) = 0;
  // Fills `out` from `offset` within the group. EUCLEAN, too, when it ends before.
  virtual Status read(GroupId group, uint64_t offset, std::span<char> out, ReadHint hint);

  // Gives the memory of decoded groups back: nobody reads for a while.
  virtual void drop_cache() {}

  virtual ChunkStoreCounters counters() const = 0;
};

}  // namespace layerfs
